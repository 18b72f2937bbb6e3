"""Operations whose process ended, and how they are described."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.interruption import GRACE, find_orphans, interruption
from models.operations import LeaseResult, Operation, OperationStatus, OperationStep, OperationType, Runner

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MOMENT = timedelta(seconds=1)
RUNNER = Runner(host="alpha", kernel="k", pid=123, process_started=5, flow_run_id="7")
OPERATION = Operation(
    deployment_id="prod-1",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.RUNNING,
    started_at=NOON,
    details={"runner": asdict(RUNNER)},
)
LEASE = LeaseResult(
    acquired=False, holder="prod-1", reason="start", expires_at=NOON + GRACE, acquired_at=NOON, runner=RUNNER
)
WITHOUT_RUNNER = replace(OPERATION, details={})


def ids(operations: list[Operation]) -> list[str]:
    return [operation.deployment_id for operation in operations]


def test_a_runner_that_is_gone_leaves_an_orphan_at_once_even_with_a_lease() -> None:
    assert ids(find_orphans([OPERATION], [LEASE], {RUNNER: False}, NOON)) == ["prod-1"]


def test_a_runner_that_lives_is_believed_however_long_it_takes_and_without_a_lease() -> None:
    assert find_orphans([OPERATION], [], {RUNNER: True}, NOON + timedelta(days=1)) == []


def test_a_runner_elsewhere_is_believed_while_it_holds_its_lease() -> None:
    assert find_orphans([OPERATION], [LEASE], {RUNNER: None}, NOON + timedelta(hours=1)) == []
    assert ids(find_orphans([OPERATION], [], {RUNNER: None}, NOON + timedelta(hours=1))) == ["prod-1"]


def test_the_lease_of_another_runner_of_the_same_operation_is_not_its_own() -> None:
    other = replace(LEASE, runner=replace(RUNNER, pid=9))
    assert ids(find_orphans([OPERATION], [other], {RUNNER: None}, NOON + GRACE)) == ["prod-1"]


def test_a_runner_elsewhere_has_the_grace_to_take_its_lease() -> None:
    assert find_orphans([OPERATION], [], {RUNNER: None}, NOON + GRACE - MOMENT) == []
    assert ids(find_orphans([OPERATION], [], {RUNNER: None}, NOON + GRACE)) == ["prod-1"]


@pytest.mark.parametrize(
    "details",
    [
        {"waits_until": (NOON + timedelta(hours=1)).isoformat()},
        {"resumed": [{"at": (NOON + timedelta(hours=1)).isoformat(), "by": "a person", "interrupted": "x"}]},
    ],
)
def test_a_runner_elsewhere_may_wait_or_have_begun_again_later(details) -> None:
    waiting = replace(OPERATION, details=OPERATION.details | details)
    assert find_orphans([waiting], [], {RUNNER: None}, NOON + timedelta(hours=1)) == []
    assert ids(find_orphans([waiting], [], {RUNNER: None}, NOON + timedelta(hours=1) + GRACE)) == ["prod-1"]


def test_an_operation_without_a_known_runner_is_judged_by_its_lease_alone() -> None:
    lease = replace(LEASE, runner=None)
    assert WITHOUT_RUNNER.record.runner is None
    assert find_orphans([WITHOUT_RUNNER], [lease], {}, NOON + 2 * GRACE) == []
    assert ids(find_orphans([WITHOUT_RUNNER], [], {}, NOON + GRACE)) == ["prod-1"]


def step(name: str, service: str | None, seconds: int) -> OperationStep:
    return OperationStep(
        deployment_id="prod-1", step=name, service=service, finished_at=NOON + timedelta(seconds=seconds)
    )


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((), "interrupted before its first step was finished"),
        ((step("created", None, 1),), "interrupted after the containers were created"),
        ((step("created", None, 1), step("proven", "redis", 2)), "interrupted after redis was proven"),
        ((step("proven", "bot", 3), step("proven", "redis", 2)), "interrupted after bot was proven"),
    ],
)
def test_an_interruption_names_the_last_finished_step_and_who_is_gone(steps, said) -> None:
    assert interruption(OPERATION, steps) == f"{said}; its runner (pid 123 on alpha) is gone"
    assert interruption(WITHOUT_RUNNER, steps) == f"{said}; its runner is gone"
