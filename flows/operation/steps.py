"""Run an operation as a list of steps, and where it fails as the list that goes back.

An operation goes in one direction: once it goes back, an operation that is taken up again only goes back. What a step
decides is on record before the next step acts, so that the same is done after a kill.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from core.reporting.timing import Phase
from flows.common.phases import time_phase
from flows.operation.recorder import ROLLING_BACK, OnFailure, OperationRecorder, OperationRequest, record_operation
from models.environments import Environment
from models.operations import OperationType
from models.operations.record import OperationRecord
from tasks.runtime.project import Project


@dataclass(slots=True, kw_only=True)
class Run:
    """What steps have found out and done so far. Where it may be taken up again, `run_step` records it."""

    failure: Exception = field(init=False)
    """Why it goes back."""

    @property
    def earlier_failure(self) -> Exception | None:
        """Why an earlier runner had begun to undo it, which then goes on; None where none had."""
        return None

    async def run_step(self, step: Step[Any]) -> None:
        """Run one step."""
        await step.run(self)


@dataclass(slots=True, kw_only=True)
class OperationRun(Run):
    """What an operation has found out and done so far; each kind of operation adds its own."""

    recorder: OperationRecorder = field(init=False)

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

    @property
    def earlier_failure(self) -> Exception | None:
        """Why an earlier runner had begun to undo the operation."""
        return self.recorder.earlier_failure

    async def run_step(self, step: Step[Any]) -> None:
        """Run one step, and record what it decided."""
        detail = await step.run(self)
        if detail is not None:
            await self.recorder.step(step.name, detail=detail)


RunT = TypeVar("RunT", bound=Run, contravariant=True)
OperationRunT = TypeVar("OperationRunT", bound=OperationRun)


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
    run: OperationRunT,
    steps: Steps[OperationRunT],
    environment: str,
    request: OperationRequest,
    *,
    on_failure: OnFailure,
    back: Steps[OperationRunT] = (),
    operation_type: OperationType = OperationType.START,
) -> None:
    """Record an operation, run its steps forward, and where one fails those that go back; it raises what they raise."""
    rollback = partial(go_back, run, back) if back else None
    async with record_operation(
        operation_type, environment, request, on_failure=on_failure, rollback=rollback
    ) as run.recorder:
        await run_steps(run, steps)


async def run_steps(run: RunT, steps: Steps[RunT]) -> None:
    """Run the steps forward, one after the other.

    Raises:
        Exception: Whatever a step raised; no step after it was run. Or it was being rolled back when its runner was
            lost, so it was only inspected.
    """
    earlier_failure = run.earlier_failure
    for step in steps:
        if (step.looks or earlier_failure is None) and step.when(run):
            await _run_step(run, step)
    if earlier_failure is not None:
        raise earlier_failure


async def go_back(run: RunT, steps: Steps[RunT], error: Exception) -> None:
    """Run the steps back in their order, because of an error.

    It raises what the first step raised that failed; of the steps after that, those ran that go on even so.
    """
    run.failure, trouble = error, None
    for step in steps:
        if (trouble is not None and not step.even_so) or not step.when(run):
            continue
        try:
            await _run_step(run, step)
        except BaseException as first:  # noqa: BLE001 - it is raised once the others have run
            trouble = trouble or first
    if trouble is not None:
        raise trouble


async def turn_back(run: OperationRun) -> str:
    """Decide that the operation goes back: from here on it only does, also where it is taken up again."""
    return run.record.reason or type(run.failure).__name__


async def _run_step(run: RunT, step: Step[RunT]) -> None:
    with time_phase(step.phase) if step.phase is not None else nullcontext():
        await run.run_step(step)
