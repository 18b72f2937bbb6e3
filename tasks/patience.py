"""How patient tasks are: which failures are worth another try, and how long one try may take."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from models.failures import (
    BadInputError,
    ComposeError,
    EngineUnreachableError,
    StoreBusyError,
    StoreFullError,
)


async def _another_try_may_help(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A busy store or a silent engine may answer next time; bad input never gets better."""
    error = await state.result(raise_on_failure=False)
    return isinstance(error, EngineUnreachableError | StoreBusyError | StoreFullError | TimeoutError)


async def _not_by_itself(_task: Any, _run: Any, state: State[Any]) -> bool:
    error = await state.result(raise_on_failure=False)
    return not isinstance(error, BadInputError | ComposeError)


look = partial(
    task,
    retries=1,
    retry_delay_seconds=[1],
    retry_jitter_factor=0.5,
    retry_condition_fn=_another_try_may_help,
    timeout_seconds=60,
    cache_policy=NO_CACHE,
    persist_result=False,
)
"""For a task that looks: looking twice must look twice."""

write = partial(
    task,
    retries=3,
    retry_delay_seconds=[1, 2, 5],
    retry_jitter_factor=0.5,
    retry_condition_fn=_another_try_may_help,
    timeout_seconds=120,
    cache_policy=NO_CACHE,
    persist_result=False,
)
"""For a task that writes to a store: every write is keyed, so repeating it writes nothing twice."""

act = partial(task, cache_policy=NO_CACHE, persist_result=False)
"""For a task that changes the world: it carries its own deadline and is not repeated blindly."""
