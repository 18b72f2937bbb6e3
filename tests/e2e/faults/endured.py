"""Let a scene endure a fault, and report which expectations fail afterwards."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from prefect import get_client
from prefect.client.schemas.objects import State, StateType

from flows.deployment.startup import startup
from models.errors import Category, RecordedError
from models.operations import FOUND, Operation, OperationStatus
from models.records import Explanation
from models.results import OperationResult
from tasks.reporting.read import read_explanation
from tasks.runtime.stores import open_stores
from tests.e2e.faults.scenes import PRECIOUS, WELL, Scene, Services
from tests.e2e.faults.scenes import State as Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """One way to break an application, and what must be told of it.

    `services` is the broken application, or makes it for a scene. `cause` is the service to blame, `words`
    must be found in the first cause, `shown` in a line that shows it, `because` in a fact beside it.
    `refused`: validation must stop it.
    `prepare` is done before, `meanwhile` goes on around the start, `once_found` begins when validation is
    over and the start is about to act.
    """

    name: str
    services: Services | str | Callable[[Scene], Services]
    words: str
    cause: str | None = "base"
    shown: str | None = None
    because: str | None = None
    categories: tuple[Category, ...] = ()
    refused: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Scene], None] | None = None
    meanwhile: Callable[[Scene], AbstractContextManager[object]] | None = None
    once_found: Callable[[Scene], AbstractContextManager[object]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endured:
    """What a fault did to one scene."""

    fault: InjectedFault
    scene: Scene
    proven: bool
    before: Seen
    after: Seen
    operation: Operation
    explanation: Explanation
    errors: tuple[RecordedError, ...]
    run: StateType | None
    took_seconds: float

    @property
    def undone(self) -> str:
        return str(self.operation.details.get("undone") or self.operation.details.get("undo_failed") or "")

    def complaints(self) -> list[str]:
        """Every expectation that failed."""
        return [
            complaint
            for complaint in (*self._verdict(), *self._cause(), *self._what_is_there(), *self._records())
            if complaint
        ]

    def _verdict(self) -> list[str]:
        return [
            *([] if self.operation.status is OperationStatus.FAILED else [f"it is {self.operation.status}"]),
            *([] if self.run is StateType.FAILED else [f"its flow run is {self.run}"]),
            *(["it was undone although nothing was touched"] if self.fault.refused and self.undone else []),
        ]

    def _cause(self) -> list[str]:
        reported, fault = self.explanation, self.fault
        by_validation = reported.headline.startswith("Validation stopped it")
        shown, because = [line.text for line in reported.lines], "; ".join(reported.because)
        return [
            *([] if re.search(fault.words, reported.headline) else [f"the cause told is {reported.headline!r}"]),
            *([] if re.search(fault.because or "", because) else [f"the facts told are {because!r}"]),
            *([] if reported.service == fault.cause else [f"{reported.service} is blamed, not {fault.cause}"]),
            *([] if by_validation is fault.refused else [f"stopped by validation: {by_validation}"]),
            *(
                [f"the lines shown are {shown}"]
                if fault.shown and not any(re.search(fault.shown, line) for line in shown)
                else []
            ),
        ]

    def _what_is_there(self) -> list[str]:
        found = []
        if self.fault.refused:
            same = self.after.containers == self.before.containers
        else:
            same = self.after.alike() == self.before.alike()
        if not same:
            found.append(f"there is {self.after.containers}, there was {self.before.containers}; {self.undone}")
        if self.after.networks != self.before.networks:
            found.append(f"networks are {self.after.networks}, were {self.before.networks}; {self.undone}")
        if self.proven and not self.fault.refused and "rolled_back_to" not in self.operation.details:
            found.append(f"it was not rolled back: {self.operation.details}")
        if self.scene.precious() != PRECIOUS:
            found.append("the volume was touched")
        return found

    def _records(self) -> list[str]:
        found = []
        if open_stores().operations.list_running(self.scene.name):
            found.append("an operation is left running")
        if not self.errors:
            return [*found, "no error is open"]
        category = self.errors[0].verdict.category
        if category not in self.fault.categories:
            found.append(f"the error is judged {category}")
        if not self.fault.refused and self.fault.cause and not self.explanation.evidence:
            found.append("no evidence is kept")
        return found


async def endure(fault: InjectedFault, scene: Scene, *, proven: bool) -> Endured:
    """Start a scene with a fault, after a proven start of it where it is to have one."""
    await asyncio.to_thread(scene.set_up)
    if proven:
        scene.declare(WELL)
        first = await startup(scene.name)
        assert isinstance(first, OperationResult)
        assert first.success
    before = await asyncio.to_thread(scene.state)
    if fault.prepare is not None:
        fault.prepare(scene)
    scene.declare(fault.services(scene) if callable(fault.services) else fault.services, **fault.fields)
    began = time.monotonic()
    with ExitStack() as held:
        if fault.meanwhile is not None:
            held.enter_context(fault.meanwhile(scene))
        if fault.once_found is not None:
            held.enter_context(_beginning_once_found(fault.once_found, scene))
        await begin(scene)
    return await look_after(fault, scene, before, proven=proven, took_seconds=time.monotonic() - began)


def begin(scene: Scene) -> asyncio.Task[State[Any]]:
    """A start that goes on while the test does something else."""

    async def live() -> State[Any]:
        return await startup(scene.name, return_state=True)

    return asyncio.create_task(live())


@contextmanager
def _beginning_once_found(
    once_found: Callable[[Scene], AbstractContextManager[object]], scene: Scene
) -> Iterator[None]:
    """Let it begin as a start writes down what it found, which waits for it."""
    begun = False

    def begin_at_that(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        nonlocal begun
        if begun or "INSERT INTO operation_steps" not in statement:
            return
        values = [str(one) for one in (parameters.values() if isinstance(parameters, dict) else parameters)]
        if FOUND in values and any(one.startswith(f"{scene.name}-") for one in values):
            begun = True
            held.enter_context(once_found(scene))

    sa.event.listen(sa.Engine, "before_cursor_execute", begin_at_that)
    try:
        with ExitStack() as held:
            yield
        assert begun, "it did not come to that"
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", begin_at_that)


async def until(seen: Callable[[], bool]) -> None:
    """Wait for what another process or the engine will make true."""

    def look_again_and_again() -> None:
        deadline = time.monotonic() + 300
        while not seen():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.01)

    await asyncio.to_thread(look_again_and_again)


async def look_after(fault: InjectedFault, scene: Scene, before: Seen, *, proven: bool, took_seconds: float) -> Endured:
    """The state and the records after the latest operation of a scene."""
    stores = open_stores()
    operation = stores.operations.history(environment=scene.name, limit=1)[0]
    async with get_client() as client:
        run = (await client.read_flow_run(UUID(str(operation.details["flow_run_id"])))).state
    return Endured(
        fault=fault,
        scene=scene,
        proven=proven,
        before=before,
        after=await asyncio.to_thread(scene.state),
        operation=operation,
        explanation=read_explanation(operation.deployment_id),
        errors=tuple(stores.errors.list_unresolved(scene.name)),
        run=run.type if run else None,
        took_seconds=took_seconds,
    )


async def endure_twice(fault: InjectedFault, scenes: tuple[Scene, Scene]) -> tuple[Endured, Endured]:
    """Side by side: with a proven release before it, and without one."""
    with_release, without = scenes
    one, other = await asyncio.gather(endure(fault, with_release, proven=True), endure(fault, without, proven=False))
    return one, other
