"""Decide when what is due is sent, and what goes together into one message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.common.weekly import times_around
from models.environments import QuietHours
from models.errors import Category, Severity
from models.notifications import News, NotificationReason, ReportedError

SINGLE = 3
"""So many news at once are messages of their own; more are one digest."""

STORM = timedelta(minutes=5)
"""Within this time at most SINGLE messages are sent; what is due more waits and is one digest."""

HOUR = timedelta(hours=1)
MOST_AN_HOUR = 12
"""So many messages a channel gets within an hour; what is due more waits."""

FLAPS = 4
"""A service that failed so often within an hour is flapping: one message with the count, every half hour."""

FLAPPING_EVERY = timedelta(minutes=30)

NO_QUIET_HOURS: Mapping[str, Sequence[QuietHours]] = {}
_Service = tuple[str, str]
"""An environment and a service of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """News of one message. `flaps` is how often its service failed within an hour, 0 where it is not flapping."""

    news: tuple[News, ...]
    flaps: int = 0


def pace(
    news: Sequence[News],
    causes: Sequence[ReportedError],
    sent: Sequence[datetime],
    now: datetime,
    quiet: Mapping[str, Sequence[QuietHours]] = NO_QUIET_HOURS,
) -> list[Batch]:
    """Group what is due into messages; what is not in them waits, and is due again the next time.

    `causes` are all errors that are open or ended within the last hour, `sent` the moments of the messages that the
    channel got within the last hour, `quiet` the quiet hours of each environment. What is critical never waits. In
    quiet hours the rest does, until their end. The first failure of a cause in an hour is also reported of a service
    that is flapping.
    """
    urgent = [report for report in news if is_critical(report)]
    ordinary = [
        report for report in news if not is_critical(report) and not _is_quiet(quiet.get(report.environment, ()), now)
    ]
    flapping: list[Batch] = []
    for key, flaps in _flapping_services(causes, now).items():
        of_it = [
            report
            for report in ordinary
            if (report.environment, report.service) == key and not _is_first(report, causes, now)
        ]
        ordinary = [report for report in ordinary if report not in of_it]
        if of_it and now - _last_reported(of_it, causes, key, now) >= FLAPPING_EVERY:
            flapping.append(Batch(news=tuple(of_it), flaps=flaps))
    if sum(now - at < STORM for at in sent) >= SINGLE or len(sent) >= MOST_AN_HOUR:
        return _group(urgent)
    just_ended = any(_ended_lately(quiet.get(report.environment, ()), now) for report in ordinary)
    return [*flapping, *_group([*urgent, *ordinary], single=1 if just_ended else SINGLE)]


def _is_quiet(declared: Iterable[QuietHours], now: datetime) -> bool:
    return any(begins <= now < ends for begins, ends in quiet_times(declared, now))


def _ended_lately(declared: Iterable[QuietHours], now: datetime) -> bool:
    return any(ends <= now < ends + HOUR for _, ends in quiet_times(declared, now))


def quiet_times(declared: Iterable[QuietHours], now: datetime) -> list[tuple[datetime, datetime]]:
    """Return begin and end of the quiet hours of today and the two days before (UTC)."""
    return [(begins, ends) for _, begins, ends in times_around(declared, now, (-2, -1, 0))]


def span_to_remember(declared: Iterable[QuietHours], now: datetime, usual: timedelta) -> timedelta:
    """Return how long ago what ended may have ended to be reported: quiet hours add to it."""
    begins = [begin for begin, end in quiet_times(declared, now) if begin <= now < end + usual]
    return usual + max((now - begin for begin in begins), default=timedelta())


def is_critical(news: News) -> bool:
    """Whether news is reported at once at any hour: the host, all services or data are at risk."""
    return news.cause is not None and news.cause.error.verdict.severity is Severity.CRITICAL


def _group(news: Sequence[News], single: int = SINGLE) -> list[Batch]:
    if len(news) <= single:
        return [Batch(news=(report,)) for report in news]
    return [Batch(news=tuple(news))]


def _flapping_services(causes: Iterable[ReportedError], now: datetime) -> dict[_Service, int]:
    counts: dict[_Service, int] = {}
    for error in (cause.error for cause in causes):
        if error.service is not None and now - error.first_seen < HOUR:
            key = error.environment, error.service
            counts[key] = counts.get(key, 0) + 1
    return {key: count for key, count in counts.items() if count >= FLAPS}


def _is_first(news: News, causes: Iterable[ReportedError], now: datetime) -> bool:
    """Whether news is of a failure whose cause was not reported within the last hour."""
    if news.occasion is not NotificationReason.FAILED or news.cause is None:
        return False
    return not any(
        _kind_of(cause) == _kind_of(news.cause) and at is not None and now - at < HOUR
        for cause in causes
        for at in (cause.reported.last_at, cause.reported.end_at)
    )


def _kind_of(cause: ReportedError) -> tuple[str, str | None, Category, str | None]:
    error, verdict = cause.error, cause.error.verdict
    return error.environment, error.service, verdict.category, verdict.template or verdict.pattern_name


def _last_reported(news: Iterable[News], causes: Iterable[ReportedError], key: _Service, now: datetime) -> datetime:
    """Return when a service was last reported; that it is healthy again holds no failure back."""
    of_failures = any(report.occasion is not NotificationReason.RECOVERED for report in news)
    moments = [
        at
        for cause in causes
        if (cause.error.environment, cause.error.service) == key
        for at in (cause.reported.last_at, None if of_failures else cause.reported.end_at)
        if at is not None
    ]
    return max(moments, default=now - FLAPPING_EVERY)
