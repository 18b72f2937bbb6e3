"""Times of the week as moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from models.fields import TimeOfWeek

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_Declared = TypeVar("_Declared", bound=TimeOfWeek)


def times_around(
    declared: Iterable[_Declared], now: datetime, days: Sequence[int]
) -> Iterator[tuple[_Declared, datetime, datetime]]:
    """Yield each time of the week with its begin and end (UTC) on the days so far from today: -1 is yesterday."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for time_of_week in declared:
        for day in days:
            midnight = today + timedelta(days=day)
            if time_of_week.days and _DAYS[midnight.weekday()] not in time_of_week.days:
                continue
            begins = datetime.combine(midnight.date(), time_of_week.begins, UTC)
            ends = datetime.combine(midnight.date(), time_of_week.ends, UTC)
            yield time_of_week, begins, ends + (timedelta(days=1) if ends <= begins else timedelta())
