"""Tasks without task runs: plain calls that keep their retry policy and need no Prefect server.

The agent watches many environments in one process, for as long as the machine runs. A task run for each read would be
written to a server that may be away, and would grow its database without end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from prefect import Task
from prefect.settings import PREFECT_API_URL
from prefect.utilities.annotations import BaseAnnotation

from tasks.runtime.retry_policy import RETRYABLE_ERRORS

_plain: ContextVar[bool] = ContextVar("without_task_runs", default=False)


@contextmanager
def without_task_runs() -> Iterator[None]:
    """Let tasks that are called in the body, and in what it begins, make no task runs."""
    _replace_call()
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def makes_task_runs() -> bool:
    """Whether a task called now would make a task run."""
    return not _plain.get()


def has_server() -> bool:
    """Whether there is a Prefect server to talk to: for a flow always, for the agent only where one is named."""
    return makes_task_runs() or PREFECT_API_URL.value() is not None


def _replace_call() -> None:
    """Put our own call before Prefect's, once a process; it has no setting for this."""
    original: Callable[..., Any] = Task.__call__
    if getattr(original, "may_be_plain", False):
        return

    @wraps(original)
    def call(self: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not _plain.get():
            return original(self, *args, **kwargs)
        # Annotations are for Prefect, which takes them off again.
        args, kwargs = tuple(map(_bare, args)), {name: _bare(value) for name, value in kwargs.items()}
        return _repeat(self, args, kwargs) if self.isasync else self.fn(*args, **kwargs)

    call.may_be_plain = True  # type: ignore[attr-defined]
    Task.__call__ = call  # type: ignore[method-assign]


def _bare(argument: Any) -> Any:
    return argument.unwrap() if isinstance(argument, BaseAnnotation) else argument


async def _repeat(task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a task's function as often as its policy says."""
    delays = _delays(task)
    for delay in (*delays, None):
        try:
            async with asyncio.timeout(task.timeout_seconds):
                return await task.fn(*args, **kwargs)
        except RETRYABLE_ERRORS:
            if delay is None or task.retry_condition_fn is None:
                raise
            await asyncio.sleep(delay * (1 + (task.retry_jitter_factor or 0) * random.random()))  # noqa: S311 - jitter
    raise AssertionError("the last try returns or raises")


def _delays(task: Task[..., Any]) -> list[float]:
    seconds = task.retry_delay_seconds
    delays = [float(delay) for delay in seconds] if isinstance(seconds, (list, tuple)) else [float(seconds or 0)]
    times = int(task.retries or 0)
    # As Prefect does, the last delay holds for all further tries.
    return (delays + delays[-1:] * times)[:times]
