"""An operation's record however it ends: evidence, rollback and end, before its lease is released."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow

from adapters.host.processes import this_process
from flows.operation.recorder import OperationRecorder, OperationRequest, record_operation
from flows.recovery.escalate import escalate
from models.failures import (
    BadInputError,
    EnvironmentBusyError,
    LeaseLostError,
    StartFailedError,
    StoreUnreachableError,
)
from models.operations import Operation, OperationStatus, OperationType, Runner
from tasks.deployment import lease
from tasks.deployment.lease import LEASE, holder_of
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import Place

pytestmark = pytest.mark.flow

ELSEWHERE = Runner(host="beta", kernel="another", pid=9, process_started=1)
START = OperationType.START


def only() -> Operation:
    [operation] = open_stores().operations.history(environment="test")
    return operation


async def run_operation(body, rollback=None, on_failure=escalate, **how) -> None:
    @flow(name="one-operation")
    async def operation() -> None:
        back = None if rollback is None else lambda error: rollback(recorder, error)
        async with record_operation(
            START, "test", OperationRequest(**how), on_failure=on_failure, rollback=back
        ) as recorder:
            await body(recorder)

    await operation()


class RecordedRollback:
    """Records the state of the operation when its rollback is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, OperationStatus, str | None, int]] = []

    async def __call__(self, recorder: OperationRecorder, error: Exception) -> None:
        store = open_stores()
        status = store.operations.get(recorder.deployment_id).status
        errors = len(store.errors.list_unresolved("test"))
        self.calls.append((type(error).__name__, str(error), status, holder_of("test"), errors))
        recorder.record.undone = "stopped what was started"


async def fail(_recorder: OperationRecorder) -> None:
    raise StartFailedError("redis did not start", advice="look at it", service="redis")


