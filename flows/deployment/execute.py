"""Start services in dependency order, in parallel where the order allows, and prove each one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from core.deployment.plan import critical_path, start_deadline
from core.deployment.plan import plan as plan_start
from core.deployment.verify import root_failure
from flows.deployment.operation import OperationRecorder
from flows.deployment.progress import ProgressLog, progress_log
from models.compose import (
    Application,
    DependencyCondition,
    DependsOn,
    InjectedFile,
    Plan,
    PlannedAction,
    ServiceDeclaration,
)
from models.environments import Environment
from models.evidence import EvidenceOccasion
from models.failures import RoasError, StartFailedError
from models.operations import OperationStep, StateChange
from models.results import ServiceStart
from tasks.deployment.progress import StartShown, show_start
from tasks.deployment.services import inspect_application, read_injected_files
from tasks.deployment.start_service import Milestone, ServiceStartOrder, StartProof, bring_up
from tasks.errors.evidence import ProbeJournal, take_evidence
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.runtime.naming import call_as

log = logging.getLogger("roas")

PROVEN = "proven"
"""Step of an operation: a service is proven."""

_AWAITED = {
    DependencyCondition.STARTED: Milestone.STARTED,
    DependencyCondition.HEALTHY: Milestone.HEALTHY,
    DependencyCondition.COMPLETED: Milestone.COMPLETED,
}


async def start_in_order(
    recorder: OperationRecorder,
    environment: Environment,
    application: Application,
    *,
    plan: Plan | None = None,
    document: Mapping[str, Any] | None = None,
) -> tuple[ServiceStart, ...]:
    """Bring every service up, each as soon as its dependencies allow.

    Services that the plan restarts are restarted; without a plan, those that do not serve now. `document` is
    the release's configuration that the containers were made from, where it was not the files. One service
    that fails does not stop the ones that do not need it: the record then shows the whole.

    Raises:
        StartFailedError: A required service did not come up; the error names the root failure, since others
            are often its consequence.
    """
    files, planned = await asyncio.gather(
        _injected(environment, application, document),
        _planned(environment, application, plan),
    )
    start = _StartExecution(recorder, environment, application, files, planned)
    services = application.services.values()
    async with (
        progress_log() as start.progress,
        watch_project(environment) as start.watch,
        show_start(environment.name, len(services), recorder.redactor) as start.shown,
    ):
        try:
            async with asyncio.timeout(environment.start_timeout_seconds):
                await asyncio.gather(*(start.one(service) for service in services))
        except TimeoutError as error:
            raise await start.took_too_long() from error
        finally:
            start.report()
    start.judge()
    return start.results()


async def _injected(
    environment: Environment, application: Application, document: Mapping[str, Any] | None
) -> dict[str, tuple[InjectedFile, ...]]:
    wanted = any(service.injects_files for service in application.services.values())
    return await read_injected_files(environment, document) if wanted else {}


async def _planned(environment: Environment, application: Application, plan: Plan | None) -> Plan:
    return plan_start(application, await inspect_application(environment)) if plan is None else plan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waits:
    """How long a service waited for each dependency, and which required one is missing, and why."""

    seconds: dict[str, float]
    lacking: str | None = None
    why: str = ""


class _StartExecution:
    """One start while it runs: who has reached which milestone."""

    progress: ProgressLog
    watch: ContainerWatch
    shown: StartShown

    def __init__(
        self,
        recorder: OperationRecorder,
        environment: Environment,
        application: Application,
        files: dict[str, tuple[InjectedFile, ...]],
        plan: Plan,
    ) -> None:
        self.journal = ProbeJournal()
        self._recorder = recorder
        self._environment = environment
        self._application = application
        self._files = files
        self._restarts = {line.service: line.because for line in plan.services if line.action is PlannedAction.RESTART}
        self._began = time.monotonic()
        self._results: dict[str, ServiceStart] = {}
        self._being_brought_up: set[str] = set()
        self._reached = {(name, stone): asyncio.Event() for name in application.services for stone in Milestone}
        self._ended = {name: asyncio.Event() for name in application.services}
        self._runs: dict[str, UUID] = {}

    def results(self) -> tuple[ServiceStart, ...]:
        """How each service came up, in the application's order."""
        return tuple(self._results[name] for name in self._application.services if name in self._results)

    def judge(self) -> None:
        """Fail the start where a required service failed.

        Raises:
            StartFailedError: It names the service that failed first.
        """
        failed = [one for one in self._results.values() if not one.ok]
        required = [one.service for one in failed if self._environment.service(one.service).required]
        blamed = root_failure(failed, required)
        if blamed is None:
            return
        held_back = sorted(one.service for one in failed if one.caused_by is not None)
        raise StartFailedError(
            f"{blamed.service} did not start: {blamed.reason.removeprefix(f'{blamed.service}: ')}"
            + (f"; {_not_started(held_back, blamed.service)}" if held_back else ""),
            advice=f"look at its log: docker compose -p {self._environment.project} logs {blamed.service}",
            service=blamed.service,
        )

    async def took_too_long(self) -> StartFailedError:
        """The error of a start that exceeded its time: which services did not come up, and which wait for them."""
        late = sorted(self._being_brought_up)
        waiting = [name for name, ended in self._ended.items() if not ended.is_set() and name not in late]
        await self._keep_evidence(late, "the whole start took too long")
        return StartFailedError(
            f"{self._environment.name} did not start within {self._environment.start_timeout_seconds:.0f} s, "
            f"still awaited: {', '.join(late)}" + (f"; not yet started: {', '.join(waiting)}" if waiting else ""),
            advice="see the logs of what was awaited, or raise start_timeout_seconds.",
            service=late[0] if late else None,
        )

    def report(self) -> None:
        """Put into the record, the log and the UI how long each service waited and took."""
        results = self.results()
        self.shown.results = results
        facts = self._recorder.facts
        facts["waits"] = {one.service: round(one.waited_seconds, 3) for one in results}
        facts["held_up_by"] = {
            one.service: {name: round(seconds, 3) for name, seconds in one.held_up_by.items()}
            for one in results
            if one.held_up_by
        }
        facts["kept"] = [one.service for one in results if one.kept]
        path = critical_path(
            {one.service: timedelta(seconds=one.waited_seconds + one.took_seconds) for one in results},
            {
                one.service: {name: timedelta(seconds=seconds) for name, seconds in one.held_up_by.items()}
                for one in results
            },
        )
        facts["critical_path"] = [[link.service, round(link.took.total_seconds(), 3)] for link in path]
        log.info(
            "%d of %d services proven in %.1f s, which went to %s",
            sum(one.ok for one in results),
            len(self._application.services),
            time.monotonic() - self._began,
            ", ".join(f"{link.service} {link.took.total_seconds():.1f} s" for link in path) or "nothing",
        )

    async def one(self, declaration: ServiceDeclaration) -> None:
        """Wait for the dependencies of a service, bring it up, and release its dependants."""
        name = declaration.name
        waits = await self._dependencies(declaration)
        try:
            if waits.lacking is not None:
                result = _not_tried(name, waits)
            elif declaration.replicas == 0:
                result = self._not_wanted(name)
            else:
                result = await self._bring_up(declaration, waits)
            self._results[name] = result
        finally:
            self._ended[name].set()
        self.shown.add(result)
        if not result.ok:
            log.error("%s failed after %.1f s: %s", name, result.took_seconds, result.reason)
        elif result.kept:
            log.info("%s kept: %s", name, result.reason)
        else:
            log.info("%s is %s after %.1f s: %s", name, result.state, result.took_seconds, result.reason)

    async def _dependencies(self, declaration: ServiceDeclaration) -> _Waits:
        """Wait for all that the service depends on, at the same time."""
        entries = declaration.depends_on.items()
        waits = await asyncio.gather(*(self._wait_for(declaration.name, name, needed) for name, needed in entries))
        seconds = {name: spent for (name, _), (spent, _) in zip(entries, waits, strict=True)}
        for (name, _), (_, lacking) in zip(entries, waits, strict=True):
            if lacking is not None:
                return _Waits(seconds=seconds, lacking=name, why=lacking)
        return _Waits(seconds=seconds)

    async def _wait_for(self, waiting: str, name: str, needed: DependsOn) -> tuple[float, str | None]:
        """The seconds waited, and why the service cannot start, where it cannot."""
        if name not in self._application.services:
            why = f"{name}, which is not part of this start"
        else:
            stone = _AWAITED[needed.condition]
            reached = self._reached[name, stone]
            # A dependency that has ended otherwise will not get there any more.
            await _first(reached, self._ended[name])
            if reached.is_set():
                return time.monotonic() - self._began, None
            ended = self._results.get(name)
            said = f": {ended.reason.removeprefix(f'{name}: ')}" if ended is not None and not ended.ok else ""
            why = f"{name}, which did not become {stone.value}{said}"
        spent = time.monotonic() - self._began
        if needed.required:
            return spent, f"it needs {why}"
        log.warning("%s goes on without %s", waiting, why)
        return spent, None

    async def _bring_up(self, declaration: ServiceDeclaration, waits: _Waits) -> ServiceStart:
        name, began = declaration.name, time.monotonic()

        def reached(stone: Milestone) -> None:
            self._reached[name, stone].set()

        own = self._environment.service(name).start_timeout_seconds
        self._being_brought_up.add(name)
        # Known beforehand, so that a run can name the runs it came after while they still go on.
        self._runs[name] = uuid4()
        done = (PROVEN, name) in self._recorder.done
        order = ServiceStartOrder(
            declaration=declaration,
            files=self._files.get(name, ()),
            deadline_seconds=start_deadline(declaration).total_seconds() if own is None else own,
            since=self._recorder.started_at,
            restart_because=None if done else self._restarts.get(name),
            done=done,
        )
        try:
            proof = await call_as(
                bring_up,
                self._runs[name],
                after=[self._runs[other] for other in declaration.depends_on if other in self._runs],
                environment=self._environment,
                order=order,
                watch=self.watch,
                reached=reached,
                journal=self.journal,
            )
        except RoasError as error:
            await self._keep_evidence([name], error.what)
            proof = StartProof(previous="", state="failed", reason=error.what, kept=False, ok=False)
        self._being_brought_up.discard(name)
        proof = replace(proof, reason=self._recorder.redactor.text(proof.reason))
        took = time.monotonic() - began
        waited = max(waits.seconds.values(), default=0.0)
        self._write_down(name, proof, waits, took)
        return ServiceStart(
            service=name,
            previous_state=proof.previous,
            state=proof.state,
            reason=proof.reason,
            kept=proof.kept,
            waited_seconds=waited,
            took_seconds=took,
            ok=proof.ok,
            held_up_by=waits.seconds,
        )

    async def _keep_evidence(self, services: Sequence[str], reason: str) -> None:
        """Keep the evidence of services that failed, before they are rolled back or replaced."""
        await take_evidence(
            self._environment,
            self._application,
            list(services),
            deployment_id=self._recorder.deployment_id,
            reason=reason,
            journal=self.journal,
            occasion=EvidenceOccasion.FAILURE,
        )

    def _write_down(self, name: str, proof: StartProof, waits: _Waits, took: float) -> None:
        deployment_id, now = self._recorder.deployment_id, datetime.now(UTC)
        held_up_by = {other: round(seconds, 3) for other, seconds in waits.seconds.items()}
        details = {
            "waited_seconds": max(held_up_by.values(), default=0.0),
            "held_up_by": held_up_by,
            "took_seconds": round(took, 3),
        }
        change = StateChange(
            deployment_id=deployment_id,
            service=name,
            previous_state=proof.previous or None,
            new_state=proof.state,
            changed_at=now,
            reason=proof.reason,
            details=details | proof.facts,
        )
        step = OperationStep(deployment_id=deployment_id, step=PROVEN, service=name, finished_at=now)
        self.progress.add(change=None if proof.kept else change, step=step if proof.ok else None)

    def _not_wanted(self, name: str) -> ServiceStart:
        for stone in Milestone:
            self._reached[name, stone].set()
        return ServiceStart(
            service=name,
            previous_state="",
            state="none",
            reason="no replica of it is declared",
            kept=True,
        )


def _not_started(services: Sequence[str], dependency: str) -> str:
    # No pattern may recognise this sentence: the cause is what the dependency's log says.
    because = "was not started because it depends" if len(services) == 1 else "were not started because they depend"
    return f"{', '.join(services)} {because} on {dependency}"


def _not_tried(name: str, waits: _Waits) -> ServiceStart:
    return ServiceStart(
        service=name,
        previous_state="",
        state="not started",
        reason=waits.why,
        kept=False,
        waited_seconds=max(waits.seconds.values()),
        ok=False,
        held_up_by=waits.seconds,
        caused_by=waits.lacking,
    )


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
