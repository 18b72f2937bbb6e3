"""Watch: hear what happens to an application, look again for what was missed, and hand over what is wrong."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from prefect import flow
from pydantic import Field

from core.errors.evidence import reachable
from core.monitoring.health import judge_declared
from core.monitoring.maintenance import maintenance_windows
from core.recovery.policy import AT_ONCE, PROVEN_AFTER
from core.recovery.triage import (
    LOOP,
    SETTLE,
    WELL,
    Decision,
    Finding,
    TriageContext,
    TriageResult,
    is_bad,
    judge_sign,
    judge_verdict,
    sort_out,
    taken_away,
)
from flows.monitoring.judge_health import dependencies_of, judge_now
from flows.recovery.error_recovery import context_of, continue_recovery, record_failure, recover
from flows.runtime.parameters import ACT, COMPOSE_FILES, ENVIRONMENT, ComposeFiles, EnvironmentName, Hours
from flows.runtime.server_outages import keep_runs_without_lease
from models.compose import Application, ServiceDeclaration
from models.containers import ContainerEvent, ContainerState
from models.environments import Environment
from models.evidence import EvidenceBundle
from models.failures import EngineError, RoasError
from models.health import HealthReport, ServiceVerdict
from models.incidents import Incident, IncidentContext
from models.recovery import RecoveryOutcome
from models.results import WatchReport
from tasks.deployment.services import look_at_application, read_changes
from tasks.errors.evidence import failure_evidence
from tasks.monitoring.events import EventFeed, in_hand, listen, look_around
from tasks.recovery.notify import UNHEALTHY, announce, tell_people
from tasks.recovery.records import cut_off_recoveries, read_patterns, settle_dependants, settle_well, stopped_by_person
from tasks.runtime.clients import load_environment, open_clients_in_parallel
from tasks.runtime.store_access import StoreAccess, outliving_stores

log = logging.getLogger("roas")
keep_runs_without_lease()

SWEEP = timedelta(seconds=60)
_AWAY_SWEEP = timedelta(seconds=10)
"""While the stores are away: soon after they are back, what they missed is settled."""

WATCH_HOURS = 12 - 20 / 3600
"""After so long a watch ends: whatever a process gathers goes with it. Just before twelve hours, since the next
run of its schedule then finds the place free."""

_EVENTS = 1_000_000
_GATHER_SECONDS = 0.1
"""Several services that fail together are heard of within this; nobody notices that one waits for it."""

_PAUSE = timedelta(seconds=1)
"""So long a watch waits after an evaluation that failed, so that a defect does not keep the processor busy."""

_HOST = ""
_SIGTERM = "15"


@flow(name="watch", flow_run_name="watch {environment}")
async def watch(
    environment: EnvironmentName = ENVIRONMENT,
    compose_files: ComposeFiles = COMPOSE_FILES,
    act: bool = ACT,
    hours: Hours = Field(WATCH_HOURS, description="How long; a scheduled watch is begun again after it."),
) -> WatchReport:
    """Watch an environment for so many hours, whether its engine and the stores are there or not.

    While the stores are away it goes on by what it read last, and keeps what it does in a journal until they are back.
    An evaluation that fails is logged and done again. `act` False judges and records only.

    Raises:
        EnvironmentFileError: The environment cannot be read.
    """
    declared = await load_environment(environment, tuple(compose_files or ()))
    until = datetime.now(UTC) + timedelta(hours=hours)
    open_clients_in_parallel()
    access = StoreAccess(environment)
    with outliving_stores(access):
        async with listen(declared) as feed:
            watcher = EnvironmentWatcher(declared, tuple(compose_files or ()), access, act=act, woken=feed.ring)
            await access.begin()
            # They are compiled before the first failure, not while something is down.
            await read_patterns()
            log.info("watching %s until %s", environment, f"{until:%Y-%m-%d %H:%M} UTC")
            try:
                while datetime.now(UTC) < until and watcher.received < _EVENTS:
                    await watcher.survive(_next_evaluation(watcher, feed, until))
            finally:
                await watcher.end()
    return WatchReport(environment=environment, events=watcher.received, handed_over=watcher.handed_over)


async def _next_evaluation(watcher: EnvironmentWatcher, feed: EventFeed, until: datetime) -> None:
    """Wait for an event or for the time of the next sweep, and evaluate what it calls for."""
    await feed.wait(max(timedelta(), min(watcher.look_at, until) - datetime.now(UTC)))
    events, missed = feed.take()
    if missed:
        # Should this evaluation fail, the next one makes up for it.
        watcher.look_at = datetime.now(UTC)
    watcher.hear(events)
    if watcher.suspects:
        await asyncio.gather(asyncio.sleep(_GATHER_SECONDS), watcher.look_ahead())
        events, more = feed.take()
        missed |= more
        watcher.hear(events)
        await watcher.look()
    if missed or datetime.now(UTC) >= watcher.look_at:
        await watcher.sweep()


class EnvironmentWatcher:
    """What a watcher remembers of one environment; never more than a few things for each service."""

    def __init__(
        self,
        declared: Environment,
        files: tuple[str, ...],
        access: StoreAccess,
        *,
        act: bool,
        woken: Callable[[], None],
    ) -> None:
        self.received = 0
        self.handed_over = 0
        self.suspects: set[str] = set()
        self.look_at = datetime.now(UTC)
        self._declared = declared
        self._files = files
        self._access = access
        self._act = act
        self._woken = woken
        self._failures = 0
        self._application: Application | None = None
        self._stopped: set[str] = set()
        self._ends: dict[str, deque[datetime]] = {}
        self._recovering: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, datetime] = {}
        self._handed: dict[str, tuple[str, datetime]] = {}
        self._away: dict[str, datetime] = {}
        self._last_end: dict[str, ContainerEvent] = {}
        self._crashed: dict[str, tuple[datetime, datetime]] = {}
        self._put_off: dict[str, datetime] = {}
        self._noting: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._evidence: dict[str, tuple[str, list[EvidenceBundle]]] = {}
        self._ending: dict[str, datetime] = {}
        self._said: dict[str, str] = {}

    async def survive(self, evaluation: Awaitable[None]) -> None:
        """Evaluate; what fails is logged once and made up for by a sweep, later each time it fails again."""
        try:
            await evaluation
        except Exception as error:
            if not self._failures:
                log.exception("an evaluation of %s failed, and the watch goes on", self._declared.name)
            else:
                self._say(
                    _HOST, f"an evaluation of {self._declared.name} failed again: {error or type(error).__name__}"
                )
            self._failures += 1
            pause = min(_PAUSE * 2 ** min(self._failures - 1, 6), SWEEP)
            self.look_at = datetime.now(UTC) + pause
            # Events come in meanwhile, and are heard after it.
            await asyncio.sleep(_PAUSE.total_seconds())
        else:
            self._failures = 0

    def hear(self, events: Sequence[ContainerEvent]) -> None:
        """Note what happened, and to which services one must look."""
        self.received += len(events)
        for event in events:
            asked = None
            if event.action == "kill" and event.attributes.get("signal") == _SIGTERM:
                self._ending[event.service] = event.happened_at
            elif event.action in ("die", "start"):
                asked = self._ending.pop(event.service, None)
            if event.action == "stop":
                self._stopped.add(event.container_id)
            elif event.action in ("start", "destroy"):
                self._stopped.discard(event.container_id)
            elif event.action == "die" and asked is None and event.service not in self._recovering:
                self._ends.setdefault(event.service, deque(maxlen=LOOP)).append(event.happened_at)
                self._last_end[event.service] = event
            if is_bad(event) and event.service not in self._recovering:
                self.suspects.add(event.service)

    async def look_ahead(self) -> None:
        """Take the evidence of what will be handed over, while others may still fail with it."""
        self._evidence.clear()
        application = self._application
        if application is None:
            return
        try:
            container_states, held = await look_around(self._declared)
            signs = self._signs(application, self.suspects, container_states, datetime.now(UTC))
            failed = [sign for sign in signs if sign.decision is Decision.HAND_OVER and sign.service in self.suspects]
            if held is not None or len(failed) >= AT_ONCE:
                return
            taken = await asyncio.gather(
                *(
                    failure_evidence(
                        self._declared, application, sign.service, deployment_id=None, reason=_words(sign), keep=False
                    )
                    for sign in failed
                )
            )
        except (RoasError, TimeoutError) as error:
            log.info("evidence is taken later: %s", error)
            return
        self._evidence = {
            sign.service: (sign.fingerprint, bundles) for sign, bundles in zip(failed, taken, strict=True)
        }

    async def look(self) -> None:
        """Judge the services that something bad happened to, by what the engine shows of them now."""
        suspects, self.suspects = self.suspects, set()
        application = self._application
        if application is None:
            # Before the first sweep nothing is known of the application; the sweep finds what is wrong.
            self._look_again(timedelta())
            return
        try:
            container_states, held = await look_around(self._declared)
        except (EngineError, TimeoutError) as error:
            log.info("%s cannot be looked at: %s", ", ".join(sorted(suspects)), error or type(error).__name__)
            return
        now = datetime.now(UTC)
        signs = self._signs(application, suspects, container_states, now)
        self._follow(sort_out(signs, self._surroundings(application, held, now), now), now)

    async def sweep(self) -> None:
        """Look at everything: for what no event told of, and for what was left to settle."""
        self.look_at = datetime.now(UTC) + (SWEEP if not self._access.away else _AWAY_SWEEP)
        now = datetime.now(UTC)
        await asyncio.gather(self._access.beat(f"watch/{self._declared.name}", now), self._access.refresh(now))
        try:
            self._declared = await load_environment(self._declared.name, self._files)
            self._application = application = await read_changes(self._declared)
            held = await in_hand(self._declared.name)
            container_states = await look_at_application(self._declared)
            health = await judge_now(self._declared, application, container_states=container_states)
        except (RoasError, TimeoutError) as error:
            # The collection records it; here it only has to be survived.
            self._say(_HOST, f"{self._declared.name} cannot be looked at: {error}")
            return
        self._said.pop(_HOST, None)
        self._forget_all_but(application, container_states)
        if not self._access.was_read:
            # Whether it is meant to run is not known; what fails from now on shows that by its events.
            self._say(_HOST, f"the stores were not read yet, so what of {self._declared.name} was down before is left")
            return
        if not self._access.known.meant_to_run or not container_states:
            self._say(_HOST, f"{self._declared.name} is not meant to run")
            return
        now = datetime.now(UTC)
        self._note_what_is_away(application, container_states, now)
        signs = [
            judge_verdict(
                verdict,
                container_states,
                stopped=await self._stopped_by_person(verdict.service, container_states),
                seen_so=self._away.get(verdict.service),
                now=now,
            )
            for verdict in health.services
        ]
        self._follow(sort_out(signs, self._surroundings(application, held, now), now), now)
        if self._access.away:
            return
        await self._settle(health, held, now)
        self._tell()

    async def end(self) -> None:
        """Let the recoveries that run come to their end; one that only waits for its time is given up."""
        for running in (*self._recovering.values(), *self._noting):
            running.cancel()
        await asyncio.gather(*self._recovering.values(), *self._noting, return_exceptions=True)
        # What is told is on record as told, so it is let out.
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _surroundings(self, application: Application, held: str | None, now: datetime) -> TriageContext:
        windows = maintenance_windows(self._declared.maintenance, now)
        return TriageContext(
            dependencies=dependencies_of(self._declared, application),
            held=held,
            recovering=tuple(name for name in self._recovering if name != _HOST),
            ending=[name for name, at in self._ending.items() if now - at < SETTLE],
            put_off=self._put_off,
            failed=self._failed,
            muted=frozenset(name for name in application.services if any(one.covers(name, now) for one in windows)),
            handed=self._handed,
        )

    def _signs(
        self,
        application: Application,
        suspects: Collection[str],
        container_states: Sequence[ContainerState],
        now: datetime,
    ) -> list[Finding]:
        """What the suspects show, and what they need: whose failure would explain theirs."""
        names = {*suspects, *(need for one in suspects for need in self._needs(application, one))}
        return [
            judge_sign(
                application.services[name],
                container_states,
                judge=self._judge(application.services[name]),
                ends=tuple(self._ends.get(name, ())),
                stopped=self._stopped,
                now=now,
            )
            for name in sorted(names)
            if name in application.services and application.services[name].replicas
        ]

    def _judge(self, declaration: ServiceDeclaration) -> Callable[[Sequence[ContainerState]], ServiceVerdict]:
        spec = self._declared.service(declaration.name)
        return lambda containers: judge_declared(declaration, containers, None, spec)

    def _needs(self, application: Application, service: str) -> tuple[str, ...]:
        """What a service needs, directly or not."""
        needs: dict[str, list[str]] = {}
        for need in dependencies_of(self._declared, application):
            needs.setdefault(need.service, []).append(need.depends_on)
        return reachable(service, needs)

    def _note_what_is_away(
        self, application: Application, container_states: Sequence[ContainerState], now: datetime
    ) -> None:
        for name in application.services:
            if taken_away([seen for seen in container_states if seen.service == name and not seen.one_off]):
                self._away.setdefault(name, now)
            else:
                self._away.pop(name, None)

    async def _settle(self, health: HealthReport, held: str | None, now: datetime) -> None:
        """Take up what a dead runner began, and close what is well again without anybody's doing."""
        name = self._declared.name
        well = {one.service for one in health.services if one.health in WELL} - set(self._recovering)
        back = [service for service in self._crashed if service in well and now - self._crashed[service][1] >= SETTLE]
        if back:
            await settle_well(name, back, now, "the engine restarted it, and it is well again")
        for service in back:
            self._crashed.pop(service)
        for service in well & self._crashed.keys():
            self._look_again(self._crashed[service][1] + SETTLE - now)
        await settle_well(name, sorted(well), now - PROVEN_AFTER, "it has been well for ten minutes, by nobody's doing")
        await settle_dependants(name, sorted(well), now - SETTLE)
        if held is not None or not self._act:
            return
        for cut_off in await cut_off_recoveries(name):
            if cut_off.service and cut_off.service not in self._recovering:
                self._begin(cut_off.service, partial(continue_recovery, cut_off, self._context()))

    async def _stopped_by_person(self, service: str, container_states: Sequence[ContainerState]) -> bool:
        if not any(seen.service == service and seen.state == "exited" for seen in container_states):
            return False
        return await stopped_by_person(self._declared, service)

    def _follow(self, found: TriageResult, now: datetime) -> None:
        for sign in (*found.wait, *found.leave):
            self._say(sign.service, f"{sign.service} is left alone: {sign.reason}")
            end = self._last_end.get(sign.service)
            if sign.crashed and end is not None and self._crashed.get(sign.service, (None,))[0] != end.happened_at:
                self._crashed[sign.service] = (end.happened_at, now)
                code = end.attributes.get("exitCode", "unknown")
                self._note(sign.service, f"{sign.service} exited with code {code}, and the engine starts it again")
        if found.wait:
            self._look_again(SETTLE)
        for sign in found.leave:
            if not sign.ill:
                self._put_off.pop(sign.service, None)
        for sign in found.dispatch:
            self._put_off.pop(sign.service, None)
            self._failed[sign.service] = now
            self._handed[sign.service] = (sign.fingerprint, now)
            self._said.pop(sign.service, None)
            announce(UNHEALTHY, self._declared.name, service=sign.service, text=sign.reason)
            if not found.at_once:
                fingerprint, taken = self._evidence.pop(sign.service, ("", []))
                evidence = taken if fingerprint == sign.fingerprint else []
                self._recover(sign.service, _words(sign), evidence=evidence)
        if found.at_once:
            named = "; ".join(f"{sign.service} is {sign.reason}" for sign in found.dispatch)
            text = f"{', '.join(found.at_once)} failed within {SETTLE.seconds} s: {named}"
            log.warning("none of them is acted on, because %s", text)
            self._recover(_HOST, text, len(found.at_once))

    def _recover(self, service: str, text: str, failing: int = 1, evidence: Sequence[EvidenceBundle] = ()) -> None:
        self.handed_over += 1
        # Every word of it came through the engine's door, which lets no secret pass.
        self._begin(
            service,
            lambda: recover(
                Incident(
                    environment=self._declared.name,
                    text=text,
                    service=service or None,
                    source="watch",
                    failing_services=failing,
                    evidence=tuple(evidence),
                ),
                self._context(),
                act=self._act,
            ),
        )

    def _begin(self, service: str, recovery: Callable[[], Awaitable[RecoveryOutcome]]) -> None:
        self._recovering[service] = asyncio.create_task(self._run_recovery(service, recovery))

    async def _run_recovery(self, service: str, recovery: Callable[[], Awaitable[RecoveryOutcome]]) -> None:
        again = None
        try:
            outcome = await recovery()
            again = outcome.again_at
            self._tell()
        except (RoasError, TimeoutError) as error:
            log.error("recovery of %s ended: %s", service or self._declared.name, error or type(error).__name__)
        except Exception:
            # A defect of ours: it must be seen, and the other services still watched.
            log.exception("recovery of %s broke off", service or self._declared.name)
        finally:
            now = datetime.now(UTC)
            self._recovering.pop(service, None)
            if service != _HOST:
                self._ends.pop(service, None)
                self._failed[service] = now
                # What happened to it meanwhile was taken for the recovery's own doing.
                self.suspects.add(service)
            if again is not None:
                # It is put off, not done with: as it is then, it is handed over again.
                self._handed.pop(service, None)
                self._put_off[service] = again
            # Who needs it has had time to notice by then.
            self._look_again(max(SETTLE, again - now) if again else SETTLE)

    def _note(self, service: str, text: str) -> None:
        """Put on record what the engine mends by itself, while its log still tells."""
        noting = asyncio.create_task(self._noted(service, text))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _noted(self, service: str, text: str) -> None:
        try:
            await record_failure(
                Incident(environment=self._declared.name, text=text, service=service, source="watch"), self._context()
            )
        except (RoasError, TimeoutError) as error:
            log.warning("the end of %s was not recorded: %s", service, error or type(error).__name__)

    def _tell(self) -> None:
        """Tell people what is due, beside all else: who takes the words may be slow to, and others fail meanwhile."""
        telling = asyncio.create_task(self._reported())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _reported(self) -> None:
        try:
            await tell_people(self._declared)
        except Exception as error:  # noqa: BLE001 - whoever is told, and how, must not end the watch
            log.warning("people were not told what is due: %s", error or type(error).__name__)

    def _context(self) -> IncidentContext:
        return context_of(self._declared, self._application)

    def _look_again(self, after: timedelta) -> None:
        self.look_at = min(self.look_at, datetime.now(UTC) + after)
        self._woken()

    def _say(self, about: str, words: str) -> None:
        """Once, until something else is to be said about the same thing."""
        if self._said.get(about) != words:
            self._said[about] = words
            log.info("%s", words)

    def _forget_all_but(self, application: Application, container_states: Sequence[ContainerState]) -> None:
        self._stopped &= {seen.container_id for seen in container_states}
        for known in (
            self._ends,
            self._last_end,
            self._failed,
            self._handed,
            self._said,
            self._away,
            self._crashed,
            self._put_off,
            self._ending,
        ):
            for name in [name for name in known if name not in application.services and name != _HOST]:
                known.pop(name)


def _words(sign: Finding) -> str:
    return f"service {sign.service} is {sign.reason}"
