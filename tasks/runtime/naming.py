"""Names in the engine's UI: task runs that know which runs they came after, and the keys of artifacts."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect import Task
from prefect.client.schemas.objects import RunInput, TaskRunResult
from prefect.task_engine import run_task_async
from prefect.utilities.annotations import quote

from tasks.runtime.plain_tasks import makes_task_runs

Answer = TypeVar("Answer")


async def call_as(
    task: Task[..., Coroutine[Any, Any, Answer]], run_id: UUID, *, after: Iterable[UUID], **arguments: Any
) -> Answer:
    """Call a task as a run of that id, shown behind the runs it came after and no others; those may still go on.

    Without task runs it is an ordinary call. That can name only runs that have ended, as `wait_for` takes their
    results, and shows every run that an argument once came from.
    """
    if not makes_task_runs():
        return cast(Answer, await task(**arguments))
    # The edges hang on an argument, whichever it is.
    edges: dict[str, set[RunInput]] = {next(iter(arguments)): {TaskRunResult(id=upstream_id) for upstream_id in after}}
    opaque = {name: quote(value) for name, value in arguments.items()}
    return cast(Answer, await run_task_async(task, task_run_id=run_id, parameters=opaque, dependencies=edges))


def artifact_key(what: str, name: str) -> str:
    """The key of an artifact about something of that name: small letters, digits and dashes."""
    return f"{what}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"
