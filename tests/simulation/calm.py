"""What must be once faults have ended: what should serve does, or a person is asked, and can make it serve."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from models.operations import Operation, OperationStatus
from models.recovery import Choice, Ticket, TicketState
from tasks.runtime.stores import open_stores
from tests.simulation.actions import Kind
from tests.simulation.containers import Outcome, Version
from tests.simulation.ledger import Ledger, Will, describe
from tests.simulation.records import DAY
from tests.simulation.sentences import Sentence
from tests.simulation.world import NAME, Run, World, reference_of

if TYPE_CHECKING:
    from tests.simulation.actors import Actors

_SETTLES = timedelta(seconds=3)
_READY_SECONDS = 30
_REPUBLISHED = 500
"""Added to the number of a version that has a defect: the same one without it."""


class Calm:
    """Compares after a while without events, then lets a person mend all."""

    def __init__(self, world: World, ledger: Ledger, actors: Actors) -> None:
        self._world, self._ledger, self._actors = world, ledger, actors

    async def check(self, *, mends: bool) -> None:
        """Whether what should serve serves, and the record is true; then mend all where that is asked for."""
        ledger, ask, now = self._ledger, self._actors.ask, self._world.clock.now()
        ledger.calms += 1
        recorded = await self._actors.look()
        attempts = await ask(lambda: list(open_stores().recoveries.latest(NAME, now - DAY, 500)))
        tickets: list[Ticket] = await ask(lambda: list(open_stores().tickets.find(environment=NAME)))
        ledger.records.check_attempts(attempts, ledger.runs)
        ledger.records.check_operations(recorded, ledger.runs)
        ledger.records.check_tickets(tickets, max(ledger.killed_at, ledger.stores_failed_at, ledger.agent_since))
        self._check_unconfirmed(recorded)
        await self._check_measured()
        if ledger.will is Will.RUNS:
            self._check_serving(tickets)
        if mends:
            await self._answer(tickets)
            await self._mend()
            ledger.decided.clear()

    def _check_unconfirmed(self, recorded: list[Operation]) -> None:
        """Whether ends that were recorded while the stores failed are there by now, and true."""
        for row in recorded:
            success = self._ledger.unconfirmed.pop(row.deployment_id, None)
            if success is not None and row.ended_at and (row.status is OperationStatus.SUCCESS) is not success:
                self._ledger.fail(Sentence.ONE_END, f"{row.deployment_id} is {row.status} on record.")

    async def _answer(self, tickets: list[Ticket]) -> None:
        """Mend the cause of an open ticket, and give the answer that makes its service serve."""
        ledger, world = self._ledger, self._world
        down = dict(ledger.not_serving())
        about = [ticket for ticket in tickets if ticket.state is TicketState.OPEN and down.get(ticket.service or "")]
        ready = [ticket for ticket in about if ticket.service and down.keys().isdisjoint(ledger.needs(ticket.service))]
        if not ready or ledger.will is not Will.RUNS or ledger.may_be_down(str(ready[0].service)):
            return
        ticket, service = ready[0], str(ready[0].service)
        containers = down[service]
        if any(container.version.outcome is not Outcome.SERVES for container in containers):
            return
        world.engine.broken.discard(service)
        run = await self._actors.answer(ticket, Choice.AGAIN)
        await run.ended.wait()
        if service in dict(ledger.not_serving()):
            ledger.fail(Sentence.ANSWER_HELPS, f"{run.error or run.result}; {service}: {describe(containers)}.")
        recorded = await self._actors.ask(lambda: open_stores().tickets.get(ticket.ticket_id))
        if recorded.state is TicketState.OPEN:
            ledger.fail(Sentence.ANSWER_HELPS, f"{ticket.ticket_id} is open: {run.error or run.result}.")

    def _check_serving(self, tickets: list[Ticket]) -> None:
        ledger = self._ledger
        about = {ticket.service for ticket in tickets if ticket.state is TicketState.OPEN}
        self._world.note("calm", f"open tickets: {[ticket.ticket_id for ticket in tickets]}")
        for service, containers in ledger.not_serving():
            # The ticket of what it needs is about it as well.
            if about.isdisjoint({service, None, *ledger.needs(service)}) and not ledger.may_be_down(service):
                ledger.fail(
                    Sentence.SERVES_OR_TICKET, f"{service} does not serve: {describe(containers)}; tickets: {about}."
                )

    async def _check_measured(self) -> None:
        ledger = self._ledger
        since = self._world.clock.now() - timedelta(seconds=2 * self._world.collect_every) - _SETTLES
        if ledger.is_elsewhere_since(since) or ledger.stores_failed_at > since:
            return
        if ledger.agent is None or ledger.agent.is_dead or ledger.agent_since > since:
            return
        reports = await self._actors.ask(lambda: open_stores().health.latest_reports(since))
        if NAME not in reports:
            ledger.fail(Sentence.MEASURED, f"Nothing was measured since {since:%H:%M:%S}.")

    async def _update(self) -> Run:
        run = await self._actors.operate("update", now=True)
        await run.ended.wait()
        return run

    async def _start_by_hand(self, name: str) -> None:
        (container,) = (one for one in self._world.containers() if one.name == name)
        self._ledger.note_by_hand(Kind.START_BY_HAND, container)
        self._world.note("ann", f"docker start {name}")
        self._world.engine.start(container)
        await asyncio.sleep(_READY_SECONDS)

    async def _mend(self) -> None:
        """A person makes all serve again, where something does not: by one command, or what its refusal names."""
        ledger, world = self._ledger, self._world
        if not ledger.not_serving() and ledger.will is Will.RUNS:
            return
        for container in world.containers():
            world.engine.unpause(container)
        ledger.paused.clear()
        world.engine.broken.clear()
        for shape in world.shapes:
            version = world.engine.registry[reference_of(shape.name)]
            if version.outcome is not Outcome.SERVES:
                number = version.number + _REPUBLISHED
                world.publish(Version(service=shape.name, number=number, schema=version.schema))
        run = refused = await self._update()
        if run.error is not None:
            run = await self._actors.operate("start")
            await run.ended.wait()
        if run.error is not None and (alone := re.search(r"`docker start (\S+)`", str(refused.error))):
            await self._start_by_hand(alone[1])
            run = await self._update()
        if run.error is not None or ledger.not_serving():
            names = {name: describe(containers) for name, containers in ledger.not_serving()}
            ledger.fail(Sentence.START_HELPS, f"{run.error or 'It succeeded'}; what does not serve: {names}.")
