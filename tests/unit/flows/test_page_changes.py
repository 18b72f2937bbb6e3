"""One reader reports changes to open pages, in bounded memory, and nothing is read while none is open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from flows.page.live import EVERYTHING, ChangeHub, Subscriber
from models.failures import StoreError


class _Readings:
    """What each read of the stores finds, one after the other; then nothing."""

    def __init__(self, readings: Iterable[frozenset[str] | StoreError]) -> None:
        self._readings = iter(readings)
        self.count = 0

    def __call__(self) -> frozenset[str]:
        self.count += 1
        reading = next(self._readings, frozenset())
        if isinstance(reading, StoreError):
            raise reading
        return reading


async def _follow(hub: ChangeHub, most: int) -> list[list[str]]:
    reports, follow = [], hub.follow()
    async for names in follow:
        reports.append(names)
        if len(reports) == most:
            break
    await follow.aclose()
    return reports


async def test_one_reader_reports_to_every_open_page() -> None:
    readings = _Readings([frozenset()] * 3 + [frozenset({"shop"})])
    hub = ChangeHub(readings, every=0)

    reports = await asyncio.gather(*(_follow(hub, 1) for _ in range(20)))

    assert reports == [[["shop"]]] * 20


async def test_nothing_is_read_once_the_last_page_is_closed() -> None:
    hub = ChangeHub(_Readings([frozenset({"shop"})]), every=0)

    await _follow(hub, 1)

    assert hub.open_pages == 0
    await asyncio.wait_for(_until_idle(hub), 10)


async def _until_idle(hub: ChangeHub) -> None:
    while hub.is_reading:  # noqa: ASYNC110 - the loop ends its task within a few turns
        await asyncio.sleep(0)


async def test_a_page_that_reads_slowly_has_bounded_news() -> None:
    subscriber = Subscriber()

    for number in range(100_000):
        subscriber.put(frozenset({f"environment-{number}"}))

    names = await subscriber.take(within=10)
    assert EVERYTHING in names
    assert len(names) <= 1000


async def test_a_page_without_news_gets_a_sign_of_life() -> None:
    assert await Subscriber().take(within=0.001) == []


async def test_a_page_that_is_open_for_too_long_is_closed() -> None:
    hub = ChangeHub(_Readings([]), every=0)

    reports = [names async for names in hub.follow(most_seconds=0.05)]

    assert all(names == [] for names in reports)
    assert hub.open_pages == 0


async def test_stores_that_are_away_change_everything_once_and_again_when_they_are_back() -> None:
    away = StoreError("The stores do not answer;", advice="wait.")
    hub = ChangeHub(_Readings([away, away, frozenset()]), every=0)

    assert await _follow(hub, 2) == [[EVERYTHING], [EVERYTHING]]
