"""Deliberate faults of the agent: what it watches, recovers, measures and reports."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

from core.recovery.tracker import SETTLE
from models.containers import ONE_OFF_LABEL
from tests.simulation.actions import Kind
from tests.simulation.fault import Fault, always, always_later, broken, events, put
from tests.simulation.sentences import Sentence


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


def _without_record(note: Any) -> Any:
    from core.recovery.triage import STOPPED
    from models.recovery import PersonStop

    async def call(stopped: Any) -> Any:
        return stopped if stopped is None or isinstance(stopped, PersonStop) else STOPPED

    return call


def _sees_commands(see: Any) -> Any:
    return lambda self, event: see(self, replace(event, attributes={**event.attributes, ONE_OFF_LABEL: "False"}))


_LOOP = events((60, Kind.CRASH_LOOP, "web", 0, 0), (400, Kind.CALM, "", 0, 1))
_CRASH = events((60, Kind.CRASH, "web", 0, 0), (200, Kind.CALM, "", 0, 1))

RECOVERY_FAULTS = (
    Fault(
        "a command beside a service is an end of it",
        "tasks.monitoring.events#EventFeed:see",
        _sees_commands,
        broken(Sentence.NO_FAILURE),
        events((300, Kind.RUN_BESIDE, "web", 3, 0.2), (450, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a budget is not kept",
        "core.recovery.policy:_spent_budget",
        always(None),
        broken(Sentence.BUDGET),
        _LOOP,
    ),
    Fault(
        "there is no pause before another attempt",
        "core.recovery.policy:backoff",
        always(timedelta()),
        broken(Sentence.BACK_OFF),
        events((60, Kind.CRASH_LOOP, "web", 0, 0), (300, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a stop by hand is not seen",
        "tasks.recovery.stops:was_stopped",
        always(None),
        broken(Sentence.STAYS_DOWN_BY_HAND, Sentence.STAYS_STOPPED),
        events((60, Kind.STOP_BY_HAND, "web", 0, 0), (70, Kind.KILL_AGENT, "", 0, 0), (200, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a stop by hand is not remembered",
        "tasks.recovery.stops:note_stop",
        _without_record,
        broken(Sentence.STAYS_DOWN_BY_HAND, Sentence.STAYS_STOPPED),
        events(
            (60, Kind.STOP_BY_HAND, "web", 0, 0),
            (150, Kind.ENGINE_RESTARTS, "", 0, 0),
            (156, Kind.KILL_AGENT, "", 0, 0),
            (300, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "a pause of recovery is not asked for",
        "core.recovery.policy:_switched_off",
        always(None),
        broken(Sentence.RECOVERY_PAUSED, Sentence.MAINTENANCE),
        events((60, Kind.PAUSE_RECOVERY, "web", 10, 0), (70, Kind.CRASH, "web", 0, 0), (200, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "maintenance is ignored",
        "core.monitoring.snapshot:maintenance_windows",
        always([]),
        broken(Sentence.MAINTENANCE),
        events((60, Kind.MAINTENANCE, "web", 10, 0), (150, Kind.CRASH, "web", 0, 0), (300, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "what belongs to another host is watched",
        "tasks.runtime.hosts:refuse_owner",
        always(None),
        broken(Sentence.OWN_HOST),
        events((60, Kind.ELSEWHERE, "", 5, 0), (160, Kind.CRASH, "web", 0, 0), (300, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a recovery does not wait for its proof",
        "tasks.deployment.start_service:wait_until_healthy",
        always_later("it is healthy"),
        broken(Sentence.RECOVERED),
        _CRASH,
    ),
    Fault(
        "a recovery whose process was killed is not continued",
        "tasks.recovery.records:cut_off_recoveries",
        always_later([]),
        broken(Sentence.RECOVERY_ENDS),
        events((60, Kind.CRASH, "web", 0, 0), (65, Kind.KILL_AGENT, "", 0, 0), (800, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "what fails is recovered before what it needs",
        "core.recovery.triage:_behind_its_cause",
        lambda _: lambda observation, *_: observation,
        broken(Sentence.ORDER, Sentence.ONE_TICKET),
        events((60, Kind.CRASH_LOOP, "db", 0, 0), (180, Kind.CRASH, "web", 0, 0), (400, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "the watch never sweeps",
        "flows.recovery.watch#EnvironmentWatcher:sweep",
        put(_postpone),
        broken(Sentence.SERVES_OR_TICKET, Sentence.DEATH_RECORDED),
        events((60, Kind.KILL_AGENT, "", 0, 0), (61, Kind.CRASH, "web", 0, 0), (300, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "what happened without a connection is not made up for",
        "flows.recovery.reconcile#Reconciler:forget_requests",
        always(None),
        broken(Sentence.SERVES_OR_TICKET, Sentence.DEATH_RECORDED),
        events(
            (60, Kind.STOP_BY_HAND, "web", 0, 0),
            (80, Kind.ENGINE_AWAY, "", 20, 0),
            (85, Kind.START_BY_HAND, "web", 0, 0),
            (300, Kind.CRASH, "web", 0, 0),
            (500, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "a crash loop is not noticed",
        "core.recovery.tracker:LOOP",
        put(99),
        broken(Sentence.SERVES_OR_TICKET),
        events((60, Kind.CRASH_LOOP, "jobs", 0, 0), (500, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a ticket of a crash loop is closed after each restart",
        "flows.recovery.reconcile#Reconciler:back_after_crash",
        put(_forget_all_crashes),
        broken(Sentence.SERVES_OR_TICKET, Sentence.REPORTED),
        events((120, Kind.CRASH_LOOP, "jobs", 0, 0), *((900 + 47 * look, Kind.CALM, "", 0, 1.0) for look in range(9))),
    ),
    Fault(
        "a death after which the engine restarts is not recorded",
        "flows.recovery.reconcile#Reconciler:new_crash",
        always(None),
        broken(Sentence.DEATH_RECORDED),
        events((240, Kind.CRASH, "jobs", 0, 0), (400, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "no ticket is opened",
        "adapters.stores.repositories.tickets#Tickets:open",
        put(_same_ticket),
        broken(Sentence.SERVES_OR_TICKET),
        _LOOP,
    ),
    Fault(
        "an answer to try again is not followed",
        "flows.recovery.process#RecoveryProcess:_decide",
        always(None),
        broken(Sentence.ANSWER_HELPS),
        events((60, Kind.CRASH_LOOP, "web", 0, 0), (300, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "a message is sent twice",
        "tasks.recovery.notify:_claim",
        always(True),
        broken(Sentence.ONE_MESSAGE),
        events((60, Kind.CRASH_LOOP, "web", 0, 0), (300, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "no message is sent",
        "tasks.recovery.notify:_claim_due",
        always([]),
        broken(Sentence.REPORTED),
        events((60, Kind.CRASH_LOOP, "web", 0, 0), (850, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "the wait for a collection counts as a hang",
        "flows.agent.agent:_sleep_until",
        put(_sleep_at_once),
        broken(Sentence.MEASURED),
        events((4000, Kind.CALM, "", 0, 1)),
        seed=9,
    ),
)
