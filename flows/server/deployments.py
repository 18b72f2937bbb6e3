"""The deployments of an environment: each flow under the name a person types, with its schedule.

prefect.yaml lists the same ones for `prefect deploy`; a test holds the two together. There collection and health check
have a schedule too, for a worker without an agent beside it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import Flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from adapters.config.environments import declared_environment
from core.runtime.clock import read_times
from flows.registry import FLOWS
from flows.schedules.scheduled import scheduled
from models.failures import EnvironmentFileError
from models.schedules import Schedule
from models.settings import current_settings
from tasks.recovery.notify import UNHEALTHY

log = logging.getLogger("roas")

ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""A second run of the same kind would only find the environment held; it is cancelled, which is seen."""

ONE_AFTER_THE_OTHER = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
"""A push during a sync may be newer than what that sync has fetched."""

_HOURS = {
    # In UTC; the report comes after the life cycle.
    "drift": "*",
    "lifecycle": "3",
    "report": "5",
}

_LIMITS = {"recover": None, "preview": None, "schedule": None, "sync": ONE_AFTER_THE_OTHER}


def deployments_of(environment: str) -> list[RunnerDeployment]:
    """All deployments of one environment, ready to be served."""
    return [_deployment(name, flow, environment) for name, flow in FLOWS.items()]


async def remove_gone_schedules(deployment: RunnerDeployment, deployment_id: UUID) -> None:
    """Remove from the server what is no more done by the clock. A schedule without our name for it is a person's."""
    if deployment.flow_name != scheduled.name:
        return
    names = {schedule.slug for schedule in deployment.schedules or []}
    async with get_client() as client:
        for schedule in (await client.read_deployment(deployment_id)).schedules:
            if schedule.slug and schedule.slug not in names:
                with suppress(ObjectNotFound):
                    await client.delete_deployment_schedule(deployment_id, schedule.id)


def _when_unhealthy(environment: str) -> DeploymentEventTrigger:
    """Starts recovery of a service that was seen unhealthy by somebody who does nothing about it."""
    return DeploymentEventTrigger(
        name=f"recover {environment} without a watch",
        expect={UNHEALTHY},
        match=ResourceSpecification({"roas.environment": environment, "roas.handled": "no"}),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(seconds=60),
        parameters={
            "environment": environment,
            "text": "{{ event.payload.text }}",
            "service": "{{ event.payload.service }}",
            "source": "event",
        },
    )


def _deployment(name: str, flow: Flow[..., Any], environment: str) -> RunnerDeployment:
    deployment = flow.to_deployment(
        name=environment,
        parameters={"environment": environment} if name != "lifecycle" else {},
        tags=[environment],
        description=(flow.description or "").split("\n\n")[0],
        # Two errors may be recovered side by side, and previews change nothing; two starts of one environment may not.
        concurrency_limit=_LIMITS.get(name, ONE_AT_A_TIME),
        entrypoint_type=EntrypointType.MODULE_PATH,
        enforce_parameter_schema=True,
        triggers=[_when_unhealthy(environment)] if name == "recover" else None,
        **_schedule(name, environment),
    )
    if not isinstance(deployment, RunnerDeployment):
        raise TypeError("to_deployment was called from asynchronous code")
    return deployment


def _schedule(name: str, environment: str) -> dict[str, Any]:
    if name == "sync":
        return _schedule_of_sync(environment)
    if name == "schedule":
        return {"schedules": _by_the_clock(environment)}
    return {"cron": f"{_minute_of(environment)} {_HOURS[name]} * * *"} if name in _HOURS else {}


def declared_schedules(environment: str) -> Mapping[str, Schedule] | None:
    """What the environment's file says is done by the clock; None where it cannot be read."""
    try:
        return declared_environment(environment, current_settings()).schedules
    except EnvironmentFileError:
        # It is asked every few seconds; a deployment is made seldom, and `_schedule_of_sync` logs the reason then.
        return None


def _by_the_clock(environment: str) -> list[DeploymentScheduleCreate]:
    times = {name: read_times(one.at) for name, one in (declared_schedules(environment) or {}).items()}
    return [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=at.cron, timezone=at.zone), parameters={"schedule": name}, slug=name
        )
        for name, at in times.items()
    ]


def _minute_of(environment: str) -> int:
    """The same for each of its schedules, and off the full hour: a server with many environments is asked evenly."""
    return 1 + zlib.crc32(environment.encode()) % 59


def _schedule_of_sync(environment: str) -> dict[str, Any]:
    """As often as the environment's file says, which is never by default."""
    try:
        source = declared_environment(environment, current_settings()).source
    except EnvironmentFileError as error:
        log.warning("no schedule of sync/%s: %s", environment, error.what)
        return {}
    seconds = 0 if source is None else source.check_every_seconds
    return {"interval": timedelta(seconds=seconds)} if seconds else {}
