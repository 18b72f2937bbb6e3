"""Start services in dependency order, in parallel where the order allows, and prove each one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from core.deployment.hold import NeededHold, ServiceHistory
from core.deployment.kept_files import copies_by_service, copies_in_words
from core.deployment.live_start import MILESTONES
from core.deployment.plan import critical_path, plan, refuse_paused, start_deadline
from core.deployment.release import Document
from core.deployment.verify import counted_failures, root_failure
from core.monitoring.health import worst_service
from flows.common.judge_health import judge_now
from flows.execution.turns import Turns
from flows.operation.recorder import OperationRecorder
from models.compose import (
    Application,
    DependencyCondition,
    DependsOn,
    InjectedFile,
    Interruption,
    Plan,
    PlannedAction,
    ServiceDeclaration,
)
from models.evidence import EvidenceOccasion
from models.failures import PausedError, RoasError, StartFailedError, StoreError
from models.health import UNHEALTHY_STATES, Health, HealthReport, ServiceHealth
from models.operations import INTERRUPTION_SECONDS, PROVEN, SERVING, OperationStep
from models.records import Release
from models.results import ServiceStart
from tasks.deployment.configuration import refuse_to_restart
from tasks.deployment.operations import record_health
from tasks.deployment.progress import StartProgress, start_progress
from tasks.deployment.proxies import ProxyFollower
from tasks.deployment.release import inspect_release, keep_release
from tasks.deployment.service_inspector import ServiceInspector, StartProof
from tasks.deployment.services import (
    inspect_application,
    last_failures,
    proven_releases,
    read_injected_files,
    start_when_replaced,
)
from tasks.deployment.start_service import ServiceStartOrder, bring_up, hold_again
from tasks.errors.evidence import ProbeJournal, take_evidence
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.runtime.identifiers import new_release_id
from tasks.runtime.naming import call_as
from tasks.runtime.traces import record_wait

log = logging.getLogger("roas")

_WORTH_TELLING_SECONDS = 1.0


async def start_in_order(
    recorder: OperationRecorder,
    application: Application,
    *,
    planned: Plan | None = None,
    document: Mapping[str, Any] | None = None,
    replaced_since: float | None = None,
    turns: Turns | None = None,
    as_before: bool = False,
) -> tuple[ServiceStart, ...]:
    """Bring every service up, each as soon as its dependencies allow.

    Services that the plan restarts are restarted; without a plan, those that do not serve now. `document` is
    the release's configuration that the containers were made from, where it was not the files. `replaced_since` is
    when the first container was replaced, as a moment of the monotonic clock. With `turns` the containers of changed
    services are created in their turns. One service that fails does not stop the ones that do not need it, unless they
    wait for their turns: the record then shows the whole. With `as_before` what was proven before needs less time to
    prove that it stays up.

    Raises:
        StartFailedError: A required service did not come up; the error names the root failure, since others
            are often its consequence. Or a proxy does not follow a service that has another address.
    """
    services = application.services.values()
    injecting = any(service.injects_files for service in services)
    files = await read_injected_files(recorder.project, document) if injecting else {}
    # What a plan restarts was asked for its configuration before anything was touched.
    cautious = planned is None
    if planned is None:
        planned = plan(application, await inspect_application(recorder.project))
    proven_before, histories = frozenset[str](), dict[str, ServiceHistory]()
    with suppress(StoreError):
        releases = await proven_releases(recorder.name)
        proven_before = frozenset(name for release in releases for name in release.hashes)
        # One without a container may have lost its data too, and one with another volume has none yet.
        proven_before -= {
            line.service for line in planned.services if line.action is PlannedAction.CREATE or line.other_volumes
        }
        if as_before:
            failures = await last_failures(recorder.name)
            histories = {
                name: ServiceHistory(releases=releases, failed_at=failures.get(name)) for name in proven_before
            }
    async with (
        start_progress(recorder.name, application.services, recorder.redactor) as progress,
        watch_project(recorder.project) as watch,
    ):
        start = _StartExecution(
            recorder,
            application,
            files,
            planned,
            progress,
            watch,
            replaced_since,
            turns,
            proven_before,
            histories,
            cautious,
        )
        try:
            await asyncio.gather(*(start.one(service) for service in services))
            await start.hold_again()
        except asyncio.CancelledError:
            recorder.awaited.update(start.waiting_services())
            raise
        finally:
            await start.end_reloads()
            start.report()
    start.judge()
    await start.settle_proxies()
    return start.results()


async def judge(recorder: OperationRecorder, application: Application) -> HealthReport:
    """Judge the health that an operation leads to, and record it."""
    health = await judge_now(recorder.project, application, deployment_id=recorder.deployment_id)
    await record_health(health)
    recorder.record.health = str(health.overall)
    return health


async def verify(
    recorder: OperationRecorder, application: Application, *, only: Collection[str] | None = None
) -> HealthReport:
    """Judge and record the health of what was started; where `only` some services were, these decide.

    Raises:
        StartFailedError: A required service is unhealthy.
    """
    health = await judge(recorder, application)
    if only is not None:
        for verdict in health.services:
            if verdict.service in only and verdict.health in UNHEALTHY_STATES:
                raise StartFailedError(
                    f"{verdict.service} is {verdict.health}: {verdict.reason}", service=verdict.service
                )
    elif health.overall is Health.UNHEALTHY:
        first = worst_service(health)
        raise StartFailedError(f"{first.service} is {first.health}: {first.reason}", service=first.service)
    return health


async def keep_proven(
    recorder: OperationRecorder,
    application: Application,
    template: Document,
    of: Release | None = None,
    builds: Mapping[str, str] | None = None,
) -> None:
    """Keep what runs now as a proven release; `of` is the earlier one that was applied, if one was.

    `builds` are the fingerprints of what was built for it.
    """
    if copied := copies_in_words(copies_by_service(await inspect_application(recorder.project))):
        recorder.record.mounted_copies = copied
    now = datetime.now(UTC)
    release_id, deployment_id = new_release_id(now), recorder.deployment_id
    release = await inspect_release(
        recorder.project, application, template, release_id, deployment_id, now, of=of, builds=builds
    )
    kept = await keep_release(recorder.project, application, release, recorder.started_at)
    recorder.record.release = kept.release_id


@dataclass(frozen=True, slots=True)
class _Waits:
    """How many seconds a service waited for each dependency, and which required one is missing, and why."""

    seconds: dict[str, float]
    lacking: str | None = None
    why: str = ""

    @property
    def longest(self) -> float:
        return max(self.seconds.values(), default=0.0)


@dataclass(slots=True)
class _StartExecution:
    """One start while it runs: who has reached which milestone.

    `histories` are what may shorten the time that a service has to stay up. `cautious`: a program that runs is asked
    for its configuration before it is restarted.
    """

    recorder: OperationRecorder
    application: Application
    files: Mapping[str, tuple[InjectedFile, ...]]
    plan: Plan
    progress: StartProgress
    watch: ContainerWatch
    replaced_since: float | None = None
    turns: Turns | None = None
    proven_before: frozenset[str] = frozenset()
    histories: Mapping[str, ServiceHistory] = field(default_factory=dict)
    cautious: bool = False
    _journal: ProbeJournal = field(default_factory=ProbeJournal)
    _began: float = field(default_factory=time.monotonic)
    _results: dict[str, ServiceStart] = field(default_factory=dict)
    _reached: dict[tuple[str, DependencyCondition], asyncio.Event] = field(default_factory=dict)
    _ended: dict[str, asyncio.Event] = field(default_factory=dict)
    _runs: dict[str, UUID] = field(default_factory=dict)
    _proxies: ProxyFollower = field(init=False)
    _following: list[asyncio.Task[None]] = field(default_factory=list)
    _serving: set[str] = field(default_factory=set)
    _paused: PausedError | None = None

    def __post_init__(self) -> None:
        names = self.application.services
        self._proxies = ProxyFollower(
            project=self.recorder.project, application=self.application, since=self.recorder.started_at
        )
        self._reached = {(name, milestone): asyncio.Event() for name in names for milestone in MILESTONES}
        self._ended = {name: asyncio.Event() for name in names}

    def results(self) -> tuple[ServiceStart, ...]:
        """How each service came up, in the application's order."""
        return tuple(self._results[name] for name in self.application.services if name in self._results)

    def judge(self) -> None:
        """Fail the start where a required service failed.

        Raises:
            StartFailedError: It names the service that failed first.
            PausedError: A person paused one before its turn, so no program is to blame.
        """
        if self._paused is not None:
            raise self._paused
        results, environment = [*self._results.values()], self.recorder.environment
        failed = [result for result in results if not result.ok]
        optional = {result.service for result in results if not environment.service(result.service).required}
        blamed = root_failure(failed, counted_failures(results, optional))
        if blamed is None:
            return
        held_back = sorted(result.service for result in failed if result.caused_by is not None)
        raise StartFailedError(
            f"{blamed.service} did not start: {blamed.reason.removeprefix(f'{blamed.service}: ')}"
            + (f"; {_not_started(held_back, blamed.service)}" if held_back else ""),
            service=blamed.service,
        )

    def waiting_services(self) -> dict[str, str]:
        """What is being brought up, and why it is still waited for."""
        return {name: why for name, why in self._journal.standing.items() if name not in self._results}

    async def end_reloads(self) -> None:
        """Wait until each reload of a proxy has ended, however, so that none goes on beside a rollback."""
        await asyncio.gather(*self._following, return_exceptions=True)

    async def settle_proxies(self) -> None:
        """Reload again the proxies that did not reload as a service of theirs was started.

        Raises:
            StartFailedError: One does not reload.
        """
        for reload in self._following:
            reload.result()
        await self._proxies.settle()

    def report(self) -> None:
        """Put into the record, the log and the UI how long each service waited and took."""
        results = self.progress.results = self.results()
        held_up_by = {
            result.service: {name: timedelta(seconds=spent) for name, spent in result.held_up_by.items()}
            for result in results
        }
        ready_after = {
            result.service: timedelta(seconds=result.waited_seconds + result.took_seconds) for result in results
        }
        path = critical_path(ready_after, held_up_by)
        record = self.recorder.record
        record.waits = {result.service: round(result.waited_seconds, 3) for result in results}
        record.held_up_by = {result.service: _round(result.held_up_by) for result in results if result.held_up_by}
        record.kept = tuple(result.service for result in results if result.kept)
        record.critical_path = tuple((link.service, round(link.took.total_seconds(), 3)) for link in path)
        unproven = sum(result.ok and result.state == ServiceHealth.UNPROVEN for result in results)
        log.info(
            "%d of %d services proven%s in %.1f s; critical path: %s",
            sum(result.ok for result in results) - unproven,
            len(self.application.services),
            f", {unproven} without a health check or probe" if unproven else "",
            time.monotonic() - self._began,
            ", ".join(f"{link.service} {link.took.total_seconds():.1f} s" for link in path) or "nothing",
        )

    async def one(self, declaration: ServiceDeclaration) -> None:
        """Wait for the dependencies of a service, bring it up, and release its dependants."""
        name = declaration.name
        waits = await self._dependencies(declaration)
        try:
            async with nullcontext() if self.turns is None else self.turns.wait_turn(name) as failed:
                if failed is not None:
                    waits = _Waits(waits.seconds, failed, f"it is left as it was, because {failed} failed")
                if waits.lacking is None and declaration.replicas:
                    result = await self._bring_up(declaration, waits)
                else:
                    result = self._without_start(name, waits)
                if self.turns is not None:
                    self.turns.end(result)
            self._results[name] = result
        finally:
            self._ended[name].set()
        self.progress.count(result)
        if not result.ok:
            log.error("%s failed after %.1f s: %s", name, result.took_seconds, result.reason.removeprefix(f"{name}: "))
        elif result.kept:
            log.info("%s kept: %s", name, result.reason)
        else:
            log.info("%s is %s after %.1f s: %s", name, result.state, result.took_seconds, result.reason)

    async def hold_again(self) -> None:
        """Let what ended after it was proven hold again: meanwhile others took their time."""
        attempts: dict[str, ServiceInspector] = {}
        while ended := [result for result in self._results.values() if self._ended_since(result)]:
            for result in ended:
                log.warning("%s ended after it was proven, and has to hold again", result.service)
                declaration = self.application.services[result.service]
                attempts.setdefault(result.service, ServiceInspector(self.recorder.project, declaration, self._journal))
            await asyncio.gather(*(self._hold_again(result, attempts[result.service]) for result in ended))

    def _ended_since(self, result: ServiceStart) -> bool:
        return result.ok and result.state != ServiceHealth.COMPLETED and self.watch.has_died(result.service)

    async def _hold_again(self, result: ServiceStart, attempt: ServiceInspector) -> None:
        deadline = start_deadline(attempt.declaration, self.recorder.environment)
        try:
            await hold_again(attempt, self.watch, deadline.total_seconds())
        except StartFailedError as error:
            await self._keep_evidence([result.service], error.what)
            reason = self.recorder.redactor.text(error.what.removeprefix(f"{result.service}: "))
            failed = replace(result, state="failed", reason=f"it was proven, and ended: {reason}", kept=False, ok=False)
            self._results[result.service] = failed
            log.error("%s failed after it was proven: %s", result.service, reason)
            self.progress.record(self.recorder.change(failed, {}), None)

    async def _dependencies(self, declaration: ServiceDeclaration) -> _Waits:
        """Wait for all that the service depends on, at the same time."""
        entries = declaration.depends_on.items()
        waits = await asyncio.gather(*(self._wait_for(declaration.name, name, needed) for name, needed in entries))
        named = list(zip(declaration.depends_on, waits, strict=True))
        lacking = next(((name, why) for name, (_, why) in named if why is not None), (None, ""))
        return _Waits({name: spent for name, (spent, _) in named}, *lacking)

    async def _wait_for(self, waiting: str, name: str, needed: DependsOn) -> tuple[float, str | None]:
        """The seconds waited, and why the service cannot start, where it cannot."""
        if name not in self.application.services:
            why = f"{name}, which is not part of this start"
        else:
            reached = self._reached[name, needed.condition]
            # A dependency that has ended otherwise will not get there any more.
            await _first(reached, self._ended[name])
            if reached.is_set():
                return time.monotonic() - self._began, None
            ended = self._results.get(name)
            reason = f": {ended.reason.removeprefix(f'{name}: ')}" if ended is not None and not ended.ok else ""
            why = f"{name}, which did not become {MILESTONES[needed.condition]}{reason}"
        spent = time.monotonic() - self._began
        if needed.required:
            return spent, f"it needs {why}"
        log.warning("%s goes on without %s", waiting, why)
        return spent, None

    async def _bring_up(self, declaration: ServiceDeclaration, waits: _Waits) -> ServiceStart:
        name, began, recorder = declaration.name, time.monotonic(), self.recorder
        done = (PROVEN, name) in recorder.done
        restarts = {line.service: line.because for line in self.plan.services if line.action is PlannedAction.RESTART}
        order = ServiceStartOrder(
            declaration=declaration,
            files=self.files.get(name, ()),
            deadline_seconds=start_deadline(declaration, recorder.environment).total_seconds(),
            since=recorder.started_at,
            restart_because=None if done else restarts.get(name),
            done=done,
            replaced=self.turns is not None and self.turns.replaces(name),
            proven_before=name in self.proven_before,
            history=self.histories.get(name),
            deployment_id=recorder.deployment_id,
            waited_seconds=waits.longest,
        )
        if waits.seconds:
            record_wait(
                f"{name} waits for its dependencies",
                waits.longest,
                environment=recorder.name,
                service=name,
                deployment_id=recorder.deployment_id,
                held_up_by=max(waits.seconds, key=lambda other: waits.seconds[other]),
            )
        self.progress.begin(name, waits.seconds)
        # Known beforehand, so that a run can name the runs it came after while they still go on.
        self._runs[name] = uuid4()
        try:
            if order.restart_because is not None and self.cautious:
                await refuse_to_restart(self.recorder.project, self.application, name, recorder.deployment_id)
            elif order.restart_because is not None or (self.turns is not None and self.turns.has(name)):
                # A person may have paused it since: what came before it took time.
                refuse_paused(
                    await inspect_application(self.recorder.project), [name], f"the {recorder.kind} of {name}"
                )
            if self.turns is not None:
                await self._take_turn(self.turns, declaration)
            proof = await call_as(
                bring_up,
                self._runs[name],
                after=[self._runs[other] for other in declaration.depends_on if other in self._runs],
                project=self.recorder.project,
                order=order,
                watch=self.watch,
                reached=lambda milestone: self._reach(name, milestone),
                serves=lambda hold: self._serve(name, hold),
                journal=self._journal,
            )
            if self.turns is not None:
                proof = self.turns.describe(name, proof)
        except RoasError as error:
            if isinstance(error, PausedError):
                self._paused = error
            await self._keep_evidence([name], error.what)
            proof = StartProof(
                previous="", state="failed", reason=error.what.removeprefix(f"{name}: "), kept=False, ok=False
            )
        result = replace(
            proof.result(name, recorder.redactor.text(proof.reason), time.monotonic() - began),
            waited_seconds=waits.longest,
            held_up_by=waits.seconds,
        )
        details = {
            "waited_seconds": round(waits.longest, 3),
            "held_up_by": _round(waits.seconds),
            "took_seconds": round(result.took_seconds, 3),
        } | self._interruption(name, began, proof)
        now = datetime.now(UTC)
        step = OperationStep(deployment_id=recorder.deployment_id, step=PROVEN, service=name, finished_at=now)
        change = recorder.change(result, details | proof.facts)
        self.progress.record(None if result.kept else change, step if result.ok else None)
        return result

    async def _take_turn(self, turns: Turns, declaration: ServiceDeclaration) -> None:
        name = declaration.name
        if not turns.replaces(name) or declaration.injects_files or declaration.one_shot:
            await turns.create(name)
            return
        starting = asyncio.create_task(start_when_replaced(self.recorder.project, name, self.watch))
        try:
            await turns.create(name)
        finally:
            starting.cancel()

    def _interruption(self, name: str, began: float, proof: StartProof) -> dict[str, float]:
        """How long a service that ran did not serve, for the plans of later starts."""
        line = next((candidate for candidate in self.plan.services if candidate.service == name), None)
        up_after = proof.facts.get("up_after_seconds")
        if line is None or up_after is None or line.interruption is Interruption.NONE:
            return {}
        if line.interruption is Interruption.RESTARTED:
            return {INTERRUPTION_SECONDS: up_after}
        if self.turns is not None:
            return {INTERRUPTION_SECONDS: round(self.turns.seconds.get(name, 0.0) + up_after, 3)}
        if self.replaced_since is None:
            return {}
        return {INTERRUPTION_SECONDS: round(began - self.replaced_since + up_after, 3)}

    def _reach(self, name: str, milestone: DependencyCondition) -> None:
        self._reached[name, milestone].set()
        self.progress.reach(name, milestone)
        if milestone is DependencyCondition.STARTED:
            # Its address is known from now on; a proxy that still asks the old one fails until it is reloaded.
            line = next((candidate for candidate in self.plan.services if candidate.service == name), None)
            changed = line is not None and line.action is not PlannedAction.KEEP and not line.start_first
            self._following.append(asyncio.create_task(self._proxies.follow(name, changed=changed)))

    def _serve(self, name: str, hold: NeededHold | None) -> None:
        """Tell that a service serves, and why the start goes on."""
        self.progress.hold(name, hold)
        if hold is None:
            self._serving.discard(name)
            return
        self._serving.add(name)
        seconds, recorder = hold.needed.total_seconds(), self.recorder
        if seconds < _WORTH_TELLING_SECONDS:
            return
        detail = f"it has to stay so for {seconds:.1f} s: {hold.why}"
        log.info("%s serves after %.1f s; %s", name, time.monotonic() - self._began, detail)
        now = datetime.now(UTC)
        step = OperationStep(
            deployment_id=recorder.deployment_id, step=SERVING, service=name, finished_at=now, detail=detail
        )
        self.progress.record(None, step)
        known, of = len(self._serving | self._results.keys()), len(self.application.services)
        if known == of > 1 and all(result.ok for result in self._results.values()):
            log.info("%d of %d services serve after %.1f s", known, of, time.monotonic() - self._began)

    async def _keep_evidence(self, services: Sequence[str], reason: str) -> None:
        """Keep the evidence of services that failed, before they are rolled back or replaced."""
        await take_evidence(
            self.recorder.project,
            self.application,
            list(services),
            deployment_id=self.recorder.deployment_id,
            reason=reason,
            journal=self._journal,
            occasion=EvidenceOccasion.FAILURE,
        )

    def _without_start(self, name: str, waits: _Waits) -> ServiceStart:
        """The result of a service whose dependency is missing, or of which no replica is declared."""
        if waits.lacking is not None:
            return ServiceStart(
                service=name,
                previous_state="",
                state="not started",
                reason=waits.why,
                kept=False,
                waited_seconds=waits.longest,
                ok=False,
                held_up_by=waits.seconds,
                caused_by=waits.lacking,
            )
        for milestone in MILESTONES:
            self._reached[name, milestone].set()
        why = "no replica of it is declared"
        return ServiceStart(service=name, previous_state="", state="none", reason=why, kept=True)


def _round(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(spent, 3) for name, spent in seconds.items()}


def _not_started(services: Sequence[str], dependency: str) -> str:
    # No pattern may recognise this sentence: the cause is what the dependency's log says.
    because = "was not started because it depends" if len(services) == 1 else "were not started because they depend"
    return f"{', '.join(services)} {because} on {dependency}"


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
