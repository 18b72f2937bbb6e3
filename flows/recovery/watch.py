"""Watch: observe an application by the engine's events and by sweeps, and recover what fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from core.common.dependencies import dependencies_of, needs_of, reachable
from core.monitoring.health import judge_declared
from core.monitoring.snapshot import maintenance_windows
from core.recovery.policy import AT_ONCE
from core.recovery.tracker import NO_SERVICE, SETTLE
from core.recovery.triage import (
    Decision,
    ServiceObservation,
    TriageContext,
    observe_containers,
    observe_verdict,
    services_ended_with_engine,
)
from flows.common.judge_health import judge_now
from flows.common.needs import needs_down
from flows.recovery.diagnose import take_evidence
from flows.recovery.error_recovery import record_failure
from flows.recovery.watched_recoveries import WatchedRecoveries, run_beside
from models.compose import Application
from models.containers import ContainerState
from models.failures import EngineError, RoasError
from models.incidents import Incident
from models.results import WatchReport
from tasks.deployment.services import inspect_application, read_known
from tasks.monitoring.events import engine_started_at, in_hand, inspect_environment, listen
from tasks.monitoring.watch_lock import watching_alone
from tasks.recovery.notify import UNHEALTHY, announce
from tasks.recovery.records import read_patterns
from tasks.recovery.stops import stop_of
from tasks.runtime.clients import open_clients_in_parallel
from tasks.runtime.hosts import refuse_owner
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.project import load_project
from tasks.runtime.store_access import StoreAccess, outliving_stores
from tasks.runtime.traces import pause_tracing

log = logging.getLogger("roas")

SWEEP = timedelta(seconds=60)
_AWAY_SWEEP = timedelta(seconds=10)
"""While the stores are away or were not read yet, so that what was missed is settled soon after they answer."""

_UNTIL_STOPPED = 24 * 365.0
_EVENTS = 1_000_000
_GATHER_SECONDS = 0.1
"""Events of services that fail together arrive within this."""

_PAUSE = timedelta(seconds=1)
"""Wait after an evaluation that failed, so that a defect does not keep the processor busy."""


async def watch(
    environment: str, compose_files: Sequence[str] | None = None, *, act: bool = True, hours: float | None = None
) -> WatchReport:
    """Watch one environment as the agent does, for so many hours or until cancelled.

    It watches whether engine and stores are there or not. While the stores are away it uses what it read last, and
    keeps its writes in a journal until they are back. An evaluation that fails is logged and repeated. `act` False
    diagnoses and records only. Where another process of this host watches the environment, such as the agent, this
    ends at once.

    Raises:
        EnvironmentFileError: The environment cannot be read.
        WrongHostError: The environment belongs to another host, or was moved to it meanwhile.
    """
    files = tuple(compose_files or ())
    project = await load_project(environment, files)
    until = datetime.now(UTC) + timedelta(hours=hours or _UNTIL_STOPPED)
    open_clients_in_parallel()
    access = StoreAccess(environment)
    with (
        without_task_runs(),
        outliving_stores(access),
        pause_tracing(),
        watching_alone(environment, "a watch") as other,
    ):
        if other is not None:
            log.warning("this watch of %s ends, because %s watches it", environment, other)
            return WatchReport(environment=environment, events=0, handed_over=0)
        async with listen(project) as feed:
            watcher = EnvironmentWatcher(project, files, access, feed, act=act)
            await access.begin()
            log.info("watching %s until %s", environment, f"{until:%Y-%m-%d %H:%M} UTC")
            try:
                await watcher.run(until)
            finally:
                await watcher.end()
    return WatchReport(environment=environment, events=watcher.received, handed_over=watcher.dispatched)


class EnvironmentWatcher(WatchedRecoveries):
    """Observes one environment, and runs one recovery a service."""

    async def run(self, until: datetime, progress: Callable[[], None] = lambda: None) -> None:
        """Observe and recover until a moment; `progress` is called after each evaluation.

        Raises:
            WrongHostError: The environment belongs to another host.
        """
        # They are compiled before the first failure, not while something is down.
        await read_patterns()
        while datetime.now(UTC) < until and self.received < _EVENTS:
            refuse_owner(self.declared.name, self._access.known.host_id)
            await self.survive(self.evaluate(until))
            progress()

    async def survive(self, evaluation: Awaitable[None]) -> None:
        """Run an evaluation; log its failure once, and make up for it by a sweep, later after each further failure."""
        try:
            await evaluation
        except Exception as error:
            if not self._failures:
                log.exception("an evaluation of %s failed, and the watch goes on", self.declared.name)
            else:
                self._log(
                    NO_SERVICE,
                    f"an evaluation of {self.declared.name} failed again: {error or type(error).__name__}",
                )
            self._failures += 1
            pause = min(_PAUSE * 2 ** min(self._failures - 1, 6), SWEEP)
            self.next_sweep = datetime.now(UTC) + pause
            # Events that arrive meanwhile wait in the feed.
            await asyncio.sleep(_PAUSE.total_seconds())
        else:
            self._failures = 0

    async def evaluate(self, until: datetime) -> None:
        """Wait for an event or for the time of the next sweep, and observe what it concerns."""
        if not self.reconciler.queued_services:
            await self._feed.wait(max(timedelta(), min(self.next_sweep, until) - datetime.now(UTC)))
        self._project.refresh()
        self.receive()
        if self.reconciler.queued_services:
            await asyncio.gather(asyncio.sleep(_GATHER_SECONDS), self.gather_evidence())
            self.receive()
            await self.observe_queued()
        if datetime.now(UTC) >= self.next_sweep:
            await self.sweep()

    def receive(self) -> frozenset[str]:
        """Queue the services of new events, and return them; where events were missed, a sweep is due at once."""
        events, missed = self._feed.take()
        self.received += len(events)
        if missed:
            self.reconciler.forget_requests(self.reconciler.trackers)
            self.next_sweep = datetime.now(UTC)
        for service in self.reconciler.receive(events):
            run_beside(self._short_tasks, self._record_stop(service), f"the stop of {service} was not recorded")
        return frozenset(event.service for event in events)

    async def gather_evidence(self) -> None:
        """Take evidence of the failures that will be dispatched, while further events may arrive."""
        self._evidence.clear()
        application = self._application
        if application is None:
            return
        queued = self.reconciler.queued_services
        try:
            container_states, holder = await inspect_environment(self._project)
            observations = self._observe(application, queued, container_states, datetime.now(UTC))
            failed = [
                observation
                for observation in observations
                if observation.decision is Decision.RECOVER and observation.service in queued
            ]
            if holder is not None or len(failed) >= AT_ONCE:
                return
            evidence = await asyncio.gather(
                *(
                    take_evidence(self._context(), observation.service, observation.text, keep=False)
                    for observation in failed
                )
            )
        except (RoasError, TimeoutError) as error:
            log.info("evidence is taken later: %s", error)
            return
        self._evidence = {
            observation.service: (observation.fingerprint, bundles)
            for observation, bundles in zip(failed, evidence, strict=True)
        }

    async def observe_queued(self) -> None:
        """Observe the queued services by their containers, and act on what fails."""
        queued = self.reconciler.take()
        application = self._application
        if application is None:
            # Before the first sweep the application is not known; the sweep finds what fails.
            self._sweep_after(timedelta())
            return
        try:
            container_states, holder = await inspect_environment(self._project)
        except (EngineError, TimeoutError) as error:
            log.info("%s cannot be observed: %s", ", ".join(sorted(queued)), error or type(error).__name__)
            return
        now = datetime.now(UTC)
        observations = self._observe(application, queued, container_states, now)
        with_engine = await self._services_ended_with_engine(observations, container_states)
        needs_down = await self._needs_down(observations)
        self._decide(observations, application, holder, now, with_engine, needs_down)

    async def sweep(self) -> None:
        """Observe every service: for missed events, and for what was left to settle."""
        is_known = self._access.was_read and not self._access.away
        self.next_sweep = datetime.now(UTC) + (SWEEP if is_known else _AWAY_SWEEP)
        now = datetime.now(UTC)
        self._access.beat(f"watch/{self.declared.name}", now)
        await self._access.refresh(now)
        try:
            self._project = await load_project(self.declared.name, self._files)
            self._application = application = await read_known(self._project)
            holder = await in_hand(self.declared.name)
            container_states = await inspect_application(self._project)
            health = await judge_now(self._project, application, container_states=container_states)
        except (RoasError, TimeoutError) as error:
            # The collection records it; the watch only survives it.
            self._log(NO_SERVICE, f"{self.declared.name} cannot be observed: {error}")
            return
        if not self._access.was_read:
            # Whether the application is meant to run is not known; later failures show it by their events.
            self._log(
                NO_SERVICE,
                f"the stores were not read yet, so what of {self.declared.name} was down before is left",
            )
            return
        if not self._access.known.meant_to_run or not container_states:
            self._log(NO_SERVICE, f"{self.declared.name} is not meant to run")
            return
        self._logged.pop(NO_SERVICE, None)
        self._claim()
        ended = {container.service for container in container_states if container.state == "exited"}
        stopped = {
            verdict.service: await stop_of(self._project, verdict.service, self.reconciler.ends(verdict.service))
            for verdict in health.services
            if verdict.service in ended
        }
        now = datetime.now(UTC)
        self.reconciler.sweep(application.services.keys(), container_states, now)
        # They may show that a person stopped or started a service since its containers were inspected.
        changed = self.receive()
        observations = [
            observe_verdict(
                verdict,
                container_states,
                stopped=stopped.get(verdict.service),
                tracker=self.reconciler.tracker(verdict.service),
                now=now,
            )
            for verdict in health.services
        ]
        with_engine = await self._services_ended_with_engine(observations, container_states)
        needs_down = await self._needs_down(observations)
        observations = self.reconciler.put_off(observations, changed)
        self._decide(observations, application, holder, now, with_engine, needs_down)
        if self._access.away:
            return
        await self._settle(health, holder, now)
        self._notify()

    def _observe(
        self,
        application: Application,
        services: Collection[str],
        container_states: Sequence[ContainerState],
        now: datetime,
    ) -> list[ServiceObservation]:
        """Observe services and their dependencies, whose failure would explain theirs."""
        needs = needs_of(dependencies_of(self.declared, application))
        names = {*services, *(other for name in services for other in reachable(name, needs))}
        declared = [application.services[name] for name in sorted(names & application.services.keys())]
        return [
            observe_containers(
                service,
                container_states,
                judge=partial(judge_declared, service, probe=None, spec=self.declared.service(service.name)),
                tracker=self.reconciler.tracker(service.name),
                now=now,
            )
            for service in declared
            if service.replicas
        ]

    async def _services_ended_with_engine(
        self, observations: Sequence[ServiceObservation], container_states: Sequence[ContainerState]
    ) -> frozenset[str]:
        """Return the services that are down since a start of the engine, where so many fail that it matters."""
        if sum(observation.decision is Decision.RECOVER for observation in observations) < AT_ONCE:
            return frozenset()
        try:
            return services_ended_with_engine(container_states, await engine_started_at(self._project))
        except (RoasError, TimeoutError) as error:
            log.info("when the engine started is not known: %s", error or type(error).__name__)
            return frozenset()

    async def _needs_down(self, observations: Sequence[ServiceObservation]) -> str:
        """Say which other environments that this one needs are down, where a service of it fails."""
        failing = any(observation.decision is not Decision.IGNORE for observation in observations)
        return await needs_down(self.declared) if failing else ""

    def _decide(
        self,
        observations: Sequence[ServiceObservation],
        application: Application,
        holder: str | None,
        now: datetime,
        with_engine: Collection[str],
        needs_down: str,
    ) -> None:
        """Triage observations, start the recoveries, and log what is not recovered."""
        windows = maintenance_windows(self.declared.maintenance, now)
        context = TriageContext(
            dependencies=dependencies_of(self.declared, application),
            held=holder,
            muted=frozenset(
                name for name in application.services if any(window.covers(name, now) for window in windows)
            ),
            with_engine=with_engine,
            needs_down=needs_down,
        )
        result = self.reconciler.decide(observations, context, now)
        for observation in (*result.wait, *result.ignore):
            if not observation.unhealthy and observation.decision is not Decision.WAIT:
                self._logged.pop(observation.service, None)
            elif observation in result.ignore or holder or needs_down or observation.service in context.muted:
                # Any other wait is over in a moment, and reported then.
                self._log(observation.service, f"{observation.service} is not recovered: {observation.reason}")
            if observation.crashed and (exit_code := self.reconciler.new_crash(observation.service, now)) is not None:
                text = f"{observation.service} exited with code {exit_code}, and the engine starts it again"
                incident = Incident(
                    environment=self.declared.name, text=text, service=observation.service, source="watch"
                )
                # While the container's log still shows it.
                recording = record_failure(incident, self._context())
                run_beside(self._recordings, recording, f"the end of {observation.service} was not recorded")
        if result.wait:
            self._sweep_after(SETTLE)
        for observation in result.recover:
            self._logged.pop(observation.service, None)
            announce(UNHEALTHY, self.declared.name, service=observation.service, text=observation.reason)
        for failure in result.failures:
            if failure.service == NO_SERVICE:
                log.warning("none of them is acted on, because %s", failure.text)
            fingerprint, bundles = self._evidence.pop(failure.service, ("", ()))
            self._recover(failure, bundles if fingerprint == failure.fingerprint else ())
