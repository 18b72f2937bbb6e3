"""What is done round after round all day is not recorded as a task run each time.

A recorded one costs its server 20 KB and more processor time than most looks take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from prefect import task

from tasks.runtime.retry_policy import WORTH_ANOTHER_TRY

P = ParamSpec("P")
R = TypeVar("R")

_in_rounds: ContextVar[bool] = ContextVar("in_rounds", default=False)


@contextmanager
def without_task_runs() -> Iterator[None]:
    """Within it what is `repeated` is done with the same patience, but leaves no task run."""
    token = _in_rounds.set(True)
    try:
        yield
    finally:
        _in_rounds.reset(token)


def repeated(**options: Any) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], RepeatedTask[P, R]]:
    """As the engine's `task`, for what a run that goes on for hours does again and again."""
    return lambda fn: RepeatedTask(fn, options)


class RepeatedTask(Generic[P, R]):
    """A task that is recorded, except within `without_task_runs`."""

    def __init__(self, fn: Callable[P, Coroutine[Any, Any, R]], options: dict[str, Any]) -> None:
        self.fn = fn
        self._options = options
        self._task = task(fn, **options)
        update_wrapper(self, fn)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it."""
        if not _in_rounds.get():
            return await self._task(*args, **kwargs)
        for delay in self._options["retry_delay_seconds"][: self._options["retries"]]:
            try:
                return await self._once(*args, **kwargs)
            except WORTH_ANOTHER_TRY:
                await asyncio.sleep(delay)
        return await self._once(*args, **kwargs)

    async def _once(self, *args: P.args, **kwargs: P.kwargs) -> R:
        async with asyncio.timeout(self._options["timeout_seconds"]):
            return await self.fn(*args, **kwargs)
