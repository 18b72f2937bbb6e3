"""What people want and what happened, noted beside the product, and compared with what it does and records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from adapters.docker.client import SERVICE_LABEL
from models.errors import RecordedError
from models.failures import RoasError, StartFailedError
from models.operations import Operation, OperationStatus
from models.recovery import RecoveryExecution, TicketState
from tasks.runtime.stores import open_stores
from tests.simulation import kernel
from tests.simulation.actions import Kind
from tests.simulation.containers import Container, Outcome, Version
from tests.simulation.sentences import DoesNotHoldError, Sentence
from tests.simulation.world import NAME, Run, World, reference_of

_QUARTER_HOUR, _DAY = timedelta(minutes=15), timedelta(days=1)
_ATTEMPTS_QUARTER_HOUR, _ATTEMPTS_DAY = 3, 12
"""The product's defaults, written down again: a change of them must be wanted."""
_SETTLES = timedelta(seconds=3)
_UNDISTURBED = timedelta(seconds=30)
_LONE, _RECORDED_WITHIN = timedelta(minutes=3), timedelta(seconds=90)


class Will(Enum):
    """What people want of the whole environment, as far as what they did shows it."""

    NOTHING_YET = 0
    RUNS = 1
    STOPPED = 2
    UNCLEAR = 3


@dataclass(slots=True)
class _Running:
    kind: str
    begun_at: datetime
    served: frozenset[str]
    """What served before it, where all did and nothing was paused."""


