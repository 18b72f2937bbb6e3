"""Restart: one wave after the other, in the order of the start, each proven before the next."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from prefect import flow

from core.compose import start_waves
from core.judging import worst_service
from flows.judging import judge_now
from flows.recording import Story, recorded
from models.compose import Application
from models.environments import Environment
from models.failures import BadInputError, StartFailedError
from models.health import Health
from models.operations import OperationType, StateChange
from models.results import OperationResult, ServiceStart
from models.sightings import Sighting
from tasks.loading import load_environment
from tasks.records import record_changes, record_health
from tasks.services import look_at_application, read_application, restart_containers
from tasks.waiting import wait_until_well

log = logging.getLogger("roas")


@flow(name="restart", flow_run_name="restart {environment}")
async def restart(
    environment: str,
    services: list[str] | None = None,
    asked_by: str | None = None,
    deployment_id: str | None = None,
    compose_files: list[str] | None = None,
) -> OperationResult:
    """Restart all running services of an environment, or the named ones, and prove that they serve again.

    Raises:
        BadInputError: A named service is not in the Compose files.
        StartFailedError: A service did not come back; the ones after it were left as they were.
    """
    files = tuple(compose_files or ())
    async with recorded(
        OperationType.RESTART,
        environment,
        asked_by=asked_by,
        deployment_id=deployment_id,
        compose_files=files,
    ) as story:
        declared = await load_environment(environment, files)
        application = await read_application(declared)
        wanted = _wanted(application, services)
        sightings = await look_at_application(declared)
        done: list[ServiceStart] = []
        for wave in start_waves(application):
            done += await asyncio.gather(
                *(_restart_service(story, declared, application, n, sightings) for n in wave if n in wanted)
            )
        health = await judge_now(declared, application, deployment_id=story.deployment_id)
        await record_health(health)
        story.facts["health"] = str(health.overall)
        if health.overall is Health.UNHEALTHY:
            ill = worst_service(health)
            raise StartFailedError(f"{ill.service} is {ill.health}: {ill.reason}", service=ill.service)
    return OperationResult(
        success=True,
        deployment_id=story.deployment_id,
        environment=environment,
        reason=f"{sum(not one.kept for one in done)} services restarted",
        took_seconds=story.took_seconds(),
        services=tuple(done),
        health=health,
    )


def _wanted(application: Application, services: list[str] | None) -> frozenset[str]:
    unknown = sorted(set(services or ()) - set(application.services))
    if unknown:
        raise BadInputError(
            f"{', '.join(unknown)} is not a service of {application.project};",
            advice=f"it has: {', '.join(application.services)}.",
        )
    return frozenset(services or application.services)


async def _restart_service(
    story: Story, environment: Environment, application: Application, name: str, sightings: list[Sighting]
) -> ServiceStart:
    declaration = application.services[name]
    mine = [seen for seen in sightings if seen.service == name and not seen.one_off]
    if declaration.one_shot or not mine:
        why = "runs once, not again at a restart" if declaration.one_shot else "has no container"
        return _result(name, mine[0].state if mine else "absent", mine[0].state if mine else "absent", why, 0.0)
    began = datetime.now(UTC)
    await restart_containers(environment, name, [seen.container_id for seen in mine], declaration.stop_grace_period)
    proof = await wait_until_well(environment, name)
    seconds = (datetime.now(UTC) - began).total_seconds()
    log.info("%s restarted: %s", name, proof)
    await record_changes(
        [
            StateChange(
                deployment_id=story.deployment_id,
                service=name,
                previous_state=mine[0].state,
                new_state="healthy",
                changed_at=datetime.now(UTC),
                reason=f"restart was asked for; {proof}",
                details={"took_seconds": round(seconds, 3)},
            )
        ]
    )
    return _result(name, mine[0].state, "healthy", proof, seconds)


def _result(name: str, previous: str, state: str, reason: str, seconds: float) -> ServiceStart:
    return ServiceStart(
        service=name,
        previous_state=previous,
        state=state,
        reason=reason,
        kept=seconds == 0.0,
        waited_seconds=0.0,
        took_seconds=seconds,
    )
