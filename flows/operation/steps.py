"""Run an operation as a list of steps, and where it fails as the list that goes back.

An operation goes in one direction: once it goes back, an operation that is taken up again only goes back. What a step
decides is on record before the next step acts, so that the same is done after a kill.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from core.reporting.timing import Phase
from flows.common.phases import time_phase
from flows.operation.recorder import (
    ROLLING_BACK,
    OnFailure,
    OperationRecorder,
    OperationRequest,
    Rollback,
    record_operation,
)
from models.environments import Environment
from models.operations import OperationType
from models.operations.record import OperationRecord
from tasks.runtime.project import Project


@dataclass(slots=True, kw_only=True)
class OperationRun:
    """What an operation has found out and done so far; each kind of operation adds its own."""

    recorder: OperationRecorder = field(init=False)
    failure: Exception = field(init=False)
    """Why the operation goes back."""

    @property
    def project(self) -> Project:
        """The environment with its clients, which a step has opened.

        Raises:
            NotFoundError: None has yet.
        """
        return self.recorder.project

    @property
    def environment(self) -> Environment:
        """The environment as it was loaded."""
        return self.recorder.environment

    @property
    def record(self) -> OperationRecord:
        """What is recorded of it."""
        return self.recorder.record

    @property
    def goes_back(self) -> bool:
        """Whether an earlier runner had begun to undo the operation."""
        return ROLLING_BACK in self.recorder.done


RunT = TypeVar("RunT", bound=OperationRun, contravariant=True)


@dataclass(frozen=True, slots=True)
class Step(Generic[RunT]):
    """One step of an operation.

    `run` does it. Where it decided something it returns that as the detail to record under the step's name, else None.
    A step that `looks` only reads the present state: an operation that goes back when it is taken up again runs it too.
    Where `when` does not hold the step is left out. On the way back one is run `even_so` where a step before it failed.
    """

    name: str
    run: Callable[[RunT], Awaitable[str | None]]
    phase: Phase | None = None
    looks: bool = False
    when: Callable[[RunT], bool] = lambda _: True
    even_so: bool = False


Steps = Sequence[Step[RunT]]


async def operate(
    run: RunT,
    steps: Steps[RunT],
    environment: str,
    request: OperationRequest,
    *,
    on_failure: OnFailure,
    back: Steps[RunT] = (),
    operation_type: OperationType = OperationType.START,
) -> None:
    """Record an operation, run its steps forward, and where one fails those that go back.

    Raises:
        Exception: As `record_operation` and `run_steps`.
    """
    rollback = going_back(run, back) if back else None
    async with record_operation(
        operation_type, environment, request, on_failure=on_failure, rollback=rollback
    ) as run.recorder:
        await run_steps(run, steps)


async def run_steps(run: RunT, steps: Steps[RunT]) -> None:
    """Run the steps forward, one after the other.

    Raises:
        StartFailedError: The operation was being rolled back when its runner was lost, so it was only inspected.
        Exception: Whatever a step raised; no step after it was run.
    """
    for step in steps:
        if (step.looks or not run.goes_back) and step.when(run):
            await _run_step(run, step)
    run.recorder.refuse_to_go_forward()


def going_back(run: RunT, steps: Steps[RunT]) -> Rollback:
    """What undoes an operation: it runs the steps back in their order.

    It raises what the first step raised that failed; of the steps after that, those ran that go on even so.
    """

    async def go_back(recorder: OperationRecorder, error: Exception) -> None:
        run.recorder, run.failure, trouble = recorder, error, None
        for step in steps:
            if (trouble is not None and not step.even_so) or not step.when(run):
                continue
            try:
                await _run_step(run, step)
            except BaseException as first:  # noqa: BLE001 - it is raised once the others have run
                trouble = trouble or first
        if trouble is not None:
            raise trouble

    return go_back


async def turn_back(run: OperationRun) -> str:
    """Decide that the operation goes back: from here on it only does, also where it is taken up again."""
    return run.record.reason or type(run.failure).__name__


async def _run_step(run: RunT, step: Step[RunT]) -> None:
    with time_phase(step.phase) if step.phase is not None else nullcontext():
        detail = await step.run(run)
        if detail is not None:
            await run.recorder.step(step.name, detail=detail)
