"""Task runs that know which runs they came after, so that the UI's graph is the application's graph."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect import Task
from prefect.client.schemas.objects import RunInput, TaskRunResult
from prefect.task_engine import run_task_async

Answer = TypeVar("Answer")


async def call_as(
    task: Task[..., Coroutine[Any, Any, Answer]], run_id: UUID, *, after: Iterable[UUID], **arguments: Any
) -> Answer:
    """Call a task as a run of that id, shown behind the runs it came after; those may still go on.

    An ordinary call can name only runs that have ended: `wait_for` takes their results.
    """
    # The edges hang on an argument, whichever it is.
    edges: dict[str, set[RunInput]] = {next(iter(arguments)): {TaskRunResult(id=one) for one in after}}
    return cast(Answer, await run_task_async(task, task_run_id=run_id, parameters=arguments, dependencies=edges))
