"""Tasks without task runs keep their retry policy and make no run."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Task
from prefect.context import TaskRunContext

from models.failures import BadInputError, EngineUnreachableError
from tasks.runtime.plain_tasks import makes_task_runs, without_task_runs
from tasks.runtime.retry_policy import EFFECT, READ
from tasks.runtime.task import task

AT_ONCE: dict[str, Any] = READ | {"retry_delay_seconds": [0]}


async def test_a_task_is_a_plain_call() -> None:
    @task(name="double", **EFFECT)
    async def double(number: int) -> tuple[int, object]:
        return 2 * number, TaskRunContext.get()

    with without_task_runs():
        assert not makes_task_runs()
        answer = await double(4)

    assert answer == (8, None)
    assert makes_task_runs()


async def test_a_task_with_other_options_is_a_plain_call_too_and_the_class_of_prefect_is_as_it_was() -> None:
    @task(name="double", **EFFECT)
    async def double(number: int) -> tuple[int, object]:
        return 2 * number, TaskRunContext.get()

    with without_task_runs():
        assert await double.with_options(name="twice")(4) == (8, None)

    assert not hasattr(Task.__call__, "__wrapped__")


async def test_what_may_get_better_is_tried_again() -> None:
    tries: list[int] = []

    @task(name="ask", **AT_ONCE)
    async def ask() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise EngineUnreachableError("unix:///nowhere", "refused")
        return "done"

    with without_task_runs():
        assert await ask() == "done"

    assert len(tries) == 2


@pytest.mark.parametrize(
    ("policy", "error"), [(AT_ONCE, BadInputError("no;", advice="yes.")), (EFFECT, EngineUnreachableError("unix:", ""))]
)
async def test_what_does_not_get_better_or_acts_is_tried_once(policy: dict[str, Any], error: Exception) -> None:
    tries: list[int] = []

    @task(name="act", **policy)
    async def act() -> None:
        tries.append(1)
        raise error

    with without_task_runs(), pytest.raises(type(error)):
        await act()

    assert len(tries) == 1
