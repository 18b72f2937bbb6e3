"""The simulated machine itself: time, threads, kills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.simulation import kernel
from tests.simulation.clock import BEGIN, Clock, datetime_by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(clock: Clock) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on a loop by the virtual clock."""
    loop = kernel.Loop(clock)
    kernel.use(loop)
    return loop.run_until_complete


def test_a_day_passes_where_something_waits_for_it(clock: Clock, run: Any) -> None:
    run(asyncio.sleep(86_400))
    assert clock.seconds == pytest.approx(86_400)
    moment = datetime_by(clock).now(BEGIN.tzinfo)
    assert (moment - BEGIN).days == 1
    assert isinstance(moment, datetime_by(clock))


def test_threads_wait_beside_each_other(clock: Clock, run: Any) -> None:
    async def two() -> None:
        await asyncio.gather(asyncio.to_thread(kernel.sleep, 5), asyncio.to_thread(kernel.sleep, 3))

    run(two())
    assert clock.seconds == pytest.approx(5)


def test_a_killed_process_does_nothing_more_and_its_lock_is_free(run: Any) -> None:
    lock, process, ended = kernel.Lock(), kernel.Process(7, "victim"), []

    def hold() -> None:
        try:
            lock.acquire()
            kernel.sleep(60)
        finally:
            ended.append("thread")

    async def victim() -> None:
        try:
            await asyncio.to_thread(hold)
        finally:
            ended.append("task")

    async def kill_it() -> bool:
        kernel.run_in(process, victim())
        await asyncio.sleep(1)
        assert lock.locked()
        kernel.kill(process)
        await asyncio.sleep(120)
        return await asyncio.to_thread(lock.acquire, blocking=False)

    assert run(kill_it())
    assert ended == []


def test_a_process_is_killed_at_a_statement(run: Any) -> None:
    process, statements = kernel.Process(8, "victim"), []
    process.statements_until_kill = 2

    def write() -> None:
        for number in range(5):
            kernel.note_statement()
            statements.append(number)

    async def write_all() -> None:
        kernel.run_in(process, asyncio.to_thread(write))
        await asyncio.sleep(1)

    run(write_all())
    assert statements == [0, 1]
    assert process.is_dead
