"""Put what happened in an environment in one order: operations, failures, recoveries and alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.common.safe_text import shorten
from models.environment_view import HistoryEntry
from models.errors import RecordedError
from models.metrics import Alert, AlertSeverity
from models.operations import Operation, OperationStatus
from models.overview import VerdictLevel
from models.recovery import RecoveryExecution

_LONGEST = 200


def environment_history(
    operations: Iterable[Operation],
    failures: Iterable[RecordedError],
    recoveries: Iterable[RecoveryExecution],
    alerts: Iterable[Alert],
    *,
    most: int,
) -> tuple[HistoryEntry, ...]:
    """The newest, newest first. `kind` is operation, failure, recovery or alert, `row` the id of its record."""
    entries = [
        *(_of_operation(operation) for operation in operations),
        *(entry for failure in failures for entry in _of_failure(failure)),
        *(_of_recovery(recovery) for recovery in recoveries),
        *(entry for alert in alerts if alert.explained_by is None for entry in _of_alert(alert)),
    ]
    return tuple(sorted(entries, key=lambda entry: (entry.at, entry.row), reverse=True)[:most])


def _of_operation(operation: Operation) -> HistoryEntry:
    took = "" if operation.duration is None else f" after {operation.duration.total_seconds():.1f} s"
    how = {OperationStatus.SUCCESS: "succeeded", OperationStatus.FAILED: "failed"}.get(operation.status, "began")
    parts = [f"{operation.kind.replace('_', ' ')} {how}{took}"]
    if operation.status is OperationStatus.FAILED and operation.record.reason:
        parts.append(operation.record.reason)
    if operation.record.undone:
        parts.append(f"rolled back: {operation.record.undone}")
    levels = {OperationStatus.SUCCESS: VerdictLevel.GOOD, OperationStatus.FAILED: VerdictLevel.BAD}
    return HistoryEntry(
        at=operation.ended_at or operation.started_at,
        level=levels.get(operation.status, VerdictLevel.UNKNOWN),
        kind="operation",
        row=operation.deployment_id,
        event=shorten(": ".join(parts), _LONGEST),
    )


def _of_failure(error: RecordedError) -> Sequence[HistoryEntry]:
    subject = error.service or error.environment
    began = HistoryEntry(
        at=error.first_seen,
        level=VerdictLevel.BAD,
        kind="failure",
        row=error.error_id,
        event=shorten(f"{subject} failed ({error.verdict.category.replace('_', ' ')}): {error.text}", _LONGEST),
    )
    if error.resolved_at is None:
        return (began,)
    ended = HistoryEntry(
        at=error.resolved_at,
        level=VerdictLevel.GOOD,
        kind="failure",
        row=error.error_id,
        event=f"{subject} works again",
    )
    return (began, ended)


def _of_recovery(execution: RecoveryExecution) -> HistoryEntry:
    subject = f" of {execution.service}" if execution.service else ""
    action = execution.strategy.replace("_", " ")
    return HistoryEntry(
        at=execution.started_at,
        level={True: VerdictLevel.GOOD, False: VerdictLevel.BAD, None: VerdictLevel.UNKNOWN}[execution.success],
        kind="recovery",
        row=execution.error_id,
        event=shorten(f"{action}{subject}: {execution.final_status}", _LONGEST),
    )


def _of_alert(alert: Alert) -> Sequence[HistoryEntry]:
    opened = HistoryEntry(
        at=alert.opened_at,
        level=VerdictLevel.BAD if alert.severity is AlertSeverity.CRITICAL else VerdictLevel.WARNING,
        kind="alert",
        row=alert.alert_id,
        event=shorten(f"{alert.severity} alert on {alert.service}: {alert.reason}", _LONGEST),
    )
    if alert.resolved_at is None:
        return (opened,)
    words = shorten(f"the alert on {alert.service} ended: {alert.reason}", _LONGEST)
    ended = HistoryEntry(at=alert.resolved_at, level=VerdictLevel.GOOD, kind="alert", row=alert.alert_id, event=words)
    return (opened, ended)
