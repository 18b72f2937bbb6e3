"""The last wanted operation decides whether an environment should run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.deployment.desired_state import should_run, time_of_stop
from models.operations import Operation, OperationStatus, OperationType

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
START, STOP, RESTART, HEALTH = (
    OperationType.START,
    OperationType.STOP,
    OperationType.RESTART,
    OperationType.HEALTH_CHECK,
)
SUCCESS, FAILED, RUNNING, PENDING = (
    OperationStatus.SUCCESS,
    OperationStatus.FAILED,
    OperationStatus.RUNNING,
    OperationStatus.PENDING,
)
INTERRUPTED = {"interrupted": "its runner is gone", "error": "Interrupted"}
UNDONE = {"error": "StartFailedError", "undone": "stopped and removed what was started"}

Recorded = tuple[OperationType, OperationStatus, dict[str, str]]


def operations(*oldest_first: Recorded) -> list[Operation]:
    made = [
        Operation(
            deployment_id=f"prod-{number}", operation_type=kind, environment="prod", status=status,
            started_at=NOON, ended_at=NOON, details=dict(details),
        )
        for number, (kind, status, details) in enumerate(oldest_first)
    ]  # fmt: skip
    return made[::-1]


STARTED: Recorded = (START, SUCCESS, {})
STOPPED: Recorded = (STOP, SUCCESS, {})


@pytest.mark.parametrize(
    ("recorded", "runs"),
    [
        ([], True),
        ([STARTED], True),
        ([STARTED, STOPPED], False),
        ([STARTED, STOPPED, (HEALTH, SUCCESS, {})], False),
        ([STOPPED, (START, FAILED, INTERRUPTED)], True),
        ([STOPPED, (START, FAILED, UNDONE | INTERRUPTED)], True),
        ([STOPPED, (START, FAILED, {"error": "StartFailedError"})], True),
        ([STOPPED, (START, FAILED, {"error": "OperationCancelledError"})], True),
        ([STOPPED, (START, FAILED, {"error": "ValidationFailedError"})], True),
        ([STOPPED, (START, RUNNING, {})], True),
        ([STOPPED, (START, FAILED, UNDONE)], False),
        ([STARTED, (START, FAILED, UNDONE)], True),
        ([STOPPED, (START, FAILED, UNDONE | {"undo_failed": "the engine went away"})], True),
        ([STARTED, (STOP, FAILED, {"error": "EngineError"})], False),
        ([STARTED, (STOP, FAILED, INTERRUPTED)], False),
        ([STARTED, (STOP, RUNNING, {})], False),
        ([STARTED, (STOP, PENDING, {})], True),
        ([STARTED, (STOP, FAILED, {"error": "EnvironmentBusyError"})], True),
        ([STOPPED, (START, FAILED, {"error": "EnvironmentBusyError"})], False),
        ([STOPPED, (START, FAILED, {"error": "PlanChangedError"})], False),
        ([STOPPED, (RESTART, SUCCESS, {})], True),
    ],
)
def test_what_was_wanted_last_decides(recorded: list[Recorded], runs: bool) -> None:
    assert should_run(operations(*recorded)) is runs


@pytest.mark.parametrize(
    ("kinds", "is_stopped"),
    [
        ([(START, SUCCESS, {}), (STOP, SUCCESS, {})], True),
        ([(STOP, SUCCESS, {}), (HEALTH, SUCCESS, {})], True),
        ([(STOP, SUCCESS, {}), (START, FAILED, UNDONE)], True),
        ([(STOP, SUCCESS, {}), (START, SUCCESS, {})], False),
        ([(START, SUCCESS, {}), (STOP, FAILED, {})], False),
        ([(START, SUCCESS, {}), (STOP, RUNNING, {})], False),
        ([], False),
    ],
)
def test_only_a_stop_that_was_done_stopped_it(kinds: list[Recorded], is_stopped: bool) -> None:
    assert time_of_stop(operations(*kinds)) == (NOON if is_stopped else None)
