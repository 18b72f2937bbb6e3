"""Decide which failures to notify people of, and write the messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from models.errors import RecordedError
from models.recovery import Notification, NotificationReason, ReportedError

FIRST_REMINDER = timedelta(hours=1)
REMINDER = timedelta(hours=4)
FORGOTTEN = timedelta(hours=1)
"""An error that ended this long before its notification is not notified."""

RUNNING_AT_MOST = timedelta(minutes=15)
"""A recovery that has not ended by then will not; its runner is gone."""

_BODY = 1500
"""Discord takes 2000 characters, with the subject."""


def due(causes: Iterable[ReportedError], now: datetime) -> list[Notification]:
    """Return one notification for each cause that is due.

    Notified are failures with a ticket or a recovery attempt: once, again after one hour and then every four hours
    while they last, and when they end. A failure that ended before its notification is one notification, not two.
    While a recovery runs nothing is sent, since it may resolve the failure.
    """
    found = [_due(cause, now) for cause in causes]
    return [notice for notice in found if notice is not None]


def _due(cause: ReportedError, now: datetime) -> Notification | None:
    error, reported = cause.error, cause.reported
    if error.resolved_at is not None:
        fresh = cause.executions and now - error.resolved_at < FORGOTTEN
        if reported.end_at is None and (reported.times or fresh):
            return _notice(cause, NotificationReason.RECOVERED, f"{_name(error)} is healthy again", _recovered(cause))
        return None
    running = any(one.ended_at is None and now - one.started_at < RUNNING_AT_MOST for one in cause.executions)
    if running or (cause.ticket is None and not cause.executions):
        return None
    if reported.times == 0 or reported.last_at is None:
        return _notice(
            cause, NotificationReason.FAILED, f"{_name(error)} needs help: {error.verdict.category}", _failed(cause)
        )
    if now - reported.last_at >= (FIRST_REMINDER if reported.times == 1 else REMINDER):
        lasts = f"{_name(error)} has needed help for {_lasted(now - error.first_seen)}"
        return _notice(cause, NotificationReason.REMINDER, lasts, _failed(cause))
    return None


def _notice(cause: ReportedError, occasion: NotificationReason, subject: str, body: str) -> Notification:
    error = cause.error
    return Notification(
        error_id=error.error_id,
        environment=error.environment,
        service=error.service,
        occasion=occasion,
        subject=subject,
        body=body if len(body) <= _BODY else f"{body[: _BODY - 1]}…",
        reported_before=cause.reported,
    )


def _failed(cause: ReportedError) -> str:
    error = cause.error
    lines = [error.text, f"Seen {error.how_often} since {_moment(error.first_seen)}."]
    lines += [f"Tried: {one.final_status}" for one in list(cause.executions)[-1:]]
    if cause.ticket is not None:
        lines += [f"Ticket {cause.ticket.ticket_id}:", *cause.ticket.steps]
    lines.append(
        f"More: roas ticket {cause.ticket.ticket_id}" if cause.ticket else f"More: roas status {error.environment}"
    )
    return "\n".join(lines)


def _recovered(cause: ReportedError) -> str:
    error = cause.error
    took = _lasted((error.resolved_at or error.last_seen) - error.first_seen)
    ways = f" ({cause.resolution})" if cause.resolution else ""
    return f"{error.text}\nIt was over after {took}{ways}; it began {_moment(error.first_seen)}."


def _name(error: RecordedError) -> str:
    return f"{error.service} of {error.environment}" if error.service else error.environment


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _lasted(time: timedelta) -> str:
    seconds = max(0.0, time.total_seconds())
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
