"""What people want and what happened, noted beside the product, and compared with what it does and records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL
from models.containers import ONE_OFF_LABEL
from models.errors import RecordedError
from models.failures import RoasError, StartFailedError
from models.operations import Operation, OperationStatus
from models.records import Release
from models.recovery import Choice, Ticket
from tasks.runtime.stores import open_stores
from tests.simulation import kernel
from tests.simulation.actions import Kind, is_long
from tests.simulation.containers import Container, Outcome
from tests.simulation.images import Before, ImageNotes
from tests.simulation.order import OrderChecks
from tests.simulation.records import RecordChecks
from tests.simulation.sentences import DoesNotHoldError, Sentence
from tests.simulation.world import NAME, Run, World

_SETTLES = timedelta(seconds=3)
_FILE_IS_READ = timedelta(seconds=75)
"""A watch reads the environment's file again with each evaluation."""
_SWEPT_SELDOM = timedelta(minutes=5)
_LEASE_EVERY = 20.0
_UNDISTURBED = timedelta(seconds=30)
_LONE, _RECORDED_WITHIN = timedelta(minutes=3), timedelta(seconds=90)
_SHOWN = timedelta(seconds=1)
"""An operation that ends may not have seen what happened just before."""


class Will(Enum):
    """What people want of the whole environment, as far as what they did shows it."""

    NOTHING_YET = 0
    RUNS = 1
    STOPPED = 2
    UNCLEAR = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """Recovery must leave a service alone between two moments; all services where none is named."""

    sentence: Sentence
    service: str | None
    since: datetime
    until: datetime


@dataclass(slots=True)
class Running:
    """An operation, from when it first began: `served` is what served before it, where all did and nothing was paused.

    `was_stopped`: a person had stopped all. `pid` and `number` are those of its first process, and how many operations
    there had been.
    """

    kind: str
    begun_at: datetime
    served: frozenset[str]
    was_stopped: bool
    before: Before
    pid: int
    number: int


