"""Work that is kept running side by side: what fails or hangs is begun again, and others notice nothing."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from flows.agent.isolation import KeptRunning, Progress
from models.failures import EngineUnreachableError
from tasks.runtime.fair_threads import FairThreads, count_for_environment, current_environment

SOON = timedelta(seconds=5)


async def test_work_that_raises_is_begun_again_and_the_other_environment_goes_on() -> None:
    began: list[str] = []
    again, steps = asyncio.Event(), asyncio.Queue[int]()

    async def bad(_: Progress) -> None:
        began.append(current_environment())
        if len(began) == 3:
            again.set()
        raise EngineUnreachableError("unix:///nowhere", "refused")

    async def good(progress: Progress) -> None:
        for number in range(1_000_000):
            progress()
            await steps.put(number)
            await asyncio.sleep(0)

    kept = KeptRunning(pause_seconds=0)
    kept.begin("bad", "watch", bad)
    kept.begin("good", "watch", good)
    async with asyncio.timeout(10):
        await again.wait()
        seen = [await steps.get() for _ in range(5)]
    await kept.end_all(within=SOON)

    assert set(began) == {"bad"}
    assert seen == [0, 1, 2, 3, 4], "it was never begun anew"


async def test_work_that_hangs_is_cancelled_and_begun_again() -> None:
    began, ended = 0, 0
    again = asyncio.Event()

    async def hangs(_: Progress) -> None:
        nonlocal began, ended
        began += 1
        if began == 2:
            again.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    kept = KeptRunning(pause_seconds=0)
    kept.begin("shop", "watch", hangs, silent_for=timedelta(milliseconds=20))
    async with asyncio.timeout(10):
        await again.wait()
    await kept.end("shop", within=SOON)

    assert ended == began
    assert kept.environments() == frozenset()


async def test_work_that_refuses_to_be_cancelled_keeps_no_other_from_ending() -> None:
    release = asyncio.Event()

    async def stubborn(_: Progress) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    kept = KeptRunning()
    kept.begin("shop", "watch", stubborn)
    await asyncio.sleep(0)
    await kept.end("shop", within=timedelta(milliseconds=10))
    release.set()

    assert kept.environments() == frozenset()


async def test_a_failure_that_may_be_over_is_tried_again_at_once() -> None:
    began = asyncio.Queue[None]()

    async def bad(_: Progress) -> None:
        await began.put(None)
        raise OSError("no file")

    kept = KeptRunning(pause_seconds=3600)
    kept.begin("shop", "watch", bad)
    async with asyncio.timeout(10):
        await began.get()
        while began.empty():
            kept.hurry("shop")
            await asyncio.sleep(0)
    await kept.end_all(within=SOON)


async def test_one_key_is_kept_running_once() -> None:
    async def work(_: Progress) -> None:
        await asyncio.Event().wait()

    kept = KeptRunning()
    kept.begin("shop", "watch", work)
    with pytest.raises(ValueError, match="watch of shop"):
        kept.begin("shop", "watch", work)
    await kept.end_all(within=SOON)


async def test_calls_that_hang_take_no_thread_from_another_environment() -> None:
    release, loop = threading.Event(), asyncio.get_running_loop()
    threads = FairThreads(each=2, at_most=8)

    def call(name: str, what: object) -> asyncio.Future[object]:
        with count_for_environment(name):
            return loop.run_in_executor(threads, what)  # type: ignore[arg-type]

    hanging = [call("slow", release.wait) for _ in range(20)]
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(call("fast", lambda: "done") for _ in range(20)))
        waiting = threads.count_waiting("slow")
        release.set()
        await asyncio.gather(*hanging)

    assert answers == ["done"] * 20
    assert waiting == 18
    assert threads.count_waiting("slow") == 0


async def test_a_call_that_fails_lets_the_next_one_run() -> None:
    threads, loop = FairThreads(each=1, at_most=1), asyncio.get_running_loop()

    def fail() -> None:
        raise ValueError("no")

    with count_for_environment("shop"):
        failed, done = loop.run_in_executor(threads, fail), loop.run_in_executor(threads, lambda: 7)
    with pytest.raises(ValueError, match="no"):
        await failed

    assert await done == 7
