"""Retry policies: which failures a repeat may cure, how often a call is repeated, and how long one try may take.

A task takes its policy as options of Prefect (`@task(**READ)`), a plain coroutine function as a decorator
(`@retry_read`): it is called all day, reads our own stores or only keeps the record, and is worth no task run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from models.failures import (
    EngineUnreachableError,
    SourceUnreachableError,
    StoreBusyError,
    StoreFullError,
    StoreUnreachableError,
)

P = ParamSpec("P")
R = TypeVar("R")

RETRYABLE_ERRORS = (
    EngineUnreachableError,
    SourceUnreachableError,
    StoreBusyError,
    StoreFullError,
    StoreUnreachableError,
    TimeoutError,
)
"""A busy store or a silent engine may answer next time; bad input never gets better."""

_JITTER = 0.5


async def _is_retryable(_task: Any, _run: Any, state: State[Any]) -> bool:
    # A failed task's state holds the exception itself, or a record of it where results are persisted.
    return isinstance(state.data, RETRYABLE_ERRORS)


EFFECT: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""For a task that changes the application: it carries its own deadline and is not repeated blindly."""

READ: dict[str, Any] = EFFECT | {
    "retries": 1,
    "retry_delay_seconds": [1],
    "retry_jitter_factor": _JITTER,
    "retry_condition_fn": _is_retryable,
    "timeout_seconds": 60,
}
"""For a task that reads the engine, Compose or the host."""

WRITE: dict[str, Any] = READ | {"retries": 3, "retry_delay_seconds": [1, 2, 5], "timeout_seconds": 120}
"""For a task that writes to a store: every write is keyed, so repeating it writes nothing twice."""


def repeat(
    call: Callable[P, Coroutine[Any, Any, R]], delays: Sequence[float], timeout_seconds: float | None
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Repeat a plain coroutine function after each delay where it fails of what may pass; each try has a time limit."""

    async def one_try(*args: P.args, **kwargs: P.kwargs) -> R:
        async with asyncio.timeout(timeout_seconds):
            return await call(*args, **kwargs)

    def drawn_delay(tries: int) -> float:
        delay = (*delays, 0)[tries]
        return random.uniform(delay, delay * (1 + _JITTER))  # noqa: S311 - no secret

    @wraps(call)
    async def first_try(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await one_try(*args, **kwargs)
        except RETRYABLE_ERRORS:
            if not delays:
                raise
        await asyncio.sleep(drawn_delay(0))
        # Not before: nearly all calls go well, and to prepare the repetition takes longer than many of them.
        repeated = retry(
            retry=retry_if_exception_type(RETRYABLE_ERRORS),
            stop=stop_after_attempt(len(delays)),
            wait=lambda state: drawn_delay(state.attempt_number),
            reraise=True,
        )(one_try)
        return await repeated(*args, **kwargs)

    return first_try


def make_async(call: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a blocking function a coroutine function, which runs it in a thread."""

    @wraps(call)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(call, *args, **kwargs)

    return run


def retry_read(call: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Repeat a plain coroutine function as `READ` repeats a task."""
    return repeat(call, READ["retry_delay_seconds"], READ["timeout_seconds"])


def retry_write(call: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Repeat a plain coroutine function as `WRITE` repeats a task."""
    return repeat(call, WRITE["retry_delay_seconds"], WRITE["timeout_seconds"])
