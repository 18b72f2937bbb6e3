"""Decide whether an environment should run, by the last operation that a user asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import INTERRUPTED

_REFUSED = frozenset({"EnvironmentBusyError", "BadInputError", "EnvironmentFileError", "NotFoundError",
                      "PlanChangedError", "ReleaseError", "GateRefusedError",
                      "HalfRestoredError", "HalfRotatedError", "NeedDownError", "WrongHostError"})  # fmt: skip
"""Failures that refuse an operation before it touches anything: the answer was no, so nothing new was wanted."""


def should_run(operations: Sequence[Operation]) -> bool:
    """Whether the last operation that counts wants the environment to run; `operations` newest first.

    An operation counts even if it was interrupted, cancelled or failed, because a user wanted it. These do not count:
    - health checks;
    - operations that wait for the environment;
    - operations refused before they changed anything (environment busy, input or plan invalid);
    - a start or restart that failed and was rolled back.

    Without any that counts the environment should run.
    """
    last = last_that_counts(operations)
    return last is None or last.operation_type is not OperationType.STOP


def time_of_stop(operations: Sequence[Operation]) -> datetime | None:
    """When the environment was stopped on request; None where it is meant to run, or the stop failed."""
    last = last_that_counts(operations)
    is_stopped = last is not None and last.operation_type is OperationType.STOP
    return last.ended_at if last and is_stopped and last.status is OperationStatus.SUCCESS else None


def last_that_counts(operations: Sequence[Operation]) -> Operation | None:
    """The newest operation that says whether the environment is to run, as `should_run` has it; None without one."""
    return next((operation for operation in operations if _counts(operation)), None)


def _counts(operation: Operation) -> bool:
    if operation.operation_type is OperationType.HEALTH_CHECK or operation.status is OperationStatus.PENDING:
        return False
    if operation.status is not OperationStatus.FAILED:
        return True
    record = operation.record
    # Of one whose runner died in the middle of its rollback the end was not seen.
    rolled_back = record.undone and not record.undo_failed and record.error != INTERRUPTED
    return record.error not in _REFUSED and not rolled_back
