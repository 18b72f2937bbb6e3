"""Make a public status page of recorded health: verdicts, incidents, and uptime by day. It tells no cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta

from core.reporting.overview import STALE_AFTER
from models.health import UNHEALTHY_STATES, ServiceHealth
from models.overview import HealthVerdict, VerdictLevel
from models.status_page import StatusPage
from models.status_view import DayOfUptime, PublicIncident, PublicService, StatusRecords, StatusView

DAYS = 90
"""How many days the page looks back."""

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MOST_INCIDENTS = 20
_WORKS = HealthVerdict(words="works", level=VerdictLevel.GOOD)
_IMPAIRED = HealthVerdict(words="works with problems", level=VerdictLevel.WARNING)
_DOWN = HealthVerdict(words="does not work", level=VerdictLevel.BAD)
_OFF = HealthVerdict(words="switched off on purpose", level=VerdictLevel.OFF)
_UNKNOWN = HealthVerdict(words="not known", level=VerdictLevel.UNKNOWN)
_UNPROVEN = HealthVerdict(words="runs, not proven", level=VerdictLevel.UNPROVEN)
_WORST_FIRST = (_DOWN, _IMPAIRED, _OFF, _UNKNOWN, _UNPROVEN, _WORKS)
_VERDICTS = {
    ServiceHealth.HEALTHY: _WORKS,
    ServiceHealth.COMPLETED: _WORKS,
    ServiceHealth.DEGRADED: _IMPAIRED,
    ServiceHealth.STARTING: _IMPAIRED,
    ServiceHealth.UNHEALTHY: _DOWN,
    ServiceHealth.STOPPED: _DOWN,
    ServiceHealth.UNPROVEN: _UNPROVEN,
    ServiceHealth.UNKNOWN: _UNKNOWN,
}

Span = tuple[datetime, datetime]


def status_view(page: StatusPage, records: StatusRecords) -> StatusView:
    """The page of the services that an environment's file names, and of no other.

    A service is down from a report that calls it unhealthy or stopped to the next that does not. A time in which the
    environment was stopped on request is neither up nor down, and of an hour that nothing measured nothing is known.
    """
    services, incidents = [], []
    for service, name in page.services.items():
        outages = _outages(service, records)
        services.append(_service(name, service, outages, records))
        incidents += [
            PublicIncident(service=name, began_at=begins, ended_at=None if ends >= records.now else ends)
            for begins, ends in outages
        ]
    latest = sorted(incidents, key=lambda incident: incident.began_at, reverse=True)
    return StatusView(
        title=page.title,
        at=records.now,
        verdict=min((service.verdict for service in services), key=_WORST_FIRST.index),
        checked_at=records.checked_at,
        services=tuple(services),
        incidents=tuple(latest[:_MOST_INCIDENTS]),
    )


def _service(name: str, service: str, outages: Sequence[Span], records: StatusRecords) -> PublicService:
    today = records.now.date()
    days = [today - place * _DAY for place in range(DAYS - 1, -1, -1)]
    times = [_known_and_down(day, outages, records) for day in days]
    observed, down = (sum((part[place] for part in times), timedelta()) for place in (0, 1))
    return PublicService(
        name=name,
        verdict=_verdict(service, records),
        days=tuple(DayOfUptime(day=day, percent=_percent(*spent)) for day, spent in zip(days, times, strict=True)),
        percent=_percent(observed, down),
    )


def _verdict(service: str, records: StatusRecords) -> HealthVerdict:
    if records.stopped_at is not None:
        return _OFF
    if not records.reports or records.checked_at is None or records.now - records.checked_at > STALE_AFTER:
        return _UNKNOWN
    health = {verdict.service: verdict.health for verdict in records.reports[-1].services}
    return _VERDICTS[health.get(service, ServiceHealth.UNKNOWN)]


def _outages(service: str, records: StatusRecords) -> list[Span]:
    """The times in which a service did not work, oldest first, without those planned."""
    outages: list[Span] = []
    began: datetime | None = None
    for report in records.reports:
        if not report.services:
            # The engine was away: nothing was judged.
            continue
        is_down = any(verdict.service == service and verdict.health in UNHEALTHY_STATES for verdict in report.services)
        if is_down and began is None:
            began = report.checked_at
        elif not is_down and began is not None:
            outages.append((began, report.checked_at))
            began = None
    if began is not None:
        outages.append((began, records.now))
    return [part for outage in outages for part in _without(outage, records.planned)]


def _without(span: Span, excluded: Iterable[Span]) -> list[Span]:
    """A span without the parts that are excluded."""
    parts = [span]
    for begins, ends in excluded:
        cut = [((first, min(last, begins)), (max(first, ends), last)) for first, last in parts]
        parts = [part for both in cut for part in both if part[0] < part[1]]
    return parts


def _known_and_down(day: date, outages: Sequence[Span], records: StatusRecords) -> tuple[timedelta, timedelta]:
    """How long of a UTC day something is known of, and how long of that the service did not work."""
    begins = datetime.combine(day, time(), tzinfo=UTC)
    whole = (begins, min(begins + _DAY, records.now))
    hours = [
        (begin, min(begin + _HOUR, whole[1]))
        for begin in (begins + place * _HOUR for place in range(24))
        if begin in records.measured_hours and begin < whole[1]
    ]
    down = [(max(first, whole[0]), min(last, whole[1])) for first, last in outages]
    down = [part for part in down if part[0] < part[1]]
    # What a report said before an outage was measured counts, too: the outage itself is known.
    observed = [part for hour in hours for part in _without(hour, [*records.planned, *down])]
    down_for = sum((last - first for first, last in down), timedelta())
    return sum((last - first for first, last in observed), timedelta()) + down_for, down_for


def _percent(observed: timedelta, down: timedelta) -> float | None:
    return None if not observed else 100 * (1 - down / observed)
