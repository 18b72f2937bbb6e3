"""Restart: one service after the other, in the order of the start, each proven before the next."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from core.common.dependencies import dependencies_of
from core.deployment.plan import paused_containers, refuse_paused, start_deadline
from core.deployment.restart import DependantAnswer, restarted_needs, roll_order
from flows.common import parameters
from flows.common.needs import wait_for_needs
from flows.common.requester import require_consent
from flows.execution.execute import judge
from flows.operation.recorder import OperationRequest
from flows.operation.steps import OperationRun, Step, operate
from flows.recovery.escalate import escalate
from models.compose import Application, InjectedFile
from models.containers import UP, ContainerState
from models.failures import BadInputError, StartFailedError
from models.health import UNHEALTHY_STATES, HealthReport
from models.metrics import Dependency
from models.operations import OperationType
from models.results import OperationResult, ServiceStart
from tasks.deployment.configuration import refuse_to_restart
from tasks.deployment.operations import record_changes
from tasks.deployment.proxies import ProxyFollower
from tasks.deployment.service_inspector import StartProof
from tasks.deployment.services import inspect_application, read_application, read_injected_files
from tasks.deployment.start_service import ask_again, restart_service
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.storage.restores import refuse_half_restored

log = logging.getLogger("roas")

RESTARTED = "restarted"
"""Step of a restart: a service was restarted and proven."""


@flow(name="restart", flow_run_name="restart {environment}")
async def restart(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    services: list[str] | None = Field(None, description="Only these services; without them all that run."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    confirm: str = parameters.CONFIRM,
) -> OperationResult:
    """Restart all running services of an environment, or the named ones, and prove that they serve again.

    What a person paused stays so unless it was named. What needs a named service is asked afterwards, and restarted too
    where it did not get over it.

    Raises:
        BadInputError: A named service is not in the Compose files. Or it is locked or others need it, and `confirm` is
            not its name.
        StartFailedError: A service did not come back; the ones after it were left as they were. Or a proxy does not
            follow one that has another address.
    """
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    run = Restart(named=services or [], confirm=confirm, asked_by=asked_by)
    await operate(run, RESTART, environment, request, on_failure=escalate, operation_type=OperationType.RESTART)
    return run.recorder.result(
        f"{len(run.restarted_services)} services restarted, {environment} is {run.health.summary}",
        services=tuple(run.services),
        health=run.health,
    )


async def look(run: Restart) -> None:
    """Load the environment, wait for what it needs of others, and see what runs and which services are meant.

    Raises:
        NeedDownError: Another environment that it needs is down.
    """
    await run.recorder.open()
    if not run.recorder.interrupted:
        await require_consent(run.recorder.name, "restart", run.confirm, run.asked_by, run.named)
    await wait_for_needs(run.environment)
    await refuse_half_restored(run.recorder.environment, run.recorder.deployment_id)
    application = run.application = await read_application(run.project)
    run.targets = _targets(application, run.named)
    run.injected = await read_injected_files(run.project)
    run.dependencies = dependencies_of(run.environment, application)
    run.proxies = ProxyFollower(project=run.project, application=application, since=run.recorder.started_at)


async def restart_in_order(run: Restart) -> None:
    """Restart the services in order, each proven before the next, and what did not get over a restart before it.

    Raises:
        StartFailedError: A service did not come back, or a proxy does not follow it.
    """
    async with watch_project(run.project) as run.watch:
        run.container_states = await inspect_application(run.project)
        await run.restart_targets()
        await run.proxies.settle()


async def prove(run: Restart) -> None:
    """Judge the health of the whole; a restart fails by its own services only, the health record names others.

    Raises:
        StartFailedError: A restarted service is unhealthy again.
    """
    run.health = await judge(run.recorder, run.application)
    for verdict in run.health.services:
        if verdict.service in run.restarted_services and verdict.health in UNHEALTHY_STATES:
            raise StartFailedError(
                f"{verdict.service} is {verdict.health} again: {verdict.reason}", service=verdict.service
            )


def _targets(application: Application, services: list[str]) -> frozenset[str]:
    unknown = sorted(set(services) - set(application.services))
    if unknown:
        raise BadInputError(
            f"{', '.join(unknown)} is not a service of {application.project};",
            advice=f"it has: {', '.join(application.services)}.",
        )
    return frozenset(services or application.services)


@dataclass(slots=True, kw_only=True)
class Restart(OperationRun):
    """One rolling restart: which services were restarted, and when each was proven."""

    named: list[str]
    """The services that a person named; without any, all that run are restarted."""
    confirm: str
    asked_by: str | None
    application: Application = field(init=False)
    targets: frozenset[str] = field(init=False)
    dependencies: list[Dependency] = field(init=False)
    container_states: list[ContainerState] = field(init=False)
    injected: dict[str, tuple[InjectedFile, ...]] = field(init=False)
    watch: ContainerWatch = field(init=False)
    proxies: ProxyFollower = field(init=False)
    services: list[ServiceStart] = field(default_factory=list)
    health: HealthReport = field(init=False)
    _proven_at: dict[str, datetime] = field(default_factory=dict)

    @property
    def restarted_services(self) -> frozenset[str]:
        """The services that were restarted."""
        return frozenset(result.service for result in self.services if not result.kept)

    async def restart_targets(self) -> None:
        """Restart the targets in order, and in between those that did not get over a restart before them.

        Raises:
            StartFailedError: A service did not come back; the record names the services left as they were.
        """
        order = roll_order(self.application, self.dependencies)
        finished = {step.service: step.finished_at for step in self.recorder.steps if step.step == RESTARTED}
        for place, name in enumerate(order):
            if name in finished:
                self._proven_at[name] = finished[name]
                self._keep(name, "was restarted before the interruption")
                await self.proxies.follow(name, changed=False)
                continue
            try:
                if name in self.targets:
                    await self._restart_target(name, named=bool(self.named))
                else:
                    await self._restart_if_hit(name)
            except StartFailedError:
                untouched = tuple(other for other in order[place + 1 :] if other in self.targets)
                self.record.left_as_they_were = untouched
                raise

    async def _restart_target(self, name: str, *, named: bool) -> None:
        states = self._states(name)
        if self.application.services[name].one_shot:
            self._keep(name, "runs once, not again at a restart")
        elif not states:
            self._keep(name, "has no container")
        elif not named and not UP.intersection(states):
            self._keep(name, "was not running")
        else:
            await self._restart(name, "restart was asked for", {}, named=named)

    async def _restart_if_hit(self, name: str) -> None:
        """Ask a service that needs a restarted one how it does; restart it where it does not serve any more."""
        causes = restarted_needs(name, self.dependencies, self._proven_at)
        declaration = self.application.services[name]
        if not causes or declaration.one_shot or not (UP - {"paused"}).intersection(self._states(name)):
            return
        restarted = f"{', '.join(causes)} {'was' if len(causes) == 1 else 'were'} restarted"
        since = max(self._proven_at[cause] for cause in causes)
        aftermath = await ask_again.with_options(task_run_name=f"observe {name}")(
            self.project, declaration, self.watch, since
        )
        if aftermath.answer is DependantAnswer.UNHEALTHY:
            await self._restart(
                name, f"{restarted}, and {name} did not get over it: {aftermath.reason}", {"cause": causes}
            )
            return
        why = f"{restarted}; {name} stays as it is: {aftermath.reason}"
        self.record.asked_again = self.record.asked_again | {name: why}
        self._keep(name, f"{restarted}; {aftermath.reason}")

    async def _restart(self, name: str, why: str, facts: dict[str, object], *, named: bool = False) -> None:
        # What a person paused is restarted only where a person named it afterwards.
        if not (named and "paused" in self._states(name) and not self.recorder.interrupted):
            container_states = await inspect_application(self.project)
            if named:
                refuse_paused(container_states, [name], f"the restart of {name}")
            elif paused := paused_containers(container_states, [name]):
                self._keep(name, f"is paused: `docker unpause {' '.join(paused)}` resumes it", state="paused")
                return
        declaration, began = self.application.services[name], datetime.now(UTC)
        deadline = start_deadline(declaration, self.environment).total_seconds()
        log.info("%s is being restarted: %s", name, why)
        try:
            await refuse_to_restart(self.project, self.application, name, self.recorder.deployment_id)
            proof = await restart_service.with_options(name=name, task_run_name=name)(
                self.project,
                declaration,
                self.watch,
                self.injected.get(name, ()),
                deadline,
                lambda: self.proxies.follow(name),
            )
        except StartFailedError as error:
            failed = StartProof(previous=self._states(name)[0], state="failed", reason=error.what, kept=False, ok=False)
            await self._record(name, failed, why, facts, began)
            raise
        self._proven_at[name] = datetime.now(UTC)
        await self._record(name, proof, why, facts, began)
        await self.recorder.step(RESTARTED, name)

    async def _record(self, name: str, proof: StartProof, why: str, facts: dict[str, object], began: datetime) -> None:
        seconds = (datetime.now(UTC) - began).total_seconds()
        log.info("%s is %s after %.1f s: %s", name, proof.state, seconds, proof.reason)
        result = proof.result(name, f"{why}; {proof.reason}", seconds)
        details = {"took_seconds": round(seconds, 3)} | proof.facts | facts
        await record_changes([self.recorder.change(result, details)])
        self.services.append(result)

    def _keep(self, name: str, why: str, state: str | None = None) -> None:
        state = state or next(iter(self._states(name)), "absent")
        log.info("%s is left as it is: %s", name, why)
        self.services.append(ServiceStart(service=name, previous_state=state, state=state, reason=why, kept=True))

    def _states(self, name: str) -> list[str]:
        return [
            container.state
            for container in self.container_states
            if container.service == name and not container.one_off
        ]


RESTART: tuple[Step[Restart], ...] = (
    Step("inspect", look, looks=True),
    Step("restart in order", restart_in_order),
    Step("prove", prove),
)
"""A restart; a service that failed stays as it is, and those after it are left alone."""
