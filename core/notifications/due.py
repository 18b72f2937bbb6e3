"""Decide which errors and deployments are due to be reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from models.errors import CAUSED_BY, REFUSED
from models.notifications import News, NotificationReason, ReportedError, SentNotifications
from models.operations import Operation, OperationStatus, OperationType

FIRST_REMINDER = timedelta(hours=1)
REMINDER = timedelta(hours=4)
FORGOTTEN = timedelta(hours=1)
"""What ended this long before its notification is not reported any more."""

RUNNING_AT_MOST = timedelta(minutes=15)
"""A recovery that has not ended by then will not; its runner is gone."""

FAILURES = "failures"
DEPLOYMENTS = "deployments"

_NO_DEPLOYMENT_FAILED = frozenset({"EnvironmentBusyError", "BadInputError", "NotFoundError", "WrongHostError"})
"""Another operation held the environment, or a person asked for what does not exist; nothing was touched."""


def due(
    causes: Iterable[ReportedError],
    now: datetime,
    *,
    operations: Sequence[Operation] = (),
    about: Collection[str] = (FAILURES,),
    forgotten: timedelta = FORGOTTEN,
) -> list[News]:
    """Return what is due to be reported, oldest first.

    Reported are errors with a ticket or a recovery attempt: once, again after one hour and then every four hours
    while they last, and when they end. What validation refused is reported once, and when it ends, without a ticket
    too. An error that ended before it was reported is reported once, not twice.
    While a recovery runs nothing is reported, since it may resolve the error. Deployments are reported once each;
    a failed one is reported together with the error that it failed of, and not if that error was reported since.
    An error that took over the ticket of a reported one is the same failure, and is reminded of only. One that was the
    consequence of another is not reported by itself.
    """
    root_causes = [cause for cause in causes if not cause.resolution.startswith(CAUSED_BY)]
    deployed: list[News] = []
    if DEPLOYMENTS in about:
        candidates = (_deployment(operation, root_causes, now, forgotten) for operation in operations)
        deployed = [news for news in candidates if news is not None]
    reported = {news.cause.error.error_id for news in deployed if news.cause is not None}
    failed: list[News] = []
    if FAILURES in about:
        unreported = [cause for cause in root_causes if cause.error.error_id not in reported]
        errors = (_error(cause, _notifications_about(cause, root_causes), now, forgotten) for cause in unreported)
        failed = [news for news in errors if news is not None]
    return [*failed, *deployed]


def failure_of(cause: ReportedError) -> News:
    """Return the report of a failure, due or not."""
    return _news(cause, NotificationReason.FAILED)


def _notifications_about(cause: ReportedError, causes: Sequence[ReportedError]) -> SentNotifications:
    """Return what people were told of an error, or of the one whose ticket it took over."""
    if cause.reported.times or cause.ticket is None or _is_of_its_operation(cause):
        return cause.reported
    candidates = [other for other in causes if other.ticket is None and other.error.resolved_at is None]
    before = [other.reported for other in candidates if other.error.is_alike(cause.error)]
    return max(before, key=lambda notifications: notifications.times, default=cause.reported)


def _is_of_its_operation(cause: ReportedError) -> bool:
    """Whether an operation failed of an error, and its ticket is no older than that: nobody was told of it."""
    error, ticket = cause.error, cause.ticket
    return error.deployment_id is not None and ticket is not None and ticket.opened_at >= error.first_seen


def _error(cause: ReportedError, reported: SentNotifications, now: datetime, forgotten: timedelta) -> News | None:
    error = cause.error
    if error.resolved_at is not None:
        fresh = cause.executions and now - error.resolved_at < forgotten
        if reported.end_at is None and (reported.times or fresh):
            return _news(cause, NotificationReason.RECOVERED)
        return None
    running = any(
        execution.ended_at is None and now - execution.started_at < RUNNING_AT_MOST for execution in cause.executions
    )
    waits = cause.ticket is not None or bool(cause.executions)
    if running or not (waits or error.source == REFUSED):
        return None
    if reported.times == 0 or reported.last_at is None:
        return _news(cause, NotificationReason.FAILED)
    if waits and now - reported.last_at >= (FIRST_REMINDER if reported.times == 1 else REMINDER):
        return _news(cause, NotificationReason.REMINDER)
    return None


def _news(cause: ReportedError, occasion: NotificationReason) -> News:
    return News(occasion=occasion, environment=cause.error.environment, service=cause.error.service, cause=cause)


def _deployment(
    operation: Operation, causes: Sequence[ReportedError], now: datetime, forgotten: timedelta
) -> News | None:
    ended, record = operation.ended_at, operation.record
    if ended is None or now - ended >= forgotten or record.notified_at is not None:
        return None
    if operation.operation_type is OperationType.HEALTH_CHECK or record.error in _NO_DEPLOYMENT_FAILED:
        return None
    if operation.status is OperationStatus.SUCCESS:
        return News(occasion=NotificationReason.DEPLOYED, environment=operation.environment, operation=operation)
    cause = _cause_of(operation, causes)
    if cause is not None and cause.reported.last_at is not None and cause.reported.last_at >= operation.started_at:
        return None
    return News(
        occasion=NotificationReason.DEPLOYMENT_FAILED,
        environment=operation.environment,
        service=cause.error.service if cause else None,
        cause=cause,
        operation=operation,
    )


def _cause_of(operation: Operation, causes: Sequence[ReportedError]) -> ReportedError | None:
    """Return the error that an operation failed of, or None."""
    named = operation.record.error_id
    of_it = [
        cause
        for cause in causes
        if cause.error.error_id == named or cause.error.deployment_id == operation.deployment_id
    ]
    return of_it[0] if of_it else None
