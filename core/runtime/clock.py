"""Decide when what is scheduled is due, in the time of its zone, as the Prefect server does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from heapq import heappop, heappush
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from models.failures import BadInputError

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_DAY = "|".join(_DAYS)
_ON_DAYS = re.compile(rf"every (day|(?:{_DAY})(?:, ?(?:{_DAY}))*) (?:at )?([01]?\d|2[0-3]):([0-5]\d)")
_EVERY = re.compile(r"every (?:(\d{1,2}) )?(minute|hour)s?")
_PARTS_OF = {"minute": 60, "hour": 24}
_FIELDS = re.compile(r"[\d*,/a-z-]+( [\d*,/a-z-]+){4}")
_LEFT_OUT = timedelta(hours=3)
"""No zone leaves out more at once; Samoa did last, a whole day, in December 2011."""

_ADVICE = 'write "every day 03:00 Europe/Berlin", "every monday, thursday 03:00", "every 15 minutes" or "0 3 * * *".'


@dataclass(frozen=True, slots=True)
class Times:
    """When a schedule is due: the five fields of cron, in a time zone."""

    cron: str
    zone: str

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The moments (UTC) after one at which it is due, in order.

        A time that its zone leaves out, as clocks go forward, is due by as much later; one that is there twice, as they
        go back, is due the first time alone. So does Prefect's CronSchedule.
        """
        zone, latest, waiting = ZoneInfo(self.zone), moment, list[datetime]()
        wall = moment.astimezone(zone).replace(tzinfo=None)
        for next_wall in CronSim(self.cron, wall - _LEFT_OUT):
            due = next_wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
            heappush(waiting, due)
            # What was left out may come after a later time of the wall.
            while waiting and due - waiting[0] >= _LEFT_OUT:
                if (first := heappop(waiting)) > latest:
                    latest = first
                    yield first

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """The moments after one and until another at which it is due."""
        moments = []
        for due in self.after(after):
            if due > until:
                break
            moments.append(due)
        return moments


@lru_cache(maxsize=256)
def read_times(text: str) -> Times:
    """Read when a schedule is due.

    Raises:
        BadInputError: The words are not understood, or name a zone or a day that does not exist.
    """
    words = text.strip().split()
    zone = "UTC"
    if words and (("/" in words[-1] and words[-1][0].isupper()) or words[-1] == "UTC"):
        zone = words.pop()
    # Prefect takes 5-5 for every number.
    spec = re.sub(r"\b(\w+)-\1\b", r"\1", " ".join(words).lower())
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInputError(f"{zone!r} is no time zone;", advice="take one such as Europe/Berlin, or UTC.") from error
    times = Times(_as_cron(spec, text), zone)
    try:
        next(iter(CronSim(times.cron, datetime(2000, 1, 1))))  # noqa: DTZ001 - a time of the wall
    except (CronSimError, StopIteration) as error:
        raise BadInputError(
            f"{text!r} is no time of a schedule: it never comes, or cron does not know it;", advice=_ADVICE
        ) from error
    return times


def _as_cron(spec: str, text: str) -> str:
    if (on_days := _ON_DAYS.fullmatch(spec)) is not None:
        days, hour, minute = on_days.groups()
        numbers = [str(_DAYS.index(day.strip())) for day in days.split(",")] if days != "day" else ["*"]
        return f"{int(minute)} {int(hour)} * * {','.join(sorted(set(numbers)))}"
    if (every := _EVERY.fullmatch(spec)) is not None:
        count, part = int(every[1] or 1), every[2]
        if not count or _PARTS_OF[part] % count:
            whole = "an hour" if part == "minute" else "a day"
            raise BadInputError(
                f"{text!r} does not divide {whole};", advice=f"take a number of {part}s that {whole} is a multiple of."
            )
        step = "*" if count == 1 else f"*/{count}" if count < _PARTS_OF[part] else "0"
        return f"{step} * * * *" if part == "minute" else f"0 {step} * * *"
    fields = spec.split()
    if _FIELDS.fullmatch(spec) is None:
        raise BadInputError(f"{text!r} is no time of a schedule;", advice=_ADVICE)
    days, weekdays = fields[2], fields[4]
    if "*" not in (days, weekdays) and (days.startswith("*") or weekdays.startswith("*")):
        raise BadInputError(
            f"{text!r} names days of the month and of the week, one by a step, which programs read differently;",
            advice="name the days, such as 0 3 1,15 * 1.",
        )
    return spec