class Ledger:
    """The notes of one simulation. `failed` is set with the first sentence that does not hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.failed: DoesNotHoldError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.will = Will.NOTHING_YET
        self.images = ImageNotes(world, self.fail)
        self.records = RecordChecks(world, self.fail)
        self._order = OrderChecks(world, self.fail, self.records.served_within)
        self._kinds: dict[str, str] = {}
        self._known_within = _SWEPT_SELDOM if is_long(world.seed) else _FILE_IS_READ
        self._running: dict[int, Running] = {}
        self._interrupted: dict[str, Running] = {}
        self._of_people: set[int] = set()
        self._has_changed: set[int] = set()
        self._disturbed_by: dict[int, str] = {}
        self._down_by_hand: dict[str, datetime] = {}
        self.decided: set[str | None] = set()
        """Services about whose ticket a person decided that nothing is done."""
        self.unconfirmed: dict[str, bool] = {}
        """Whether operations succeeded whose end the stores may not have yet."""
        self.paused: set[str] = set()
        self._wishes: list[Wish] = []
        self.agent: kernel.Process | None = None
        self.agent_since = world.clock.now()
        self._disturbed_at = self.killed_at = self.stores_failed_at = world.clock.now() - timedelta(hours=1)
        self.operations = self.calms = 0
        world.engine.on_change = self._note_change
        report = world.engine.on_event

        def on_event(container: Container, action: str) -> None:
            report(container, action)
            if action == "create" and container.labels.get(ONE_OFF_LABEL) != "True":
                self._note_created(container)
            if action == "destroy" and container.container_id in self.paused:
                self.fail(Sentence.STAYS_PAUSED, f"{container.name} is removed.")
            if container.labels.get(PROJECT_LABEL) == NAME:
                self.records.note_serving(container.labels[SERVICE_LABEL])

        world.engine.on_event = on_event
        world.on_message = self.records.note_message

    def fail(self, sentence: Sentence, what: str) -> None:
        """Note that a sentence does not hold."""
        if self.failed is None:
            self.failed = DoesNotHoldError(sentence, what)
            self._world.note("SENTENCE", str(self.failed))
            self.on_failure()

    @property
    def is_busy(self) -> bool:
        """Whether an operation goes on."""
        return bool(self._running)

    # What people and faults do

    def note_agent(self, process: kernel.Process) -> None:
        """Another agent has begun."""
        self.agent, self.agent_since = process, self._world.clock.now()

    def begin_operation(
        self, kind: str, run: Run, releases: Iterable[Release], deployment_id: str | None = None
    ) -> None:
        """An operation begins, or one that was interrupted goes on."""
        earlier = self._interrupted.get(deployment_id or "")
        if earlier is not None and earlier.number == self.operations:
            self._running[run.process.pid] = earlier
            earlier.number += 1
        else:
            all_serve = self.will is Will.RUNS and not self.paused and not self.not_serving()
            served = frozenset(shape.name for shape in self._world.shapes) if all_serve else frozenset()
            before = self.images.before(releases)
            self._running[run.process.pid] = Running(
                kind,
                self._world.clock.now(),
                served,
                self.will is Will.STOPPED,
                before,
                run.process.pid,
                self.operations + 1,
            )
        self.operations += 1
        self._of_people.add(run.process.pid)
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
        if kind in (Kind.UNPAUSE_CONTAINER, Kind.STOP_BY_HAND, Kind.KILL_BY_HAND):
            # The engine unpauses what is sent a signal, so the person's own pause is over.
            self.paused.discard(container.container_id)
        if kind is Kind.STOP_BY_HAND and container.serves and not self._running and self._agent_watches():
            self._down_by_hand[service] = self._world.clock.now()
        elif kind is Kind.START_BY_HAND:
            self._down_by_hand.pop(service, None)
            if self.will is Will.STOPPED:
                self.will = Will.UNCLEAR
        elif kind is Kind.PAUSE_CONTAINER and container.status == "running":
            self.paused.add(container.container_id)

    def note_pause(self, service: str | None, since: datetime, until: datetime) -> None:
        """A person pauses recovery."""
        self._wishes.append(Wish(Sentence.RECOVERY_PAUSED, service, since + _SETTLES, until))

    def note_maintenance(self, service: str | None, since: datetime, until: datetime) -> None:
        """A person plans maintenance in the environment's file."""
        self._wishes.append(Wish(Sentence.MAINTENANCE, service, since + _FILE_IS_READ, until))

    def note_elsewhere(self, since: datetime, until: datetime) -> None:
        """Between these moments the environment belongs to another host."""
        self.disturb()
        self._wishes.append(Wish(Sentence.OWN_HOST, None, since + self._known_within, until))

    def is_elsewhere_since(self, since: datetime) -> bool:
        """Whether the environment belonged to another host at some moment since then."""
        return any(wish.sentence is Sentence.OWN_HOST and wish.until > since for wish in self._wishes)

    def note_answer(self, ticket: Ticket, choice: Choice) -> None:
        """A person answers a ticket: from then on that person decides about its service, or wants it to run."""
        self.disturb()
        if choice.acts:
            self._down_by_hand.pop(ticket.service or "", None)
        else:
            self.decided.add(ticket.service)

    def note_kill(self) -> None:
        """A process of ours is killed."""
        self.killed_at = self._world.clock.now()

    def note_stores(self) -> None:
        """The stores are not as they should be, or are again."""
        self.stores_failed_at = self._world.clock.now()
        self.disturb()

    def note_beside(self, service: str, actors: Any) -> None:
        """A person runs commands of a service in containers of their own."""
        now = self._world.clock.now()
        is_lone = now - self._disturbed_at > _LONE
        self.disturb()
        if (
            is_lone
            and self.will is Will.RUNS
            and not self._running
            and self._agent_watches()
            and not self.not_serving()
        ):
            actors.beside(self._check_none(actors, service, now))

    async def _check_none(self, actors: Any, service: str, at: datetime) -> None:
        """Whether no failure of a service was recorded, with nothing else around it."""
        begun = self.operations
        await asyncio.sleep(_RECORDED_WITHIN.total_seconds())
        if self._disturbed_at != at or self.operations != begun:
            return
        errors: list[RecordedError] = await actors.ask(lambda: list(open_stores().errors.latest(NAME, 50)))
        if found := [error for error in errors if error.service == service and error.last_seen >= at]:
            names = [f"{error.error_id} ({error.verdict.category})" for error in found]
            self.fail(Sentence.NO_FAILURE, f"{service} went on serving from {at:%H:%M:%S}, and its errors are {names}.")

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
            and not {name for name, _ in self.not_serving()}.intersection(self.needs(service))
            and not self._is_not_recorded(service)
        ):
            actors.beside(self._check_death(actors, service, now, self.agent))

    def _is_not_recorded(self, service: str) -> bool:
        """Whether a death is not recorded: a person plans maintenance, or another host is to see it."""
        now = self._world.clock.now()
        return any(
            wish.sentence is not Sentence.RECOVERY_PAUSED and wish.service in (None, service) and now < wish.until
            for wish in self._wishes
        )

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
        since = self._world.clock.now() - _UNDISTURBED
        self._down_by_hand = {service: at for service, at in self._down_by_hand.items() if at < since}
        self.paused.clear()
        self.disturb()

    def disturb(self) -> None:
        """Something outside of the product has changed what runs."""
        self._disturbed_at = self._world.clock.now()

    def _agent_watches(self) -> bool:
        """Whether an agent has watched for a while."""
        lives = self.agent is not None and not self.agent.is_dead
        return lives and self._world.clock.now() - self.agent_since > timedelta(seconds=30)

    def runs(self, pid: int) -> bool:
        """Whether a process of ours runs."""
        process = self._world.processes.get(pid)
        return process is not None and not process.is_dead

    # What the product does

    def _note_change(self, container: Container, change: str) -> None:
        """A process of ours changes a container."""
        process = kernel.current.get()
        if process is None:
            return
        who, now, service = process.name, self._world.clock.now(), container.labels.get(SERVICE_LABEL, "")
        self._order.check(who, container, change)
        self._check_alone(process, f"{who} {change}s {container.name}")
        if change == "unpause" and container.container_id in self.paused and who != "stop":
            self.fail(Sentence.STAYS_PAUSED, f"{who} unpauses {container.name}.")
        if who != "agent" or change not in ("start", "restart"):
            return
        what = f"The agent {change}s {container.name}."
        if self.will is Will.STOPPED and not self._running:
            self.fail(Sentence.STAYS_STOPPED, what)
        if service in self._down_by_hand:
            self.fail(Sentence.STAYS_DOWN_BY_HAND, what)
        for wish in self._wishes:
            if wish.service in (None, service) and wish.since < now < wish.until:
                self.fail(wish.sentence, what)

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
        if image in self.images.refused and updates and is_replacement:
            self.fail(Sentence.QUARANTINE, f"{container.name} is made of version {container.version.number}.")

    async def check_lease(self, actors: Any, run: Run) -> None:
        """Whether the stores say who holds the environment while an operation goes on."""
        while not run.process.is_dead:
            await asyncio.sleep(_LEASE_EVERY)
            if run.process.pid not in self._has_changed or run.process.is_dead:
                continue
            now = self._world.clock.now()
            lease = await actors.ask(lambda at=now: open_stores().leases.current(NAME, at))
            rows = await actors.look()
            row = next((row for row in rows if row.record.runner and row.record.runner.pid == run.process.pid), None)
            if lease is None and row is not None and row.ended_at is None and not run.process.is_dead:
                self.fail(Sentence.LEASE, f"{row.deployment_id} goes on.")

    # Ends

    def end_operation(self, kind: str, run: Run, recorded: list[Operation], releases: list[Release]) -> None:
        """An operation has ended: compare its record with what its process said, and with what runs."""
        pid = run.process.pid
        before = self._running.pop(pid)
        self._has_changed.discard(pid)
        self._disturbed_by.pop(pid, None)
        record = next((row for row in recorded if row.record.runner is not None and row.record.runner.pid == pid), None)
        if record is not None:
            self._kinds[record.deployment_id] = kind
        if run.result is None and run.error is None:
            self.will = Will.UNCLEAR
            if record is not None:
                self._interrupted[record.deployment_id] = before
            return
        self.check_error(kind, run)
        success = run.error is None and bool(getattr(run.result, "success", False))
        if record is not None and self.stores_failed_at > before.begun_at:
            self.unconfirmed[record.deployment_id] = success
        elif record is not None and (record.status is OperationStatus.SUCCESS) is not success:
            self.fail(
                Sentence.ONE_END, f"{kind} ended with {run.error or run.result}, and {record.status} is on record."
            )
        if kind == "stop":
            self.will = Will.STOPPED if success else Will.UNCLEAR
        elif success:
            self.will = Will.RUNS
            self._check_proven(kind)
            if not self._went_back_since(before.pid) and not self._running:
                self.images.check_success(kind, before.before, record, releases)
        elif run.error is not None and self._must_be_undone(before, run.error) and not _undo_failed(record):
            self._check_undone(kind, before, run.error)
        elif self.will is not Will.RUNS or _undo_failed(record):
            self.will = Will.UNCLEAR

    def check_error(self, kind: str, run: Run) -> None:
        """Whether an error with which a process of a person ended is one of ours."""
        ours = (RoasError, TimeoutError, type(None))
        if not isinstance(run.error, ours) and not isinstance(run.error, asyncio.CancelledError):
            self.fail(Sentence.NO_DEFECT, f"{kind} ended with {run.error!r}.")

    def _must_be_undone(self, before: Running, error: BaseException) -> bool:
        was_ended = isinstance(error, StartFailedError | asyncio.CancelledError)
        return was_ended and self._disturbed_at < before.begun_at and not self._running

    def _went_back_since(self, pid: int) -> bool:
        """Whether the agent has rolled the environment back since a process began, or did so then."""
        rollbacks = (process for process in self._world.processes.values() if process.name == "rollback")
        return any(process.pid > pid - 5 and process.pid not in self._of_people for process in rollbacks)

    def _check_undone(self, kind: str, before: Running, error: BaseException) -> None:
        for name, containers in self.not_serving():
            # A rollback that a person asked for puts the containers back, and says no more of them.
            returns = kind.startswith("rollback") and any(container.is_up for container in containers)
            if name in before.served and not returns:
                self.fail(
                    Sentence.UNDONE,
                    f"{kind} failed, and {name}, which served before, does not: {describe(containers)}.",
                )
        if before.was_stopped:
            services = [shape.name for shape in self._world.shapes]
            if up := [name for name in services if any(one.is_up for one in self._world.containers(name))]:
                self.fail(Sentence.STAYS_STOPPED, f"{kind} failed, and {', '.join(up)}, stopped before, runs.")
            self.will = Will.STOPPED
        if before.served and not self._went_back_since(before.pid):
            self.images.check_failure(kind, before.before, error)

    def _check_proven(self, kind: str) -> None:
        now = self._world.clock.now()
        if now - self._disturbed_at < _UNDISTURBED or self._running:
            return
        for shape in self._world.shapes:
            containers = self._world.containers(shape.name)
            if not any(container.serves or container.container_id in self.paused for container in containers):
                self.fail(
                    Sentence.PROVEN, f"{kind} succeeded, and {shape.name} does not serve: {describe(containers)}."
                )
            if any(_is_known_to_crash(container, now) for container in containers):
                self.fail(Sentence.PROVEN, f"{kind} succeeded, and {shape.name} will crash in a moment.")

    def may_be_down(self, service: str) -> bool:
        """Whether a person keeps a service down, or what it needs, or keeps recovery from it."""
        now = self._world.clock.now()
        names = [service, *self.needs(service)]
        containers = [container for name in names for container in self._world.containers(name)]
        is_down = any(container.stopped_by_hand or container.status == "paused" for container in containers)
        if self.decided & {None, *names}:
            return True
        return is_down or any(wish.until + timedelta(minutes=10) > now for wish in self._wishes)

    def needs(self, service: str) -> tuple[str, ...]:
        """What a service needs."""
        return next(shape.needs for shape in self._world.shapes if shape.name == service)

    def not_serving(self) -> list[tuple[str, list[Container]]]:
        """The services that do not serve, with their containers."""
        services = [(shape.name, self._world.containers(shape.name)) for shape in self._world.shapes]
        return [
            (name, containers) for name, containers in services if not any(container.serves for container in containers)
        ]


def _is_known_to_crash(container: Container, now: datetime) -> bool:
    """Whether its program crashes soon after it is ready, which its health check, or an earlier crash, has shown."""
    crashed = container.restart_count > 0 and container.started_at is not None and now - container.started_at > _SHOWN
    return container.version.outcome is Outcome.CRASHES_LATER and (container.check is not None or crashed)


def _undo_failed(record: Operation | None) -> bool:
    return record is not None and bool(record.record.undo_failed)


def describe(containers: list[Container]) -> str:
    """The containers of a service and their states, in words."""
    if not containers:
        return "it has no container"
    words = (f"{container.name} is {container.status} {container.health or ''}" for container in containers)
    return ", ".join(text.strip() for text in words)
