"""Stop: in reverse order of the start, each service with its own grace period."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from prefect import flow

from core.compose import stop_waves
from flows.recording import Story, recorded
from models.compose import Application
from models.environments import Environment
from models.operations import OperationType, StateChange
from models.results import OperationResult, ServiceStart
from models.sightings import Sighting
from tasks.loading import load_environment
from tasks.records import record_changes
from tasks.services import look_at_application, read_application, stop_containers

log = logging.getLogger("roas")

_UP = frozenset({"running", "restarting", "paused"})


@flow(name="stop", flow_run_name="stop {environment}")
async def stop(
    environment: str,
    asked_by: str | None = None,
    deployment_id: str | None = None,
    compose_files: list[str] | None = None,
) -> OperationResult:
    """Stop an environment's services. Containers, networks and volumes stay.

    Raises:
        RoasError: A service could not be stopped; recorded and handed on first.
    """
    files = tuple(compose_files or ())
    async with recorded(
        OperationType.STOP, environment, asked_by=asked_by, deployment_id=deployment_id, compose_files=files
    ) as story:
        declared = await load_environment(environment, files)
        application = await read_application(declared)
        sightings = await look_at_application(declared)
        stopped: list[ServiceStart] = []
        for wave in stop_waves(application):
            stopped += await asyncio.gather(
                *(_stop_service(story, declared, application, name, sightings) for name in wave)
            )
    return OperationResult(
        success=True,
        deployment_id=story.deployment_id,
        environment=environment,
        reason=f"{sum(not one.kept for one in stopped)} services stopped",
        took_seconds=story.took_seconds(),
        services=tuple(stopped),
    )


async def _stop_service(
    story: Story, environment: Environment, application: Application, name: str, sightings: list[Sighting]
) -> ServiceStart:
    began = datetime.now(UTC)
    mine = [seen for seen in sightings if seen.service == name]
    up = [seen for seen in mine if seen.state in _UP]
    previous = up[0].state if up else (mine[0].state if mine else "absent")
    if not up:
        return _result(name, previous, previous, "was not running", kept=True, seconds=0.0)
    grace = application.services[name].stop_grace_period
    await stop_containers(environment, name, [seen.container_id for seen in up], grace)
    seconds = (datetime.now(UTC) - began).total_seconds()
    log.info("%s stopped after %.1f s", name, seconds)
    await record_changes(
        [
            StateChange(
                deployment_id=story.deployment_id,
                service=name,
                previous_state=previous,
                new_state="stopped",
                changed_at=datetime.now(UTC),
                reason="stop was asked for",
                details={"took_seconds": round(seconds, 3), "containers": len(up)},
            )
        ]
    )
    return _result(name, previous, "stopped", "stop was asked for", kept=False, seconds=seconds)


def _result(name: str, previous: str, state: str, reason: str, *, kept: bool, seconds: float) -> ServiceStart:
    return ServiceStart(
        service=name,
        previous_state=previous,
        state=state,
        reason=reason,
        kept=kept,
        waited_seconds=0.0,
        took_seconds=seconds,
    )
