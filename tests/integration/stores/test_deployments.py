"""deployment_logs.db keeps what was asked and how it went."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from adapters.stores import Stores
from adapters.stores.recovery_writes import read_records
from models.failures import BadInputError, NotFoundError, StoreConstraintError
from models.operations import DATA_SAVED, HOOK_BEGUN, Operation, OperationStatus, OperationType, StateChange
from models.operations.record import OperationRecord, Runner
from models.records import Release
from models.validation import Check, CheckSeverity, ValidationResult

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RUNNER = Runner(host="here", kernel="k", pid=7, process_started=70, flow_run_id="7")


def operation(deployment_id: str = "prod-1", **changes) -> Operation:
    known = {
        "deployment_id": deployment_id,
        "operation_type": OperationType.START,
        "environment": "prod",
        "status": OperationStatus.RUNNING,
        "started_at": NOON,
        "user_agent": "a person",
        "details": {"flow_run_id": "7"},
    }
    return Operation(**(known | changes))


def rows(stores: Stores, query: str) -> list[tuple]:
    with stores.databases["deployment_logs"].read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_an_operation_is_given_back_as_it_was_recorded(stores: Stores) -> None:
    stores.operations.begin(operation())
    assert stores.operations.get("prod-1") == operation()


def test_recording_a_begin_twice_is_recording_it_once(stores: Stores) -> None:
    stores.operations.begin(operation())
    stores.operations.begin(operation())
    assert len(stores.operations.history()) == 1


def test_finishing_sets_the_duration_and_adds_details(stores: Stores) -> None:
    stores.operations.begin(operation())
    assert stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON + MINUTE, OperationRecord(kept=("web",)))
    found = stores.operations.get("prod-1")
    assert found.status is OperationStatus.SUCCESS
    assert found.duration == MINUTE
    assert found.details == {"flow_run_id": "7", "kept": ["web"]}


def test_an_operation_ends_once(stores: Stores) -> None:
    stores.operations.begin(operation())
    assert stores.operations.finish("prod-1", OperationStatus.FAILED, NOON + MINUTE)
    assert not stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON + MINUTE)
    assert stores.operations.get("prod-1").status is OperationStatus.FAILED


def test_a_clock_set_back_gives_no_negative_duration(stores: Stores) -> None:
    stores.operations.begin(operation())
    stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON - MINUTE)
    assert rows(stores, "SELECT duration_ms FROM deployment_operations") == [(0,)]


def test_finishing_what_never_began_says_so(stores: Stores) -> None:
    with pytest.raises(NotFoundError, match="prod-9"):
        stores.operations.finish("prod-9", OperationStatus.SUCCESS, NOON)


def test_a_deployment_is_found_by_the_begin_of_its_id(stores: Stores) -> None:
    stores.operations.begin(operation("prod-20260701-a"))
    stores.operations.begin(operation("prod-20260702-b"))
    assert stores.operations.get("prod-20260702").deployment_id == "prod-20260702-b"
    with pytest.raises(BadInputError, match="prod-20260701-a, prod-20260702-b"):
        stores.operations.get("prod-2026070")
    with pytest.raises(NotFoundError):
        stores.operations.get("dev")


def test_an_id_that_begins_another_is_still_found(stores: Stores) -> None:
    stores.operations.begin(operation("prod-1"))
    stores.operations.begin(operation("prod-11"))
    assert stores.operations.get("prod-1").deployment_id == "prod-1"


def test_notes_are_added_to_the_details(stores: Stores) -> None:
    stores.operations.begin(operation())
    stores.operations.note("prod-1", OperationRecord(error_id="e1"))
    assert stores.operations.get("prod-1").details == {"flow_run_id": "7", "error_id": "e1"}


def test_one_process_claims_the_notification_of_an_operation(stores: Stores) -> None:
    stores.operations.begin(operation())
    assert stores.operations.claim_notification("prod-1", NOON)
    assert not stores.operations.claim_notification("prod-1", NOON + MINUTE)
    assert stores.operations.get("prod-1").details["notified_at"] == NOON.isoformat()


def test_history_is_newest_first_and_can_be_narrowed(stores: Stores) -> None:
    for hour in range(4):
        stores.operations.begin(operation(f"prod-{hour}", started_at=NOON + hour * MINUTE))
    stores.operations.begin(operation("dev-1", environment="dev", operation_type=OperationType.STOP))
    stores.operations.finish("prod-2", OperationStatus.SUCCESS, NOON + 9 * MINUTE)
    assert [one.deployment_id for one in stores.operations.history("prod", limit=2)] == ["prod-3", "prod-2"]
    assert [one.deployment_id for one in stores.operations.history(operation_type=OperationType.STOP)] == ["dev-1"]
    assert [one.deployment_id for one in stores.operations.list_running("prod")] == ["prod-0", "prod-1", "prod-3"]
    success = stores.operations.last_success("prod", OperationType.START)
    assert success is not None
    assert success.deployment_id == "prod-2"


def test_state_changes_are_kept_once_and_in_order(stores: Stores) -> None:
    stores.operations.begin(operation())
    changes = [
        StateChange(
            deployment_id="prod-1",
            service="bot",
            previous_state=before,
            new_state=after,
            changed_at=NOON + place * MINUTE,
            reason="start",
            details={"exit_code": 0} if before else {},
        )
        for place, (before, after) in enumerate([(None, "created"), ("created", "running")])
    ]
    stores.progress.record_changes(changes[::-1])
    stores.progress.record_changes(changes)
    assert stores.progress.changes("prod-1") == changes


def test_a_state_change_of_no_deployment_is_refused(stores: Stores) -> None:
    change = StateChange(
        deployment_id="none", service="bot", previous_state=None, new_state="up", changed_at=NOON, reason=""
    )
    with pytest.raises(StoreConstraintError, match=r"(?i)foreign key"):
        stores.progress.record_changes([change])


def test_a_validation_is_given_back_as_it_was(stores: Stores) -> None:
    stores.operations.begin(operation())
    result = ValidationResult(
        environment="prod",
        validated_at=NOON,
        checks=(
            Check(name="disk", passed=True, severity=CheckSeverity.CRITICAL, finding=""),
            Check(name="port", passed=False, severity=CheckSeverity.CRITICAL, finding="taken", fix="free it"),
        ),
        system_resources={"cpus": 2},
        docker_environment={"version": "27"},
    )
    stores.progress.record_validation("prod-1", result)
    stores.progress.record_validation("prod-1", result)
    assert stores.progress.validations("prod-1") == [result]


def test_a_lease_is_held_by_one_until_it_expires(stores: Stores) -> None:
    take, now = stores.leases.acquire, datetime.now(UTC)
    assert take("prod", "one", "start", now, MINUTE).acquired
    refused = take("prod", "two", "stop", now, MINUTE)
    assert (refused.acquired, refused.holder, refused.reason) == (False, "one", "start")
    assert take("dev", "two", "stop", now, MINUTE).acquired
    assert stores.leases.renew("prod", "one", now, -MINUTE), "it expires"
    assert take("prod", "two", "stop", now, MINUTE).acquired
    assert not stores.leases.renew("prod", "one", now, MINUTE)
    assert not stores.leases.release("prod", "one")
    assert stores.leases.release("prod", "two")
    assert stores.leases.current("prod", now) is None


def test_releases_are_kept_and_the_last_proven_one_is_found(stores: Stores) -> None:
    first = Release(
        release_id="r1",
        environment="prod",
        deployment_id="prod-1",
        created_at=NOON,
        compose={"services": {"bot": {"image": "bot:1"}}},
        digests={"bot": "sha256:1"},
        hashes={"bot": "h1"},
        images={"bot": "sha256:2"},
        files={"/etc/bot.yaml": "f1"},
        variables={"TOKEN": "v1"},
        reason="a start was proven",
        proven=True,
    )
    second = Release(release_id="r2", environment="prod", deployment_id="prod-2", created_at=NOON + MINUTE, compose={})
    stores.releases.keep(first)
    stores.releases.keep(second)
    assert stores.releases.latest("prod") == [second, first]
    assert stores.releases.last("prod") == second
    assert stores.releases.last("prod", proven=True) == first
    assert stores.releases.last("dev") is None


def test_a_release_is_found_by_the_begin_of_its_id(stores: Stores) -> None:
    for name in ("prod-a1", "prod-a2", "prod-a"):
        stores.releases.keep(
            Release(release_id=name, environment="prod", deployment_id="d", created_at=NOON, compose={})
        )
    assert stores.releases.get("prod-a2").release_id == "prod-a2"
    assert stores.releases.get("prod-a").release_id == "prod-a"
    with pytest.raises(BadInputError, match="prod-a, prod-a1, prod-a2"):
        stores.releases.get("prod-")
    with pytest.raises(NotFoundError, match="No release has the id 'dev'"):
        stores.releases.get("dev")


def test_releases_that_failed_do_not_hide_the_proven_one(stores: Stores) -> None:
    stores.releases.keep(
        Release(release_id="r-0", environment="prod", deployment_id="d", created_at=NOON, compose={}, proven=True)
    )
    for number in range(1, 5):
        at = NOON + number * MINUTE
        stores.releases.keep(
            Release(release_id=f"r-{number}", environment="prod", deployment_id="d", created_at=at, compose={})
        )
    assert [one.release_id for one in stores.releases.latest("prod", 2)] == ["r-4", "r-3", "r-0"]


def test_a_step_is_done_once_and_stays_as_it_was_first_reported(stores: Stores) -> None:
    stores.operations.begin(operation())
    stores.progress.finish_step("prod-1", "created", None, NOON)
    stores.progress.finish_step("prod-1", "proven", "redis", NOON + MINUTE, "healthy")
    stores.progress.finish_step("prod-1", "created", None, NOON + 2 * MINUTE, "again")
    stores.progress.finish_step("prod-1", "proven", "bot", NOON + 3 * MINUTE)
    assert [(s.step, s.service, s.finished_at, s.detail) for s in stores.progress.steps("prod-1")] == [
        ("created", None, NOON, ""),
        ("proven", "redis", NOON + MINUTE, "healthy"),
        ("proven", "bot", NOON + 3 * MINUTE, ""),
    ]
    with pytest.raises(StoreConstraintError):
        stores.progress.finish_step("prod-9", "created", None, NOON)


def test_hooks_and_saved_data_are_read_of_all_operations_of_an_environment(stores: Stores) -> None:
    for name, environment in (("prod-1", "prod"), ("prod-2", "prod"), ("dev-1", "dev")):
        stores.operations.begin(replace(operation(), deployment_id=name, environment=environment))
        stores.progress.finish_step(name, DATA_SAVED, None, NOON, f"s-{name}")
        stores.progress.finish_step(name, "created", None, NOON)
    stores.progress.finish_step("prod-2", HOOK_BEGUN, "migrate", NOON + MINUTE)
    found = stores.progress.data_steps("prod")
    assert [(one.deployment_id, one.step, one.service, one.detail) for one in found] == [
        ("prod-2", HOOK_BEGUN, "migrate", ""),
        ("prod-2", DATA_SAVED, None, "s-prod-2"),
        ("prod-1", DATA_SAVED, None, "s-prod-1"),
    ]
    assert read_records(stores, "prod", NOON, NOON).data_steps == tuple(found)


def test_outcomes_are_the_ended_operations_oldest_first(stores: Stores) -> None:
    for name, status in (("prod-1", OperationStatus.FAILED), ("prod-2", OperationStatus.SUCCESS)):
        stores.operations.begin(replace(operation(), deployment_id=name))
        stores.operations.finish(name, status, NOON + MINUTE, OperationRecord(reason="long words"))
    stores.operations.begin(replace(operation(), deployment_id="prod-3"))
    found = stores.operations.outcomes("prod", NOON)
    assert [(one.deployment_id, one.status, one.duration) for one in found] == [
        ("prod-1", OperationStatus.FAILED, MINUTE),
        ("prod-2", OperationStatus.SUCCESS, MINUTE),
    ]
    assert stores.operations.outcomes("prod", NOON + MINUTE) == []


def test_an_interrupted_operation_is_taken_up_by_one(stores: Stores) -> None:
    stores.operations.begin(operation())
    assert not stores.operations.resume("prod-1", RUNNER, NOON, "a person")
    why = OperationRecord(interrupted="interrupted before anything was done", reason="the runner is gone")
    assert stores.operations.finish("prod-1", OperationStatus.FAILED, NOON + MINUTE, why)
    assert stores.operations.resume("prod-1", RUNNER, NOON + 2 * MINUTE, "a person")
    assert not stores.operations.resume("prod-1", RUNNER, NOON + 2 * MINUTE, "another")
    found = stores.operations.get("prod-1")
    assert (found.status, found.ended_at) == (OperationStatus.RUNNING, None)
    assert "reason" not in found.details
    assert [(one.by, one.interrupted) for one in found.record.resumed] == [
        ("a person", "interrupted before anything was done")
    ]
    assert stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON + 3 * MINUTE)
    assert rows(stores, "SELECT status, duration_ms FROM deployment_operations") == [("success", 180_000)]


def test_an_operation_that_failed_by_itself_is_not_taken_up(stores: Stores) -> None:
    stores.operations.begin(operation())
    stores.operations.finish("prod-1", OperationStatus.FAILED, NOON + MINUTE, OperationRecord(reason="no space"))
    assert not stores.operations.resume("prod-1", RUNNER, NOON + 2 * MINUTE, "a person")
    assert stores.operations.get("prod-1").details["reason"] == "no space"


def test_a_pending_operation_is_let_run_once(stores: Stores) -> None:
    stores.operations.begin(operation(status=OperationStatus.PENDING))
    assert stores.operations.mark_running("prod-1")
    assert not stores.operations.mark_running("prod-1")
    assert stores.operations.get("prod-1").status is OperationStatus.RUNNING


def test_the_latest_operation_of_a_run_is_found(stores: Stores) -> None:
    stores.operations.begin(operation("prod-1"))
    stores.operations.begin(operation("prod-2", started_at=NOON + MINUTE))
    stores.operations.begin(operation("prod-3", started_at=NOON + MINUTE, details={"flow_run_id": "77"}))
    found = stores.operations.find_by_run("prod", "7")
    assert found is not None
    assert found.deployment_id == "prod-2"
    assert stores.operations.find_by_run("dev", "7") is None


def test_one_owner_with_two_runners_holds_an_environment_once(stores: Stores) -> None:
    take, other = stores.leases.acquire, replace(RUNNER, pid=8)
    assert take("prod", "one", "start", NOON, MINUTE, runner=RUNNER).acquired
    held = take("prod", "one", "start", NOON, MINUTE, runner=RUNNER)
    assert held.acquired
    refused = take("prod", "one", "start", NOON, MINUTE, runner=other)
    assert (refused.acquired, refused.runner, refused.acquired_at) == (False, RUNNER, held.acquired_at)
    assert not stores.leases.renew("prod", "one", NOON, MINUTE, runner=other)
    assert not stores.leases.release("prod", "one", runner=other)
    assert stores.leases.renew("prod", "one", NOON, MINUTE, runner=RUNNER)


def test_a_hold_known_to_be_dead_is_taken_before_it_expires_and_by_one(stores: Stores) -> None:
    take, other = stores.leases.acquire, replace(RUNNER, pid=8)
    take("prod", "one", "start", NOON, MINUTE, runner=RUNNER)
    dead = take("prod", "two", "start", NOON, MINUTE, runner=other)
    assert take("prod", "two", "start", NOON, MINUTE, runner=other, instead_of=dead).acquired
    third = take("prod", "three", "start", NOON, MINUTE, instead_of=dead)
    assert (third.acquired, third.holder) == (False, "two")


@pytest.mark.files
def test_times_are_stored_as_utc_text_of_one_format(stores: Stores) -> None:
    zone = timezone(timedelta(hours=2))
    stores.operations.begin(operation(started_at=NOON.astimezone(zone)))
    with stores.databases["deployment_logs"].read() as connection:
        stored = connection.exec_driver_sql("SELECT start_time, metadata FROM deployment_operations").one()
    assert tuple(stored) == ("2026-07-01 12:00:00.000000", '{"flow_run_id":"7"}')


def test_a_time_without_a_zone_is_refused(stores: Stores) -> None:
    with pytest.raises(StoreConstraintError, match="no time zone"):
        stores.operations.begin(operation(started_at=datetime(2026, 7, 1)))  # noqa: DTZ001


def test_details_that_are_empty_are_null(stores: Stores) -> None:
    stores.operations.begin(operation(details={}))
    with stores.databases["deployment_logs"].read() as connection:
        assert connection.exec_driver_sql("SELECT metadata FROM deployment_operations").scalar() is None


def test_the_latest_operations_come_in_the_order_they_were_recorded_whatever_the_clocks_said(stores: Stores) -> None:
    stores.operations.begin(operation("prod-stop", operation_type=OperationType.STOP, started_at=NOON + MINUTE))
    stores.operations.begin(operation("prod-start"))
    stores.operations.begin(operation("prod-health", operation_type=OperationType.HEALTH_CHECK))

    latest = stores.operations.latest_recorded("prod")

    assert [one.deployment_id for one in latest] == ["prod-start", "prod-stop"]


def test_the_latest_operations_of_each_environment_are_those_of_that_environment(stores: Stores) -> None:
    for number in range(3):
        for name in ("prod", "dev"):
            stores.operations.begin(operation(f"{name}-{number}", environment=name, started_at=NOON - number * MINUTE))
    stores.operations.begin(operation("check", environment="other", operation_type=OperationType.HEALTH_CHECK))

    latest = stores.operations.latest_recorded_of_each(2)

    assert latest == {name: stores.operations.latest_recorded(name, 2) for name in ("prod", "dev")}
    assert [one.deployment_id for one in latest["prod"]] == ["prod-2", "prod-1"]
