"""Compute the maintenance windows that an environment declares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from models.environments import Maintenance

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """A time without alerts of a service, or of all services if `service` is None."""

    begins: datetime
    ends: datetime
    service: str | None = None

    def covers(self, service: str, at: datetime) -> bool:
        """Whether a service is under maintenance at this moment."""
        return self.service in {None, service} and self.begins <= at < self.ends


def maintenance_windows(declared: Iterable[Maintenance], now: datetime) -> list[MaintenanceWindow]:
    """Return the declared windows of today and yesterday (UTC), which may cover this moment."""
    windows = []
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for one in declared:
        for midnight in (today - timedelta(days=1), today):
            if one.days and _DAYS[midnight.weekday()] not in one.days:
                continue
            begins = datetime.combine(midnight.date(), one.begins, UTC)
            ends = datetime.combine(midnight.date(), one.ends, UTC)
            ends += timedelta(days=1) if ends <= begins else timedelta()
            windows += [MaintenanceWindow(begins=begins, ends=ends, service=name) for name in one.services or (None,)]
    return windows
