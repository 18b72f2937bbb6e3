"""Stop: in reverse order of the start, each service with its own grace period."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prefect import flow

from core.common.dependencies import dependencies_of
from core.deployment.plan import stop_waves
from core.deployment.stop import how_it_stopped, left_alone, returning_with_engine
from flows.common import parameters
from flows.common.requester import require_consent
from flows.operation.recorder import OperationRequest
from flows.operation.steps import OperationRun, Step, operate
from flows.recovery.escalate import escalate
from models.compose import Application
from models.containers import ContainerState
from models.operations import OperationType
from models.results import OperationResult, ServiceStart
from tasks.deployment.operations import record_changes
from tasks.deployment.services import inspect_application, read_application, stop_containers

log = logging.getLogger("roas")


@flow(name="stop", flow_run_name="stop {environment}")
async def stop(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    confirm: str = parameters.CONFIRM,
) -> OperationResult:
    """Stop an environment's services. Containers, networks and volumes stay.

    Raises:
        BadInputError: It is locked or others need it, and `confirm` is not its name.
        RoasError: A service could not be stopped; recorded and handed on first.
    """
    request, run = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds), Stop(confirm, asked_by)
    await operate(run, STOP, environment, request, on_failure=escalate, operation_type=OperationType.STOP)
    stopped = sum(not result.kept for result in run.services)
    return run.recorder.result(f"{stopped} services stopped", services=tuple(run.services))


@dataclass(slots=True)
class Stop(OperationRun):
    """A stop: what it has found out and done so far."""

    confirm: str
    asked_by: str | None
    application: Application = field(init=False)
    container_states: list[ContainerState] = field(init=False)
    services: list[ServiceStart] = field(default_factory=list)


async def look(stop: Stop) -> None:
    """Load the environment and see what runs."""
    await stop.recorder.open()
    if not stop.recorder.interrupted:
        await require_consent(stop.recorder.name, "stop", stop.confirm, stop.asked_by)
    stop.application = await read_application(stop.project)
    stop.container_states = await inspect_application(stop.project)


async def report_what_stays(stop: Stop) -> None:
    """Name what a stop leaves alone, and what the engine itself would bring back."""
    stop.record.left_alone = left_alone(stop.application, stop.container_states)
    for container, why in stop.record.left_alone.items():
        log.warning("%s is not stopped: %s", container, why)
    if returning := returning_with_engine(stop.application):
        stop.record.returning_with_engine = returning
        log.info('%s: started again when the engine itself restarts (restart: "always")', ", ".join(returning))


async def stop_in_order(stop: Stop) -> None:
    """Stop the services in reverse order of the start, those of one wave at the same time."""
    for wave in stop_waves(stop.application, dependencies_of(stop.environment, stop.application)):
        ends = await asyncio.gather(*(_stop_service(stop, name) for name in wave), return_exceptions=True)
        # One that cannot be stopped ends the stop after its wave, since what it depends on must outlive it.
        for end in ends:
            if isinstance(end, BaseException):
                raise end
            stop.services.append(end)


STOP: tuple[Step[Stop], ...] = (
    Step("inspect", look, looks=True),
    Step("report what stays", report_what_stays),
    Step("stop in order", stop_in_order),
)
"""A stop; what it stopped stays so where it fails."""


async def _stop_service(stop: Stop, name: str) -> ServiceStart:
    began, states = datetime.now(UTC), stop.container_states
    containers = [container for container in states if container.service == name and not container.one_off]
    up = [container for container in containers if container.up]
    previous = up[0].state if up else (containers[0].state if containers else "absent")
    if not up:
        return ServiceStart(service=name, previous_state=previous, state=previous, reason="was not running", kept=True)
    grace = stop.application.services[name].stop_grace_period
    after = await stop_containers.with_options(name=name)(stop.project, name, up, grace)
    took = datetime.now(UTC) - began
    seconds, reason = took.total_seconds(), f"stop was asked for; {how_it_stopped(after, grace, took)}"
    log.info("%s stopped after %.1f s: %s", name, seconds, reason)
    stopped = ServiceStart(
        service=name, previous_state=previous, state="stopped", reason=reason, kept=False, took_seconds=seconds
    )
    codes = {container.name: container.exit_code for container in after}
    details = {"on_request": True, "took_seconds": round(seconds, 3), "exit_codes": codes}
    await record_changes([stop.recorder.change(stopped, details)])
    return stopped
