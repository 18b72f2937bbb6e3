"""Defects that are put into the product on purpose: the simulation must find each, or it proves nothing about it.

Each changes one function of the product as a careless change could: it forgets a check, a wish or a record.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import Any

from core.recovery.tracker import SETTLE
from tests.simulation.actions import Action, Kind
from tests.simulation.installed import product_modules
from tests.simulation.sentences import Sentence


@dataclass(frozen=True, slots=True)
class Fault:
    """A defect: where it is, what stands there instead, and which sentences it may break."""

    name: str
    place: str
    instead: Callable[[Any], Any]
    breaks: frozenset[Sentence]
    shown_by: tuple[Action, ...]
    """A few events that show it; seeds must find it as well."""
    seed: int = 1

    def put(self) -> None:
        """Put it into the product of this process, in each module that has the function."""
        home, _, name = self.place.rpartition(":")
        owner: Any = importlib.import_module(home.partition("#")[0])
        if "#" in home:
            owner = getattr(owner, home.partition("#")[2])
        right = getattr(owner, name)
        wrong = self.instead(right)
        setattr(owner, name, wrong)
        for module in product_modules():
            if vars(module).get(name) is right:
                setattr(module, name, wrong)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_, **__: value


def _all_succeeded(finish: Any) -> Any:
    from models.operations import OperationStatus

    def call(self: Any, deployment_id: str, _status: Any, *more: Any, **named: Any) -> Any:
        return finish(self, deployment_id, OperationStatus.SUCCESS, *more, **named)

    return call


def _no_steps(_: Any) -> Any:
    return ()


def _takes_any(_: Any) -> Any:
    from contextlib import asynccontextmanager

    from tasks.deployment.lease import LeaseHold

    @asynccontextmanager
    async def hold(*_: Any, **__: Any) -> Any:
        yield LeaseHold()

    return hold


def _proven_at_once(_: Any) -> Any:
    async def call(attempt: Any, *_: Any, **__: Any) -> Any:
        return await attempt.inspect()

    return call


def _events(*events: tuple[float, Kind, str, int, float]) -> tuple[Action, ...]:
    return (Action(1.0, Kind.START), *(Action(*event) for event in events))


def _broken(*sentences: Sentence) -> frozenset[Sentence]:
    return frozenset(sentences)


_CRASHES = 1
"""The number of an update whose version crashes."""

FAULTS = (
    Fault(
        "a budget is not kept",
        "core.recovery.policy:_spent_budget",
        _always(None),
        _broken(Sentence.BUDGET),
        _events((120, Kind.CRASH_LOOP, "web", 0, 0), (1300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "a stop by hand is not seen",
        "tasks.recovery.stops:was_stopped",
        _always(None),
        _broken(Sentence.STAYS_DOWN_BY_HAND, Sentence.STAYS_STOPPED),
        _events((120, Kind.STOP_BY_HAND, "web", 0, 0), (130, Kind.KILL_AGENT, "", 0, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "a pause of recovery is not asked for",
        "core.recovery.policy:_switched_off",
        _always(None),
        _broken(Sentence.RECOVERY_PAUSED),
        _events((120, Kind.PAUSE_RECOVERY, "web", 10, 0), (130, Kind.CRASH, "web", 0, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "a quarantine is ignored",
        "tasks.deployment.services:refused_images",
        _always({}),
        _broken(Sentence.QUARANTINE),
        _events((120, Kind.UPDATE, "web", _CRASHES, 0), (300, Kind.UPDATE, "web", 0, 0.9), (500, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "an update that fails is not undone",
        "flows.deployment.update:UPDATE_BACK",
        _no_steps,
        _broken(Sentence.UNDONE),
        _events((120, Kind.UPDATE, "web", _CRASHES, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "nothing is proven",
        "tasks.deployment.start_service:wait_until_proven",
        _proven_at_once,
        _broken(Sentence.PROVEN, Sentence.START_HELPS),
        _events((120, Kind.UPDATE, "web", _CRASHES, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "an operation holds nothing",
        "flows.operation.recorder:hold_environment",
        _takes_any,
        _broken(Sentence.ONE_AT_A_TIME, Sentence.NO_DEFECT, Sentence.PROVEN, Sentence.ONE_END),
        _events((120, Kind.UPDATE, "web", 0, 0), (126, Kind.STOP, "", 0, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "an interruption is not noticed",
        "tasks.deployment.operations:_end_orphans",
        _always([]),
        _broken(Sentence.ONE_END),
        _events(
            (120, Kind.UPDATE, "web", 0, 0),
            (124, Kind.KILL_OPERATION, "", 0, 0),
            (200, Kind.START, "", 0, 0),
            (400, Kind.CALM, "", 0, 0),
        ),
    ),
    Fault(
        "each end is recorded as a success",
        "adapters.stores.repositories.operations#Operations:finish",
        _all_succeeded,
        _broken(Sentence.ONE_END),
        _events((120, Kind.UPDATE, "web", _CRASHES, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "the watch never sweeps",
        "flows.recovery.watch#EnvironmentWatcher:sweep",
        lambda _: _postpone,
        _broken(Sentence.SERVES_OR_TICKET, Sentence.DEATH_RECORDED),
        _events((120, Kind.KILL_AGENT, "", 0, 0), (121, Kind.CRASH, "web", 0, 0), (1300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "the wait for a collection counts as a hang",
        "flows.agent.agent:_sleep_until",
        lambda _: _sleep_at_once,
        _broken(Sentence.MEASURED),
        _events((9000, Kind.CALM, "", 0, 0)),
        seed=3,
    ),
    Fault(
        "a crash loop counts as over after each restart",
        "flows.recovery.reconcile#Reconciler:back_after_crash",
        lambda _: _forget_all_crashes,
        _broken(Sentence.SERVES_OR_TICKET),
        _events((120, Kind.CRASH_LOOP, "jobs", 0, 0), *((900 + 47 * look, Kind.CALM, "", 0, 1.0) for look in range(9))),
    ),
    Fault(
        "no ticket is opened",
        "adapters.stores.repositories.tickets#Tickets:open",
        lambda _: _same_ticket,
        _broken(Sentence.SERVES_OR_TICKET),
        _events((120, Kind.CRASH_LOOP, "web", 0, 0), (1300, Kind.CALM, "", 0, 0)),
    ),
)


async def _sleep_at_once(due_at: Any, _: Any) -> None:
    from flows.agent import agent

    await asyncio.sleep(max(0.0, (due_at - agent.datetime.now(UTC)).total_seconds()))


def _forget_all_crashes(self: Any, healthy: Any, now: Any) -> tuple[list[str], list[timedelta]]:
    crashed = {name: tracker.crash[1] for name, tracker in self.trackers.items() if tracker.crash and name in healthy}
    back = [name for name, at in crashed.items() if now - at >= SETTLE]
    for name in back:
        self.trackers[name] = replace(self.trackers[name], crash=None)
    return back, [at + SETTLE - now for name, at in crashed.items() if name not in back]


async def _postpone(watcher: Any) -> None:
    from flows.agent import agent

    watcher.next_sweep = agent.datetime.now(UTC) + timedelta(minutes=1)


def _same_ticket(_: Any, ticket: Any) -> Any:
    return ticket
