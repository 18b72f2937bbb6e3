"""The decorator of our tasks: a task run inside a Prefect run, else a plain call with the same retry policy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Task
from prefect.utilities.annotations import opaque

from tasks.runtime.plain_tasks import makes_task_runs
from tasks.runtime.retry_policy import repeat

if TYPE_CHECKING:
    from prefect import task
else:

    def task(**options: Any) -> Any:
        """Make a task of a coroutine function, with Prefect's options."""
        return lambda function: _Task(fn=function, **options)


P = ParamSpec("P")
R = TypeVar("R")
_OF_PREFECT = frozenset({"return_state", "wait_for"})


async def finish_even_so(doing: Awaitable[R], when_cancelled: Callable[[], None] = lambda: None) -> R:
    """Wait for the end of what was begun also where this is cancelled, and be cancelled then.

    `when_cancelled` is called before that wait.
    """
    future = asyncio.ensure_future(doing)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # Its error has no caller any more, and the loop would report it with a traceback.
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        when_cancelled()
        await asyncio.wait({future})
        raise


class _Task(Task[P, R]):
    """A run is shown behind the runs that an argument itself came from, whatever else is in the argument.

    An application, its containers and its plan have thousands of parts, which Prefect would visit twice for each run.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task as a run, or without task runs its function, as often as its policy says."""
        if not makes_task_runs():
            function: Any = self.fn
            delays = self.retry_delay_seconds if isinstance(self.retry_delay_seconds, list) else []
            return repeat(function, delays, self.timeout_seconds)(*args, **kwargs)
        named: dict[str, Any] = {
            name: value if name in _OF_PREFECT else opaque(value) for name, value in kwargs.items()
        }
        return super().__call__(*map(opaque, args), **named)

    def with_options(self, *args: Any, **kwargs: Any) -> Any:
        """Make a task with other options; Prefect makes one of its own class."""
        changed = super().with_options(*args, **kwargs)
        changed.__class__ = _Task
        return changed


__all__ = ["task"]
