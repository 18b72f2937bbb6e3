"""The public status page of an environment, and the records that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from models.health import HealthReport
from models.overview import HealthVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRecords:
    """What a status page is made of. Reports are oldest first; `planned` are times it was stopped on request.

    `measured_hours` are the begins of hours in which the environment was measured: of others nothing is known.
    `checked_at` is when its health was last confirmed, `stopped_at` when it was stopped on request, if it is.
    """

    now: datetime
    reports: tuple[HealthReport, ...] = ()
    measured_hours: frozenset[datetime] = frozenset()
    planned: tuple[tuple[datetime, datetime], ...] = ()
    checked_at: datetime | None = None
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfUptime:
    """One UTC day of a service: percent of the known time in which it worked; None where nothing is known."""

    day: date
    percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicService:
    """A service as visitors see it. `percent` is over all of `days`, the oldest first."""

    name: str
    verdict: HealthVerdict
    days: tuple[DayOfUptime, ...]
    percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicIncident:
    """A time in which a service did not work; `ended_at` is None while it does not."""

    service: str
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """A status page at one moment. Incidents are the latest first."""

    title: str
    at: datetime
    verdict: HealthVerdict
    checked_at: datetime | None
    services: tuple[PublicService, ...]
    incidents: tuple[PublicIncident, ...]
