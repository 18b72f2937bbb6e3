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


def with_error(known: RecoveryRecords, error: RecordedError) -> tuple[RecoveryRecords, RecordedError]:
    """Count an error up where the same cause is open, else add it; gives the error that is on record, too."""
    same = next((one for one in known.open_errors if one.cause == error.cause), None)
    if same is None:
        return replace(known, open_errors=(error, *known.open_errors)), error
    counted = replace(same, count=same.count + error.count, last_seen=max(same.last_seen, error.last_seen))
    others = tuple(one for one in known.open_errors if one.error_id != same.error_id)
    return replace(known, open_errors=(counted, *others)), counted


def with_recorded(known: RecoveryRecords, recorded: RecordedError) -> RecoveryRecords:
    """An error as the store has it."""
    others = tuple(one for one in known.open_errors if one.error_id != recorded.error_id)
    return replace(known, open_errors=(recorded, *others) if recorded.resolved_at is None else others)


def without_error(known: RecoveryRecords, error_id: str) -> RecoveryRecords:
    """An error is resolved."""
    return replace(known, open_errors=tuple(one for one in known.open_errors if one.error_id != error_id))


def with_execution(known: RecoveryRecords, execution: RecoveryExecution, now: datetime) -> RecoveryRecords:
    """An attempt stands as given now; those that no budget counts any more are forgotten."""
    others = [
        one
        for one in known.executions
        if one.attempt_id != execution.attempt_id and (now - one.started_at < _KEPT or one.error_id in _open(known))
    ]
    return replace(known, executions=tuple(sorted([*others, execution], key=lambda one: one.started_at)))


def under_own_names(
    executions: tuple[RecoveryExecution, ...], aliases: Mapping[str, str]
) -> tuple[RecoveryExecution, ...]:
    """Give attempts the error's id that they were begun under, where the store keeps that error under another.

    `aliases` maps the id that an error had while no store could be read to the one that the store gave it.
    """
    if not aliases:
        return executions
    named = []
    for one in executions:
        own = (one.attempt_id or "").rpartition("#")[0]
        named.append(replace(one, error_id=own) if aliases.get(own) == one.error_id else one)
    return tuple(named)


def is_paused(known: RecoveryRecords, service: str | None, now: datetime) -> bool:
    """Whether a person has switched automatic recovery off for a service, its environment or all of them."""
    return any(
        pause.environment in (None, known.environment)
        and pause.service in (None, service)
        and (pause.until is None or pause.until > now)
        for pause in known.pauses
    )


def _open(known: RecoveryRecords) -> set[str]:
    return {error.error_id for error in known.open_errors}
