"""Update the records of recovery in memory while the stores are unavailable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from models.errors import RecordedError
from models.records import RecoveryRecords
from models.recovery import RecoveryExecution

_KEPT = timedelta(days=1)
"""As far back as the budgets look."""


def with_error(records: RecoveryRecords, error: RecordedError) -> tuple[RecoveryRecords, RecordedError]:
    """Count an error up where the same cause is open, else add it; gives the error that is on record, too."""
    same = next((open_error for open_error in records.open_errors if open_error.cause == error.cause), None)
    if same is None:
        return replace(records, open_errors=(error, *records.open_errors)), error
    counted = replace(same, count=same.count + error.count, last_seen=max(same.last_seen, error.last_seen))
    other_errors = tuple(open_error for open_error in records.open_errors if open_error.error_id != same.error_id)
    return replace(records, open_errors=(counted, *other_errors)), counted


def with_recorded(records: RecoveryRecords, recorded: RecordedError) -> RecoveryRecords:
    """An error as the store has it."""
    other_errors = tuple(error for error in records.open_errors if error.error_id != recorded.error_id)
    return replace(records, open_errors=(recorded, *other_errors) if recorded.resolved_at is None else other_errors)


def without_error(records: RecoveryRecords, error_id: str) -> RecoveryRecords:
    """An error is resolved."""
    return replace(records, open_errors=tuple(error for error in records.open_errors if error.error_id != error_id))


def with_execution(records: RecoveryRecords, execution: RecoveryExecution, now: datetime) -> RecoveryRecords:
    """An attempt stands as given now; those that no budget counts any more are forgotten."""
    open_errors = {error.error_id for error in records.open_errors}
    before = (attempt for attempt in records.executions if attempt.attempt_id != execution.attempt_id)
    recent = [attempt for attempt in before if now - attempt.started_at < _KEPT or attempt.error_id in open_errors]
    return replace(records, executions=tuple(sorted([*recent, execution], key=lambda attempt: attempt.started_at)))


def rename_attempts(
    executions: tuple[RecoveryExecution, ...], aliases: Mapping[str, str]
) -> tuple[RecoveryExecution, ...]:
    """Give attempts the error's id that they were begun under, where the store keeps that error under another.

    `aliases` maps the id that an error had while no store could be read to the one that the store gave it.
    """
    if not aliases:
        return executions
    named = []
    for execution in executions:
        error_id = (execution.attempt_id or "").rpartition("#")[0]
        named.append(
            replace(execution, error_id=error_id) if aliases.get(error_id) == execution.error_id else execution
        )
    return tuple(named)


def is_paused(records: RecoveryRecords, service: str | None, now: datetime) -> bool:
    """Whether a person has switched automatic recovery off for a service, its environment or all of them."""
    return any(
        pause.environment in (None, records.environment)
        and pause.service in (None, service)
        and (pause.until is None or pause.until > now)
        for pause in records.pauses
    )
