"""Steps of an operation: which run forward, which on the way back, and in which direction one goes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.deployment.rollback import ROLLBACK, ROLLBACK_BACK
from flows.deployment.startup import START
from flows.deployment.sync import SYNC, SYNC_BACK
from flows.deployment.update import UPDATE, UPDATE_BACK
from flows.operation.recorder import ROLLING_BACK, OperationRecorder
from flows.operation.steps import OperationRun, Step, go_back, run_steps
from flows.storage.restore import RESTORE, RESTORE_BACK
from models.failures import EngineError, StartFailedError
from models.operations import FOUND, OperationStep, OperationType

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def recorder(*finished: tuple[str, str]) -> OperationRecorder:
    return OperationRecorder(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        name="shop",
        started_at=NOON,
        steps=tuple(
            OperationStep(deployment_id="shop-1", step=name, service=None, finished_at=NOON, detail=detail)
            for name, detail in finished
        ),
        done=frozenset(name for name, _ in finished),
    )


def operation(*finished: tuple[str, str]) -> tuple[OperationRun, list[str], Callable[[str], Any]]:
    """An operation, what its steps have done, and what makes a step that notes its name and may fail."""
    run, done = OperationRun(), list[str]()
    run.recorder = recorder(*finished)

    def noting(name: str, error: Exception | None = None) -> Callable[[OperationRun], Coroutine[Any, Any, None]]:
        async def step(_: OperationRun) -> None:
            done.append(name)
            if error is not None:
                raise error

        return step

    return run, done, noting


async def test_no_step_runs_after_one_that_failed() -> None:
    run, done, noting = operation()
    steps = (Step("a", noting("a")), Step("b", noting("b", EngineError("no engine"))), Step("c", noting("c")))

    with pytest.raises(EngineError, match="no engine"):
        await run_steps(run, steps)

    assert done == ["a", "b"]


async def test_a_step_is_left_out_where_its_condition_does_not_hold() -> None:
    run, done, noting = operation()

    await run_steps(run, (Step("a", noting("a"), when=lambda _: False), Step("b", noting("b"))))

    assert done == ["b"]


async def test_an_operation_that_was_being_undone_only_looks_and_fails_as_before() -> None:
    run, done, noting = operation((ROLLING_BACK, "web did not start"))

    with pytest.raises(StartFailedError, match=r"^web did not start; its runner was lost during the rollback"):
        await run_steps(run, (Step("look", noting("look"), looks=True), Step("create", noting("create"))))

    assert done == ["look"]


async def test_the_way_back_goes_on_even_so_and_raises_what_failed_first() -> None:
    run, done, noting = operation()
    steps = (
        Step("a", noting("a", EngineError("first"))),
        Step("b", noting("b")),
        Step("c", noting("c", EngineError("second")), even_so=True),
    )

    with pytest.raises(EngineError, match="first"):
        await go_back(run, steps, StartFailedError("web did not start"))

    assert done == ["a", "c"]
    assert str(run.failure) == "web did not start"


@pytest.mark.parametrize("forward", [START, UPDATE, SYNC, ROLLBACK, RESTORE], ids=lambda steps: steps[-1].name)
def test_what_an_operation_goes_back_to_is_decided_before_a_step_acts(forward: tuple[Step[Any], ...]) -> None:
    names = [step.name for step in forward]
    acts = {"create", "replace in turn", "bring the release back", "put data in", "run hooks before", "created"}
    first = min(names.index(name) for name in acts & set(names))

    assert {FOUND, "snapshot"} & set(names[:first])
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("back", [UPDATE_BACK, SYNC_BACK, ROLLBACK_BACK, RESTORE_BACK], ids=lambda steps: steps[0].name)
def test_the_direction_is_on_record_before_containers_or_data_go_back(back: tuple[Step[Any], ...]) -> None:
    names = [step.name for step in back]
    acts = {"put containers back", "put data back", "put the checkout back", "start on data"}

    assert names.index(ROLLING_BACK) < min(names.index(name) for name in acts & set(names))
