"""Stop: in reverse order of the start, each service with its own grace period."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from prefect import flow

from core.common.dependencies import dependencies_of
from core.deployment.plan import stop_waves
from core.deployment.stop import how_it_stopped, left_alone, returning_with_engine
from flows.common import parameters
from flows.deployment.failure import escalate
from flows.operation.recorder import OperationRecorder, OperationRequest, recorded
from models.compose import Application
from models.containers import ContainerState
from models.environments import Environment
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
) -> OperationResult:
    """Stop an environment's services. Containers, networks and volumes stay.

    Raises:
        RoasError: A service could not be stopped; recorded and handed on first.
    """
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    async with recorded(OperationType.STOP, environment, request, on_failure=escalate) as recorder:
        declared = await recorder.load()
        application = await read_application(declared)
        container_states = await inspect_application(declared)
        _report_what_stays(recorder, application, container_states)
        stopped: list[ServiceStart] = []
        for wave in stop_waves(application, dependencies_of(declared, application)):
            ends = await asyncio.gather(
                *(_stop_service(recorder, declared, application, name, container_states) for name in wave),
                return_exceptions=True,
            )
            # One that cannot be stopped ends the stop after its wave, since what it depends on must outlive it.
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
                stopped.append(end)
    return recorder.result(f"{sum(not result.kept for result in stopped)} services stopped", services=tuple(stopped))


def _report_what_stays(
    recorder: OperationRecorder, application: Application, container_states: list[ContainerState]
) -> None:
    """Name what a stop leaves alone, and what the engine itself would bring back."""
    recorder.facts["left_alone"] = left_alone(application, container_states)
    for container, why in recorder.facts["left_alone"].items():
        log.warning("%s is not stopped: %s", container, why)
    if returning := returning_with_engine(application):
        recorder.facts["returning_with_engine"] = list(returning)
        log.info('%s: started again when the engine itself restarts (restart: "always")', ", ".join(returning))


async def _stop_service(
    recorder: OperationRecorder,
    environment: Environment,
    application: Application,
    name: str,
    container_states: list[ContainerState],
) -> ServiceStart:
    began = datetime.now(UTC)
    containers = [container for container in container_states if container.service == name and not container.one_off]
    up = [container for container in containers if container.up]
    previous = up[0].state if up else (containers[0].state if containers else "absent")
    if not up:
        return ServiceStart(service=name, previous_state=previous, state=previous, reason="was not running", kept=True)
    grace = application.services[name].stop_grace_period
    after = await stop_containers.with_options(name=name)(environment, name, up, grace)
    took = datetime.now(UTC) - began
    seconds, reason = took.total_seconds(), f"stop was asked for; {how_it_stopped(after, grace, took)}"
    log.info("%s stopped after %.1f s: %s", name, seconds, reason)
    stopped = ServiceStart(
        service=name, previous_state=previous, state="stopped", reason=reason, kept=False, took_seconds=seconds
    )
    codes = {container.name: container.exit_code for container in after}
    details = {"on_request": True, "took_seconds": round(seconds, 3), "exit_codes": codes}
    await record_changes([recorder.change(stopped, details)])
    return stopped