class Ledger:
    """The notes of one simulation. `failed` is set with the first sentence that does not hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.failed: DoesNotHoldError | None = None
        self.will = Will.NOTHING_YET
        self._kinds: dict[str, str] = {}
        self._running: dict[int, _Running] = {}
        self._has_changed: set[int] = set()
        self._disturbed_by: dict[int, str] = {}
        self._down_by_hand: set[str] = set()
        self._paused: set[str] = set()
        self._pauses: list[tuple[str | None, datetime, datetime]] = []
        self._refused: frozenset[str] = frozenset()
        self._agent: kernel.Process | None = None
        self._agent_since = world.clock.now()
        self._disturbed_at = world.clock.now() - timedelta(hours=1)
        self.operations = self.calms = 0
        world.engine.on_change = self._note_change
        report = world.engine.on_event

        def on_event(container: Container, action: str) -> None:
            report(container, action)
            if action == "create":
                self._note_created(container)

        world.engine.on_event = on_event

    def fail(self, sentence: Sentence | str, what: str) -> None:
        """Note that a sentence does not hold."""
        if self.failed is None:
            self.failed = DoesNotHoldError(Sentence(sentence), what)
            self._world.note("SENTENCE", str(self.failed))

    # What people and faults do

    def note_agent(self, process: kernel.Process) -> None:
        """Another agent has begun."""
        self._agent, self._agent_since = process, self._world.clock.now()

    def begin_operation(self, kind: str, run: Run) -> None:
        """An operation begins."""
        served = (
            frozenset()
            if self._not_serving() or self._paused
            else frozenset(shape.name for shape in self._world.shapes)
        )
        self._running[run.process.pid] = _Running(
            kind, self._world.clock.now(), served if self.will is Will.RUNS else frozenset()
        )
        self.operations += 1
        self._down_by_hand.clear()
        if kind != "stop" and self.will is not Will.RUNS:
            self.will = Will.UNCLEAR

    def kind_of(self, deployment_id: str) -> str | None:
        """Which operation has this id."""
        return self._kinds.get(deployment_id)

    def note_by_hand(self, kind: Kind, container: Container) -> None:
        """A person does something by hand."""
        service = container.labels[SERVICE_LABEL]
        self.disturb()
        if kind is Kind.STOP_BY_HAND and container.serves and not self._running and self._agent_watches():
            self._down_by_hand.add(service)
        elif kind is Kind.START_BY_HAND:
            self._down_by_hand.discard(service)
            if self.will is Will.STOPPED:
                self.will = Will.UNCLEAR
        elif kind is Kind.PAUSE_CONTAINER and container.status == "running":
            self._paused.add(container.container_id)
        elif kind is Kind.UNPAUSE_CONTAINER:
            self._paused.discard(container.container_id)

    def note_refused(self, images: Iterable[str]) -> None:
        """With these images an update has failed, by the record."""
        self._refused = frozenset(images)

    def note_pause(self, service: str | None, since: datetime, until: datetime) -> None:
        """A person pauses recovery."""
        self._pauses.append((service, since, until))

    def note_failure(self, container: Container, actors: Any) -> None:
        """A program fails."""
        now = self._world.clock.now()
        is_lone = now - self._disturbed_at > _LONE
        self.disturb()
        service = container.labels[SERVICE_LABEL]
        if (
            is_lone
            and self.will is Will.RUNS
            and not self._running
            and self._agent_watches()
            and service not in self._world.engine.broken
            # Else it is an effect of what a person did to what it needs.
            and not {name for name, _ in self._not_serving()}.intersection(self._needs(service))
        ):
            actors.beside(self._check_death(actors, service, now, self._agent))

    async def _check_death(self, actors: Any, service: str, at: datetime, agent: kernel.Process | None) -> None:
        """Whether a failure of one service, with nothing else around it, was recorded once."""
        begun = self.operations
        await asyncio.sleep(_RECORDED_WITHIN.total_seconds())
        undisturbed = self._disturbed_at == at and self.operations == begun
        if not undisturbed or agent is None or agent.is_dead:
            return
        errors: list[RecordedError] = await actors.ask(lambda: list(open_stores().errors.latest(NAME, 50)))
        lately = [error for error in errors if error.service == service and error.last_seen >= at]
        if len(lately) != 1:
            names = [f"{error.error_id} ({error.verdict.category})" for error in lately]
            self.fail(Sentence.DEATH_RECORDED, f"{service} failed at {at:%H:%M:%S}, and its errors are {names}.")

    def note_engine_restart(self) -> None:
        """The engine restarts, and forgets its events."""
        self._down_by_hand.clear()
        self._paused.clear()
        self.disturb()

    def disturb(self) -> None:
        """Something outside of the product has changed what runs."""
        self._disturbed_at = self._world.clock.now()

    def _agent_watches(self) -> bool:
        """Whether an agent has watched for a while."""
        lives = self._agent is not None and not self._agent.is_dead
        return lives and self._world.clock.now() - self._agent_since > timedelta(seconds=30)

    # What the product does

    def _note_change(self, container: Container, change: str) -> None:
        """A process of ours changes a container."""
        process = kernel.current.get()
        if process is None:
            return
        who, now, service = process.name, self._world.clock.now(), container.labels.get(SERVICE_LABEL, "")
        self._check_alone(process, f"{who} {change}s {container.name}")
        if change == "unpause" and container.container_id in self._paused and who != "stop":
            self.fail(Sentence.STAYS_PAUSED, f"{who} unpauses {container.name}.")
        if who != "agent" or change not in ("start", "restart"):
            return
        what = f"The agent {change}s {container.name}."
        if self.will is Will.STOPPED and not self._running:
            self.fail(Sentence.STAYS_STOPPED, what)
        if service in self._down_by_hand:
            self.fail(Sentence.STAYS_DOWN_BY_HAND, what)
        for paused, since, until in self._pauses:
            if paused in (None, service) and since + _SETTLES < now < until:
                self.fail(Sentence.RECOVERY_PAUSED, what)

    def _check_alone(self, process: kernel.Process, what: str) -> None:
        for pid in self._has_changed:
            if pid != process.pid and pid in self._running:
                self._disturbed_by[pid] = what
        if process.pid in self._disturbed_by:
            self.fail(Sentence.ONE_AT_A_TIME, f"{what}, after {self._disturbed_by[process.pid]} meanwhile.")
        if process.pid in self._running:
            self._has_changed.add(process.pid)

    def _note_created(self, container: Container) -> None:
        image = container.version.image_id
        updates = any(running.kind == "update" for running in self._running.values())
        others = self._world.containers(container.labels.get(SERVICE_LABEL, ""))
        is_replacement = any(other.version.image_id != image for other in others)
        if image in self._refused and updates and is_replacement:
            self.fail(Sentence.QUARANTINE, f"{container.name} is made of version {container.version.number}.")

    # Ends

    def end_operation(self, kind: str, run: Run, recorded: list[Operation]) -> None:
        """An operation has ended: compare its record with what its process said, and with what runs."""
        pid = run.process.pid
        before = self._running.pop(pid, None)
        self._has_changed.discard(pid)
        self._disturbed_by.pop(pid, None)
        record = next((row for row in recorded if row.record.runner is not None and row.record.runner.pid == pid), None)
        if record is not None:
            self._kinds[record.deployment_id] = kind
        was_killed = run.result is None and run.error is None
        if was_killed:
            self.will = Will.UNCLEAR
            return
        self.check_error(kind, run)
        success = run.error is None and bool(getattr(run.result, "success", False))
        if record is not None and (record.status is OperationStatus.SUCCESS) is not success:
            self.fail(
                Sentence.ONE_END, f"{kind} ended with {run.error or run.result}, and {record.status} is on record."
            )
        if kind == "stop":
            self.will = Will.STOPPED if success else Will.UNCLEAR
            return
        if success:
            self.will = Will.RUNS
            self._check_proven(kind)
        elif before is not None and isinstance(run.error, StartFailedError) and self._disturbed_at < before.begun_at:
            self._check_undone(kind, before)
        elif self.will is not Will.RUNS or (record is not None and record.record.undo_failed):
            self.will = Will.UNCLEAR

    def check_error(self, kind: str, run: Run) -> None:
        """Whether what a process of ours ended with is an error of ours, or none."""
        ours = (RoasError, TimeoutError, type(None))
        if not isinstance(run.error, ours) and type(run.error).__name__ != "CancelledError":
            self.fail(Sentence.NO_DEFECT, f"{kind} ended with {run.error!r}.")

    def _check_undone(self, kind: str, before: _Running) -> None:
        for name, containers in self._not_serving():
            if name in before.served:
                self.fail(
                    Sentence.UNDONE,
                    f"{kind} failed, and {name}, which served before, does not: {_describe(containers)}.",
                )

    def _check_proven(self, kind: str) -> None:
        now = self._world.clock.now()
        if now - self._disturbed_at < _UNDISTURBED or self._running:
            return
        for shape in self._world.shapes:
            containers = self._world.containers(shape.name)
            if not any(container.serves or container.container_id in self._paused for container in containers):
                self.fail(
                    Sentence.PROVEN, f"{kind} succeeded, and {shape.name} does not serve: {_describe(containers)}."
                )

    async def check_calm(self, actors: Any, *, mends: bool) -> None:
        """Compare after a while without events: what should serve serves, and the record is true; then mend all."""
        self.calms += 1
        recorded = await actors.look()
        attempts = await actors.ask(
            lambda: list(open_stores().recoveries.latest(NAME, self._world.clock.now() - _DAY, 500))
        )
        self._check_budget(attempts)
        self._check_ends(recorded)
        await self._check_measured(actors)
        if self.will is Will.RUNS:
            tickets = await actors.ask(lambda: list(open_stores().tickets.find(environment=NAME)))
            about = {ticket.service for ticket in tickets if ticket.state is TicketState.OPEN}
            self._world.note("calm", f"open tickets: {[ticket.ticket_id for ticket in tickets]}")
            for service, containers in self._not_serving():
                # The ticket of what it needs is about it as well.
                if about.isdisjoint({service, None, *self._needs(service)}) and not self._may_be_down(service):
                    self.fail(
                        Sentence.SERVES_OR_TICKET,
                        f"{service} does not serve: {_describe(containers)}; tickets: {about}.",
                    )
        if mends:
            await self._mend(actors)

    def _check_ends(self, recorded: list[Operation]) -> None:
        """Whether what a dead process ran has an end, once another operation has held the environment."""
        is_settled = False
        for row in recorded:
            runner = row.record.runner
            if is_settled and row.ended_at is None and runner is not None and runner.pid not in self._running:
                self.fail(Sentence.ONE_END, f"{row.deployment_id} is {row.status}, and its process is gone.")
            is_settled = is_settled or row.status is OperationStatus.SUCCESS

    async def _check_measured(self, actors: Any) -> None:
        since = self._world.clock.now() - timedelta(seconds=2 * self._world.collect_every) - _SETTLES
        if self._agent is None or self._agent.is_dead or self._agent_since > since:
            return
        reports = await actors.ask(lambda: open_stores().health.latest_reports(since))
        if NAME not in reports:
            self.fail(Sentence.MEASURED, f"Nothing was measured since {since:%H:%M:%S}.")

    def _may_be_down(self, service: str) -> bool:
        """Whether a person keeps a service down, or what it needs, or keeps recovery from it."""
        now = self._world.clock.now()
        names = [service, *self._needs(service)]
        by_hand = any(container.stopped_by_hand for name in names for container in self._world.containers(name))
        paused = any(container.status == "paused" for name in names for container in self._world.containers(name))
        held = any(until + timedelta(minutes=10) > now for _, _, until in self._pauses)
        return by_hand or paused or held

    def _needs(self, service: str) -> tuple[str, ...]:
        return next(shape.needs for shape in self._world.shapes if shape.name == service)

    def _not_serving(self) -> list[tuple[str, list[Container]]]:
        services = [(shape.name, self._world.containers(shape.name)) for shape in self._world.shapes]
        return [
            (name, containers) for name, containers in services if not any(container.serves for container in containers)
        ]

    async def _mend(self, actors: Any) -> None:
        """A person makes all serve again, with one command, where something does not."""
        if not self._not_serving() and self.will is Will.RUNS:
            return
        for container in self._world.containers():
            self._world.engine.unpause(container)
        self._paused.clear()
        self._world.engine.broken.clear()
        for shape in self._world.shapes:
            version = self._world.engine.registry[reference_of(shape.name)]
            if version.outcome is not Outcome.SERVES:
                self._world.publish(Version(service=shape.name, number=version.number + 500, schema=version.schema))
        run = await actors.operate("update", now=True)
        await run.ended.wait()
        if run.error is not None:
            run = await actors.operate("start")
            await run.ended.wait()
        if run.error is not None or self._not_serving():
            names = {name: _describe(containers) for name, containers in self._not_serving()}
            self.fail(Sentence.START_HELPS, f"{run.error or 'It succeeded'}; what does not serve: {names}.")

    def _check_budget(self, attempts: list[RecoveryExecution]) -> None:
        for service in {attempt.service for attempt in attempts}:
            begun = sorted(tried.started_at for tried in attempts if tried.service == service and tried.points)
            for window, most in ((_QUARTER_HOUR, _ATTEMPTS_QUARTER_HOUR), (_DAY, _ATTEMPTS_DAY)):
                for first, last in zip(begun, begun[most:], strict=False):
                    if last - first < window:
                        self.fail(Sentence.BUDGET, f"{service} was acted on {most + 1} times within {last - first}.")


def _describe(containers: list[Container]) -> str:
    if not containers:
        return "it has no container"
    words = (f"{container.name} is {container.status} {container.health or ''}" for container in containers)
    return ", ".join(text.strip() for text in words)