async def test_a_failure_is_rolled_back_while_the_lease_is_held_and_after_evidence_was_taken(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    rolled_back = RecordedRollback()

    with pytest.raises(StartFailedError):
        await run_operation(fail, rollback=rolled_back)

    [(kind, _, status, holder, errors)] = rolled_back.calls
    assert (kind, status, errors) == ("StartFailedError", OperationStatus.RUNNING, 1)
    assert holder is not None
    assert holder_of("test") is None
    operation = only()
    assert operation.status is OperationStatus.FAILED
    assert operation.details["undone"] == "stopped what was started"
    assert operation.details["reason"] == "redis did not start"


async def test_a_rollback_that_fails_is_reported_and_does_not_hide_the_failure(place: Place) -> None:
    place.declare("redis:\n  image: none\n")

    async def roll_back(_recorder: OperationRecorder, _error: Exception) -> None:
        raise OSError("no such network, password=hunter2hunter2")

    with pytest.raises(StartFailedError):
        await run_operation(fail, rollback=roll_back)

    operation = only()
    assert operation.details["reason"] == "redis did not start"
    assert operation.details["undo_failed"].startswith("no such network")
    assert "hunter2hunter2" not in str(operation.details)


async def test_what_cannot_be_reported_is_rolled_back_all_the_same(place: Place, caplog) -> None:
    place.declare("redis:\n  image: none\n")
    rolled_back = RecordedRollback()

    async def report(*_: object) -> None:
        raise OSError("No space left on device")

    with pytest.raises(StartFailedError, match="redis did not start"):
        await run_operation(fail, rollback=rolled_back, on_failure=report)

    assert len(rolled_back.calls) == 1
    assert "could not be reported: No space left on device" in caplog.text


async def test_a_rollback_without_stores_says_what_that_means_and_what_to_do(place: Place) -> None:
    place.declare("redis:\n  image: none\n")

    async def roll_back(_recorder: OperationRecorder, _error: Exception) -> None:
        raise StoreUnreachableError("Store deployment_logs (db.example:5432/roas) did not answer.")

    with pytest.raises(StartFailedError):
        await run_operation(fail, rollback=roll_back)

    said = only().details["undo_failed"]
    assert said.startswith("the stores that hold the releases did not answer, so containers are as the start left them")
    assert "roas rollback test" in said
    assert "db.example" in said


async def test_an_error_recovery_that_fails_does_not_hide_the_failure_and_the_rollback_follows(
    place: Place, caplog
) -> None:
    place.declare("redis:\n  image: none\n")
    rolled_back = RecordedRollback()

    async def fail_and_break_the_errors(recorder: OperationRecorder) -> None:
        with open_stores().databases["errors"].write() as connection:
            connection.exec_driver_sql("DROP TABLE error_patterns")
        await fail(recorder)

    with pytest.raises(StartFailedError, match="redis did not start"):
        await run_operation(fail_and_break_the_errors, rollback=rolled_back)

    assert len(rolled_back.calls) == 1
    assert only().status is OperationStatus.FAILED


async def test_an_operation_that_did_not_get_its_environment_is_not_rolled_back(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    rolled_back = RecordedRollback()

    async def refuse(_recorder: OperationRecorder) -> None:
        raise EnvironmentBusyError("held")

    with pytest.raises(EnvironmentBusyError):
        await run_operation(refuse, rollback=rolled_back)

    assert rolled_back.calls == []
    assert only().status is OperationStatus.FAILED


async def test_a_busy_environment_is_no_error_of_the_application(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    now = datetime.now(UTC)
    assert open_stores().leases.acquire("test", "x", "stop", now, LEASE, runner=ELSEWHERE).acquired

    with pytest.raises(EnvironmentBusyError):
        await run_operation(fail)

    assert (only().status, only().details["error"]) == (OperationStatus.FAILED, "EnvironmentBusyError")
    assert open_stores().errors.latest("test") == []
    assert open_stores().tickets.find(environment="test") == []


async def test_stores_that_stay_away_are_no_error_of_the_application(place: Place) -> None:
    place.declare("redis:\n  image: none\n")

    async def lose_the_stores(_recorder: OperationRecorder) -> None:
        raise StoreUnreachableError("Store errors: no answer;")

    with pytest.raises(StoreUnreachableError):
        await run_operation(lose_the_stores)

    assert only().details["reason"] == "the stores stayed away: Store errors: no answer"
    assert open_stores().errors.latest("test") == []


async def test_a_cancelled_operation_is_rolled_back_to_the_end_and_recorded(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    acting, rolling_back, rolled_back = asyncio.Event(), asyncio.Event(), RecordedRollback()

    async def act(_recorder: OperationRecorder) -> None:
        acting.set()
        await asyncio.Event().wait()

    async def roll_back(recorder: OperationRecorder, error: Exception) -> None:
        rolling_back.set()
        await asyncio.to_thread(open_stores)
        await rolled_back(recorder, error)

    task = asyncio.create_task(run_operation(act, rollback=roll_back))
    await acting.wait()
    task.cancel()
    await rolling_back.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    [(kind, said, status, holder, errors)] = rolled_back.calls
    assert (kind, said) == ("OperationCancelledError", "start of test was cancelled before it had ended.")
    assert (status, errors) == (OperationStatus.RUNNING, 0)
    assert holder is not None
    operation = only()
    assert operation.status is OperationStatus.FAILED
    assert operation.details["undone"] == "stopped what was started"
    assert holder_of("test") is None


async def test_an_exit_inside_is_a_recorded_failure(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    rolled_back = RecordedRollback()

    async def leave(_recorder: OperationRecorder) -> None:
        raise GeneratorExit

    with pytest.raises(BaseException):  # noqa: B017 - the engine may wrap it; its record is what counts
        await run_operation(leave, rollback=rolled_back)

    assert len(rolled_back.calls) == 1
    assert only().status is OperationStatus.FAILED
    assert "GeneratorExit" in only().details["reason"]


async def test_an_operation_that_lost_its_lease_ends_without_a_rollback(place: Place, monkeypatch) -> None:
    place.declare("redis:\n  image: none\n")
    monkeypatch.setattr(lease, "HEARTBEAT", timedelta(milliseconds=20))
    rolled_back, stores = RecordedRollback(), open_stores()

    async def be_robbed(_recorder: OperationRecorder) -> None:
        now = datetime.now(UTC)
        mine = stores.leases.current("test", now)
        assert stores.leases.acquire("test", "x", "stop", now, LEASE, runner=ELSEWHERE, instead_of=mine).acquired
        await asyncio.Event().wait()

    with pytest.raises(LeaseLostError):
        await run_operation(be_robbed, rollback=rolled_back)

    assert rolled_back.calls == []
    operation = only()
    assert operation.status is OperationStatus.FAILED
    assert "lost environment test to x" in operation.details["reason"]


async def test_a_refused_operation_says_who_holds_the_environment(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    stores = open_stores()
    stores.leases.acquire("test", "x", "stop by Ada", datetime.now(UTC), LEASE, runner=ELSEWHERE)
    rolled_back = RecordedRollback()

    with pytest.raises(EnvironmentBusyError):
        await run_operation(fail, rollback=rolled_back)

    assert rolled_back.calls == []
    assert "held by x (stop by Ada, pid 9 on beta)" in only().details["reason"]


async def test_a_health_check_neither_holds_nor_waits(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    stores = open_stores()
    stores.leases.acquire("test", "x", "stop by Ada", datetime.now(UTC), LEASE, runner=ELSEWHERE)

    @flow
    async def look() -> None:
        async with record_operation(OperationType.HEALTH_CHECK, "test", OperationRequest()):
            pass

    await look()

    assert only().status is OperationStatus.SUCCESS


async def test_an_operation_that_waits_is_pending_until_it_has_the_environment(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    stores, seen = open_stores(), []

    async def act(recorder: OperationRecorder) -> None:
        seen.append(stores.operations.get(recorder.deployment_id).status)

    async with lease.hold_environment("test", owner="x", reason="stop", runner=ELSEWHERE):
        task = asyncio.create_task(run_operation(act, wait_seconds=60))
        async with asyncio.timeout(300):
            while not stores.operations.history(environment="test"):  # noqa: ASYNC110 - a row in a store sends no event
                await asyncio.sleep(0.05)
        assert only().status is OperationStatus.PENDING
    await task

    assert seen == [OperationStatus.RUNNING]
    assert only().status is OperationStatus.SUCCESS


async def test_an_interrupted_operation_is_taken_up_with_what_it_had_finished(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    stores = open_stores()
    now = datetime.now(UTC)
    stores.operations.begin(
        Operation(
            deployment_id="test-1", operation_type=START, environment="test", status=OperationStatus.RUNNING,
            started_at=now - timedelta(hours=1),
        )
    )  # fmt: skip
    stores.progress.finish_step("test-1", "created", None, now, "3 containers")
    stores.progress.finish_step("test-1", "proven", "redis", now)
    seen = []

    async def act(recorder: OperationRecorder) -> None:
        seen.append(
            (recorder.deployment_id, recorder.done, recorder.step_detail("created"), recorder.step_detail("undone"))
        )
        await recorder.step("proven", "bot")

    await run_operation(act, deployment_id="test-1")

    assert seen == [("test-1", {"created", ("proven", "redis")}, "3 containers", None)]
    operation = only()
    assert operation.status is OperationStatus.SUCCESS
    [resumed] = operation.details["resumed"]
    assert resumed["interrupted"] == "interrupted after redis was proven; its runner is gone"
    assert [step.service for step in stores.progress.steps("test-1")] == [None, "redis", "bot"]
    with pytest.raises(BadInputError, match="test-1 has ended"):
        await run_operation(act, deployment_id="test-1")


async def test_an_interrupted_operation_is_not_taken_up_after_a_later_one_that_succeeded(place: Place) -> None:
    place.declare("redis:\n  image: none\n")

    async def act(_: OperationRecorder) -> None:
        pass

    begun = Operation(
        deployment_id="test-1", operation_type=START, environment="test", status=OperationStatus.RUNNING,
        started_at=datetime.now(UTC) - timedelta(hours=1),
    )  # fmt: skip
    open_stores().operations.begin(begun)
    await run_operation(act)
    later = next(one.deployment_id for one in open_stores().operations.history() if one.deployment_id != "test-1")

    with pytest.raises(BadInputError, match=f"test-1 is overtaken: the start {later} succeeded since"):
        await run_operation(act, deployment_id="test-1")


async def test_an_operation_that_is_run_elsewhere_is_not_taken_up(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    stores = open_stores()
    alive = this_process("another-run")
    stores.operations.begin(
        Operation(
            deployment_id="test-1", operation_type=START, environment="test", status=OperationStatus.RUNNING,
            started_at=datetime.now(UTC) - timedelta(hours=1), details={"runner": {
                "host": alive.host, "kernel": alive.kernel, "pid": alive.pid,
                "process_started": alive.process_started, "flow_run_id": alive.flow_run_id,
            }},
        )
    )  # fmt: skip

    with pytest.raises(BadInputError, match="was not interrupted, or is resumed already"):
        await run_operation(fail, deployment_id="test-1")

    assert only().status is OperationStatus.RUNNING


async def test_a_failed_operation_names_its_error_and_has_the_health_it_was_seen_with(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    with pytest.raises(StartFailedError):
        await run_operation(fail)

    operation, stores = only(), open_stores()
    [error] = stores.errors.list_unresolved("test")
    assert operation.details["error_id"] == error.error_id
    assert len(stores.errors.impacts(error.error_id)) == 1
    [health] = stores.health.history(deployment_id=operation.deployment_id)
    assert [verdict.service for verdict in health.services] == ["redis"]


async def test_a_failure_that_error_recovery_cannot_handle_is_on_record_all_the_same(place: Place) -> None:
    place.declare("redis:\n  image: none\n")
    with open_stores().databases["errors"].write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER broken BEFORE INSERT ON error_impact_analysis BEGIN SELECT raise(ABORT, 'broken'); END"
        )
    with pytest.raises(StartFailedError):
        await run_operation(fail)

    [error] = open_stores().errors.list_unresolved("test")
    assert (error.text, error.service) == ("redis did not start", "redis")
    assert only().details["error_id"] == error.error_id
