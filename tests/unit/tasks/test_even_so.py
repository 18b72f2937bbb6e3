"""What was begun is waited for, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tasks.runtime.task import finish_even_so


async def test_what_was_begun_has_ended_when_its_caller_is_cancelled() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), False

    async def stop() -> None:
        nonlocal ended
        begun.set()
        await may_end.wait()
        ended = True

    caller = asyncio.create_task(finish_even_so(stop()))
    await begun.wait()
    caller.cancel()
    asyncio.get_running_loop().call_soon(may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended


async def test_its_answer_and_its_error_reach_the_caller() -> None:
    async def answer(divisor: int) -> float:
        return 1 / divisor

    assert await finish_even_so(answer(1)) == 1
    with pytest.raises(ZeroDivisionError):
        await finish_even_so(answer(0))


async def test_the_error_of_what_lost_its_caller_is_reported_by_no_loop() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await cancelled.wait()
        raise ValueError

    caller = asyncio.create_task(finish_even_so(fail(), cancelled.set))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    del caller
    gc.collect()
    assert reported == []
