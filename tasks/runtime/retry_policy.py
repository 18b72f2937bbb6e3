"""How patient tasks are: which failures are worth another try, and how long one try may take."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from models.failures import EngineUnreachableError, StoreBusyError, StoreFullError, StoreUnreachableError

WORTH_ANOTHER_TRY = (EngineUnreachableError, StoreBusyError, StoreFullError, StoreUnreachableError, TimeoutError)
"""A busy store or a silent engine may answer next time; bad input never gets better."""


async def _another_try_may_help(_task: Any, _run: Any, state: State[Any]) -> bool:
    # A failed task's state holds the exception itself, or a record of it where results are persisted.
    error = state.data
    return isinstance(error, WORTH_ANOTHER_TRY)


LOOK: dict[str, Any] = {
    "retries": 1,
    "retry_delay_seconds": [1],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _another_try_may_help,
    "timeout_seconds": 60,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""For a task that looks: looking twice must look twice."""

WRITE: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 2, 5],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _another_try_may_help,
    "timeout_seconds": 120,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""For a task that writes to a store: every write is keyed, so repeating it writes nothing twice."""

ACT: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""For a task that changes the world: it carries its own deadline and is not repeated blindly."""
