"""People, the agent and faults: each event of a simulation, done."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from core.deployment.update import refused_images
from flows.agent import agent
from flows.agent.agent import Agent
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.deployment.update import update
from flows.recovery.answer import decide
from flows.storage.restore import restore
from models.audit import Actor
from models.containers import ONE_OFF_LABEL
from models.failures import RoasError
from models.hosts import HostIdentity
from models.operations import Operation, OperationStatus
from models.records import Release
from models.recovery import Choice, Ticket, TicketState
from tasks.deployment.release import lift_images
from tasks.runtime.hosts import this_host
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.stores import open_stores
from tests.simulation import kernel
from tests.simulation.actions import Action, Kind, is_long
from tests.simulation.calm import Calm
from tests.simulation.containers import KILLED, OUTCOMES, TERMINATED, Container, Version
from tests.simulation.data_actors import DATA_KINDS, DataActors
from tests.simulation.engine import Weather
from tests.simulation.ledger import Ledger
from tests.simulation.long_runs import LOOK_EVERY, clean, make_report
from tests.simulation.sentences import Sentence
from tests.simulation.store_trouble import StoreTrouble
from tests.simulation.world import NAME, Run, World, plain

_SUPERVISOR_SECONDS = 2.0
_NEW_VERSION = 0.5
_RESUMES = 0.6
_FLOWS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "start": plain(startup),
    "stop": plain(stop),
    "update": plain(update),
    "rollback": plain(rollback),
    "rollback with data": partial(plain(rollback), with_data=True),
    "restore": partial(plain(restore), confirmed=True),
}
_CHOICES = (Choice.AGAIN, Choice.RETRY, Choice.SKIP, Choice.GIVE_UP, Choice.RESOLVED, Choice.ROLL_BACK)
_ELSEWHERE = HostIdentity(host_id="elsewhere", name="elsewhere")


class Actors:
    """All who act in a world."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world, self._ledger = world, ledger
        self._choices = random.Random(f"actors {world.seed}")
        self._reader = kernel.Process(1, "reader")
        self._agent: Run | None = None
        self._operation: Run | None = None
        self._asked: dict[str, dict[str, Any]] = {}
        """With which parameters each flow run was begun."""
        self._numbers = dict.fromkeys((shape.name for shape in world.shapes), 1)
        self._others: set[asyncio.Task[None]] = set()
        self._calm = Calm(world, ledger, self)
        self._stores = StoreTrouble()
        self._stores.install()
        self.schema = 1
        self._data: DataActors | None = None

    def begin(self) -> None:
        """Publish the first versions, and begin the agent under a supervisor."""
        for shape in self._world.shapes:
            self._world.publish(Version(service=shape.name, number=1, schema=1))
        self._world.write_files()
        self.beside(self._supervise())

    async def _supervise(self) -> None:
        look_every = LOOK_EVERY if is_long(self._world.seed) else agent.LOOK_EVERY
        while True:
            self._agent = self._world.begin("agent", lambda: Agent(look_every=look_every).run(asyncio.Event()))
            self._ledger.note_agent(self._agent.process)
            await self._agent.ended.wait()
            if self._agent.error is not None:
                self._ledger.fail(Sentence.AGENT_LIVES, repr(self._agent.error))
            await asyncio.sleep(_SUPERVISOR_SECONDS)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    async def do(self, action: Action) -> None:
        """Let one event happen; what takes time goes on beside."""
        if action.kind is not Kind.CALM:
            self._world.note("event", str(action))
        if action.kind is Kind.DECLARE_DATA:
            self._data = DataActors(self._world, self._ledger, self, action.share)
        elif action.kind in DATA_KINDS:
            if self._data is not None:
                await self._data.do(action)
        else:
            await _DO[action.kind](self, action)

    # People

    async def operate(self, kind: str, *, retried: Operation | None = None, **parameters: Any) -> Run:
        """Begin an operation, as a command does, or retry its flow run, as a person does in Prefect's UI."""
        releases = await self._releases()
        run_id = f"run-{len(self._asked) + 1}" if retried is None else retried.record.flow_run_id
        run = self._world.begin(
            kind,
            lambda: _FLOWS[kind](NAME, asked_by="ann", **parameters),
            run_id,
            run_count=1 if retried is None else 2,
        )
        self._operation = run
        self._asked[run_id] = parameters
        goes_on = retried is not None and (retried.ended_at is None or bool(retried.record.interrupted))
        taken_up = retried.deployment_id if retried is not None and goes_on else parameters.get("deployment_id")
        self._ledger.begin_operation(kind, run, releases, taken_up)
        if self._data is not None:
            self._data.ledger.begin(run, taken_up)
        self.beside(self._await_operation(kind, run))
        self.beside(self._ledger.check_lease(self, run))
        return run

    async def _await_operation(self, kind: str, run: Run) -> None:
        await run.ended.wait()
        # What is skipped or refused ends with a state of Prefect.
        end = run.error or getattr(run.result, "reason", run.result)
        how = "was killed" if end is None else f"ended: {end}"
        self._world.note("ann", f"{kind} {how}")
        recorded = await self.look()
        self._ledger.images.refused = await self._refused()
        self._ledger.end_operation(kind, run, recorded, await self._releases())
        if self._data is not None:
            self._data.ledger.end(kind, run, recorded)
            if end is not None:
                # One that was killed says nothing itself.
                await self._data.ledger.check_readable(self, kind)

    async def run_beside(self, kind: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Run:
        """Begin what is no operation of its own, as a command does."""
        run = self._operation = self._world.begin(kind, work)

        async def wait() -> None:
            await run.ended.wait()
            self._world.note("ann", f"{kind} ended: {run.error or run.result or 'it was killed'}")

        self.beside(wait())
        return run

    def next_number(self, service: str) -> int:
        """The number of the next version of a service."""
        self._numbers[service] += 1
        return self._numbers[service]

    async def look(self) -> list[Operation]:
        """The latest operations on record, newest first."""
        return await self.ask(lambda: open_stores().operations.latest_recorded(NAME))  # type: ignore[no-any-return]

    async def _releases(self) -> list[Release]:
        """The releases on record, the newest first."""
        return await self.ask(lambda: list(open_stores().releases.latest(NAME)))  # type: ignore[no-any-return]

    async def _refused(self) -> frozenset[str]:
        """The images with which an update has failed, by the record."""
        failed = await self.ask(lambda: open_stores().releases.list_failed(NAME))
        return frozenset(refused_images(failed, NAME))

    async def ask(self, question: Callable[[], Any]) -> Any:
        """Ask the stores, by a process that only reads."""
        return await kernel.run_in(self._reader, asyncio.to_thread(question))

    async def _start(self, _: Action) -> None:
        await self.operate("start")

    async def _stop(self, _: Action) -> None:
        await self.operate("stop")

    async def _update(self, action: Action) -> None:
        if action.share < _NEW_VERSION:
            number = self.next_number(action.service)
            outcome = OUTCOMES[action.number % len(OUTCOMES)]
            starts_in = 1.0 + action.number % 7
            self._world.publish(
                Version(service=action.service, number=number, outcome=outcome, starts_in=starts_in, schema=self.schema)
            )
        await self.operate("update", now=True)

    async def _rollback(self, _: Action) -> None:
        await self.operate("rollback")

    async def _resume(self, action: Action) -> None:
        """Take up what was interrupted, by its command or by a retry of its run, which also begins anew what failed."""
        retries, rows = action.share > _RESUMES, await self.look()
        wanted = (OperationStatus.FAILED,) if retries else ()
        chosen = next(
            (row for row in rows if row.ended_at is None or row.record.interrupted or row.status in wanted), None
        )
        kind = self._ledger.kind_of(chosen.deployment_id) if chosen is not None else None
        if chosen is None or kind is None:
            return
        if retries and (asked := self._asked.get(chosen.record.flow_run_id)) is not None:
            await self.operate(kind, retried=chosen, **asked)
        else:
            more = {"now": True} if kind == "update" else {}
            await self.operate(kind, deployment_id=chosen.deployment_id, **more)

    async def _interrupt(self, _: Action) -> None:
        self.interrupt_now()

    def kill_now(self) -> None:
        """Kill the operation that runs."""
        if self._operation is not None:
            self._world.kill(self._operation.process)

    def interrupt_now(self) -> None:
        """Press Ctrl-C where an operation runs."""
        if self._operation is not None and not self._operation.process.is_dead and self._operation.task is not None:
            self._operation.task.cancel()

    def _container(self, action: Action) -> Container | None:
        return next(iter(self._world.containers(action.service)), None)

    async def _by_hand(self, action: Action) -> None:
        container = self._container(action)
        if container is None:
            return
        engine = self._world.engine
        self._ledger.note_by_hand(action.kind, container)
        if action.kind is Kind.STOP_BY_HAND and container.is_up:
            engine.signal(container, 15, TERMINATED)
            engine.report(container, "stop")
        elif action.kind is Kind.START_BY_HAND:
            engine.start(container)
        elif action.kind is Kind.KILL_BY_HAND and container.is_up:
            engine.signal(container, 9, KILLED)
        elif action.kind is Kind.PAUSE_CONTAINER:
            engine.pause(container)
        elif action.kind is Kind.UNPAUSE_CONTAINER:
            engine.unpause(container)

    async def _run_beside(self, action: Action) -> None:
        """As `docker compose run --rm` does, again and again, in a person's script."""
        container = self._container(action)
        if container is None:
            return
        self._ledger.note_beside(action.service, self)
        labels, host = container.labels | {ONE_OFF_LABEL: "True"}, container.host_config | {"RestartPolicy": {}}
        body = container.config | {"Labels": labels, "HostConfig": host}
        for number in range(1 + action.number % 4):
            await asyncio.sleep(10 * action.share)
            self._world.engine.run_once(f"{NAME}-{action.service}-run-{action.at:.0f}-{number}", body, number % 2)

    async def _pause_recovery(self, action: Action) -> None:
        now = self._world.clock.now()
        until = now + timedelta(minutes=1 + action.number % 20)
        service = action.service if action.share < 0.5 else None
        await self.ask(lambda: open_stores().pauses.pause(NAME, service, until, "work", "ann", now))
        self._ledger.note_pause(service, now, until)

    async def _do_by_schedule(self, action: Action) -> None:
        work = clean if action.kind is Kind.CLEAN else lambda: make_report(NAME)
        run = self._world.begin(action.kind.name.lower(), work)
        await run.ended.wait()
        self._ledger.check_error(action.kind, run)

    async def _maintain(self, action: Action) -> None:
        now = self._world.clock.now()
        until = (now + timedelta(minutes=3 + action.number % 20)).replace(second=0, microsecond=0)
        service = action.service if action.share < 0.5 else None
        window: dict[str, Any] = {"days": [f"{now:%A}".lower()], "from": f"{now:%H:%M}", "to": f"{until:%H:%M}"}
        self._world.maintenance.append(window | ({"services": [service]} if service else {}))
        self._world.write_files()
        self._ledger.note_maintenance(service, now, until)

    async def answer(self, ticket: Ticket, choice: Choice) -> Run:
        """Answer a ticket, as a command does."""

        async def work() -> str:
            with without_task_runs():
                return await decide(ticket, choice, "as it seems best", "ann", Actor(claimed="ann"))

        self._ledger.note_answer(ticket, choice)
        run = self._world.begin("answer", work)
        self.beside(self._await_answer(ticket, choice, run))
        return run

    async def _await_answer(self, ticket: Ticket, choice: Choice, run: Run) -> None:
        await run.ended.wait()
        self._world.note("ann", f"{choice} of {ticket.ticket_id}: {run.error or run.result}")
        self._ledger.check_error("answer", run)

    async def _answer(self, action: Action) -> None:
        tickets = await self.ask(lambda: list(open_stores().tickets.find(environment=NAME)))
        waiting = [ticket for ticket in tickets if ticket.state is not TicketState.RESOLVED]
        if waiting:
            await self.answer(waiting[action.number % len(waiting)], _CHOICES[int(action.share * len(_CHOICES))])

    async def _lift(self, action: Action) -> None:
        now, images = self._world.clock.now(), sorted(self._ledger.images.refused)
        if images:
            digest = images[action.number % len(images)]
            with suppress(RoasError):
                await self.ask(lambda: lift_images(NAME, digest, "ann", now))
            self._ledger.images.refused = await self._refused()

    async def _take_elsewhere(self, action: Action) -> None:
        """Another host takes the environment as it is released here, and gives it back some minutes later."""
        world, pause = self._world, timedelta(minutes=3 + action.number % 8)
        world.has_other_hosts = True

        def move(to: HostIdentity | None) -> bool:
            hosts = open_stores().hosts
            here = to or this_host()
            owner = hosts.owner(NAME)
            if open_stores().leases.current(NAME, world.clock.now()) is not None:
                return False
            if owner is not None:
                hosts.let_go(NAME, HostIdentity(host_id=owner, name=owner))
            return hosts.bind(NAME, here) == here.host_id

        if not self._ledger.is_elsewhere_since(world.clock.now()) and await self.ask(lambda: move(_ELSEWHERE)):
            self._ledger.note_elsewhere(world.clock.now(), world.clock.now() + pause)
            self.beside(self.after(pause.total_seconds(), lambda: self.beside(self._take_back(move))))

    async def _take_back(self, move: Callable[[HostIdentity | None], bool]) -> None:
        await self.ask(lambda: move(None))

    # Faults

    async def _stores_fail(self, action: Action) -> None:
        self._ledger.note_stores()
        self._stores.how = "away" if action.kind is Kind.STORES_AWAY else "full"
        self.beside(self.after(2.0 + 2 * action.number, self._mend_stores))

    def _mend_stores(self) -> None:
        self._stores.how = ""
        self._ledger.note_stores()

    async def _begin_second_agent(self, action: Action) -> None:
        run = self._world.begin("agent", lambda: Agent().run(asyncio.Event()))
        self.beside(self.after(30.0 * action.number, lambda: self._kill_process(run.process)))

    def _kill_process(self, process: kernel.Process) -> None:
        self._ledger.note_kill()
        self._world.kill(process)

    async def _fail(self, action: Action) -> None:
        container = self._container(action)
        if container is None or container.status != "running":
            return
        if action.kind is Kind.UNHEALTHY and container.health is None:
            return
        if action.kind is Kind.CRASH_LOOP:
            self._world.engine.broken.add(action.service)
        self._ledger.note_failure(container, self)
        if action.kind in (Kind.CRASH, Kind.CRASH_LOOP):
            container.log.append("worker ended")
            self._world.engine.die(container, 1)
        elif action.kind is Kind.OUT_OF_MEMORY:
            self._world.engine.die(container, KILLED, oom=True)
        else:
            self._world.engine.sicken(container)

    async def _kill(self, action: Action) -> None:
        run = self._agent if action.kind is Kind.KILL_AGENT else self._operation
        if run is None or run.process.is_dead:
            return
        self._ledger.note_kill()
        if action.share < 0.4:
            self._world.kill(run.process)
        elif action.share < 0.7:
            run.process.statements_until_kill = action.number // 3
        else:
            run.process.steps_until_kill = action.number

    async def _lose_events(self, _: Action) -> None:
        self._world.engine.break_streams()

    async def _engine_away(self, action: Action) -> None:
        weather = self._world.engine.weather
        weather.is_away = True
        self._ledger.disturb()
        self._world.engine.break_streams()
        self.beside(self.after(2.0 + action.number, lambda: setattr(weather, "is_away", False)))

    async def _engine_restarts(self, action: Action) -> None:
        self._ledger.note_engine_restart()
        await self._engine_away(Action(action.at, action.kind, number=action.number % 5))
        self._world.engine.restart()

    async def _bad_weather(self, action: Action) -> None:
        weather = Weather(refused=0.1 * action.share, hang=0.02 * action.share, twice=0.2 * action.share)
        self._world.engine.weather = weather
        self._ledger.disturb()
        self.beside(self.after(5.0 + action.number, lambda: setattr(self._world.engine, "weather", Weather())))

    async def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Do something after so many seconds."""
        await asyncio.sleep(seconds)
        self._ledger.disturb()
        call()

    async def _check_calm(self, action: Action) -> None:
        if self._data is not None:
            await self._data.check_calm(mends=not action.share)
        await self._calm.check(mends=not action.share)


_DO: dict[Kind, Callable[[Actors, Action], Coroutine[Any, Any, None]]] = {
    Kind.START: Actors._start,
    Kind.STOP: Actors._stop,
    Kind.UPDATE: Actors._update,
    Kind.ROLLBACK: Actors._rollback,
    Kind.RESUME: Actors._resume,
    Kind.INTERRUPT: Actors._interrupt,
    Kind.STOP_BY_HAND: Actors._by_hand,
    Kind.START_BY_HAND: Actors._by_hand,
    Kind.KILL_BY_HAND: Actors._by_hand,
    Kind.RUN_BESIDE: Actors._run_beside,
    Kind.PAUSE_CONTAINER: Actors._by_hand,
    Kind.UNPAUSE_CONTAINER: Actors._by_hand,
    Kind.PAUSE_RECOVERY: Actors._pause_recovery,
    Kind.MAINTENANCE: Actors._maintain,
    Kind.ANSWER: Actors._answer,
    Kind.LIFT: Actors._lift,
    Kind.ELSEWHERE: Actors._take_elsewhere,
    Kind.STORES_AWAY: Actors._stores_fail,
    Kind.STORES_FULL: Actors._stores_fail,
    Kind.SECOND_AGENT: Actors._begin_second_agent,
    Kind.CRASH: Actors._fail,
    Kind.CRASH_LOOP: Actors._fail,
    Kind.OUT_OF_MEMORY: Actors._fail,
    Kind.UNHEALTHY: Actors._fail,
    Kind.KILL_AGENT: Actors._kill,
    Kind.KILL_OPERATION: Actors._kill,
    Kind.LOSE_EVENTS: Actors._lose_events,
    Kind.ENGINE_AWAY: Actors._engine_away,
    Kind.ENGINE_RESTARTS: Actors._engine_restarts,
    Kind.BAD_WEATHER: Actors._bad_weather,
    Kind.CLEAN: Actors._do_by_schedule,
    Kind.REPORT: Actors._do_by_schedule,
    Kind.CALM: Actors._check_calm,
}
