"""When schedules are due: words, cron, summer time, and the same as Prefect's own clock."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from prefect.server.schemas.schedules import CronSchedule

from core.runtime.clock import read_times
from models.failures import BadInputError

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca", "Pacific/Chatham")
CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
)
"""When clocks are changed in Berlin, New York and on Lord Howe Island."""


@pytest.mark.parametrize(
    ("text", "cron", "zone"),
    [
        ("every day 03:00 Europe/Berlin", "0 3 * * *", "Europe/Berlin"),
        ("Every Day at 3:05", "5 3 * * *", "UTC"),
        ("every monday, thursday 23:59 UTC", "59 23 * * 1,4", "UTC"),
        ("every minute", "* * * * *", "UTC"),
        ("every 15 minutes", "*/15 * * * *", "UTC"),
        ("every 60 minutes", "0 * * * *", "UTC"),
        ("every hour", "0 * * * *", "UTC"),
        ("every 6 hours America/New_York", "0 */6 * * *", "America/New_York"),
        ("every 24 hours", "0 0 * * *", "UTC"),
        ("0 3 * * MON-FRI", "0 3 * * mon-fri", "UTC"),
        ("5-5 3 * * *", "5 3 * * *", "UTC"),
    ],
)
def test_words_are_read_as_cron_in_a_zone(text: str, cron: str, zone: str) -> None:
    times = read_times(text)
    assert (times.cron, times.zone) == (cron, zone)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sometimes", "'sometimes' is no time of a schedule"),
        ("", "'' is no time of a schedule"),
        ("every day 24:00", "is no time of a schedule"),
        ("every 7 minutes", "does not divide an hour"),
        ("every 0 hours", "does not divide a day"),
        ("0 0 31 2 *", "it never comes"),
        ("0 3 * *", "is no time of a schedule"),
        ("0 0 3 * * *", "is no time of a schedule"),
        ("61 3 * * *", "cron does not know it"),
        ("0 3 */2 * 1", "which programs read differently"),
        ("every day 03:00 Mars/Base", "'Mars/Base' is no time zone"),
        ("0 3 L * *; rm", "is no time of a schedule"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(BadInputError) as refused:
        read_times(text)
    assert said in str(refused.value)
    assert refused.value.advice


def test_a_time_that_summer_time_leaves_out_comes_an_hour_later_and_one_that_is_there_twice_comes_once() -> None:
    times = read_times("every day 02:30 Europe/Berlin")
    spring = times.between(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC))
    autumn = times.between(datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC))
    assert [f"{due:%d %H:%M}" for due in spring] == ["28 01:30", "29 01:30", "30 00:30"]
    assert [f"{due:%d %H:%M}" for due in autumn] == ["24 00:30", "25 00:30", "26 01:30"]


def _field(draw: random.Random, low: int, high: int) -> str:
    kind = draw.randrange(6)
    first, last = sorted(draw.sample(range(low, high + 1), 2))
    return ("*", "*", f"*/{draw.randint(2, 12)}", str(first), f"{first}-{last}", f"{first},{last}")[kind]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_due_when_the_prefect_server_begins_its_runs(seed: int) -> None:
    draw, compared = random.Random(seed), 0
    while compared < 60:
        days = draw.choice(["*", _field(draw, 1, 28)])
        weekdays = "*" if days != "*" else draw.choice(["*", _field(draw, 0, 6)])
        cron = (
            f"{_field(draw, 0, 59)} {_field(draw, 0, 23)} {days} {draw.choice(['*', _field(draw, 1, 12)])} {weekdays}"
        )
        zone = draw.choice(ZONES)
        after = draw.choice(CHANGES) + timedelta(minutes=draw.randint(-180, 180))
        times = read_times(f"{cron} {zone}")
        schedule = CronSchedule(cron=times.cron, timezone=zone)
        theirs = asyncio.run(schedule.get_dates(n=12, start=after + timedelta(seconds=1)))
        assert list(islice(times.after(after), len(theirs))) == [due.astimezone(UTC) for due in theirs], (cron, zone)
        compared += 1
