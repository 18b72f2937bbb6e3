"""The deployments of an environment: each flow under the name a person types, with its schedule.

prefect.yaml lists the same ones for `prefect deploy`; a test holds the two together.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.types.entrypoint import EntrypointType

from flows.recovery.error_recovery import error_recovery
from flows.runtime.registry import FLOWS
from tasks.recovery.notify import UNHEALTHY

ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""A second run of the same kind would only find the environment held; it is cancelled, which is seen."""

NIGHTLY = "17 3 * * *"
"""When the life cycle runs, in UTC: off the full hour, where every other job runs."""

MONITOR_EVERY = timedelta(minutes=5)
"""How soon monitoring that has died is begun again, as a watch is."""

WATCH_EVERY = timedelta(minutes=15)
"""How soon a watch that has died is begun again. While it lives, each further run is cancelled before it begins."""

HOURLY = "23 * * * *"
"""When drift is looked for."""

DAILY = "41 5 * * *"
"""When the report is made, in UTC: before people begin, and after the life cycle."""


def deployments_of(environment: str) -> list[RunnerDeployment]:
    """All deployments of one environment, ready to be served."""
    schedules: dict[str, dict[str, Any]] = {
        "monitor": {"interval": MONITOR_EVERY},
        "watch": {"interval": WATCH_EVERY},
        "drift": {"cron": HOURLY},
        "lifecycle": {"cron": NIGHTLY},
        "report": {"cron": DAILY},
    }
    served = [
        _deployment(flow, environment, schedules.get(name, {}), waits=name == "recover") for name, flow in FLOWS.items()
    ]
    for deployment in served:
        if deployment.flow_name == error_recovery.name:
            deployment.triggers = [_when_unhealthy(environment)]
    return served


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


def _deployment(flow: Flow[..., Any], environment: str, schedule: dict[str, Any], *, waits: bool) -> RunnerDeployment:
    takes_environment = flow.name != "lifecycle"
    deployment = flow.to_deployment(
        name=environment,
        parameters={"environment": environment} if takes_environment else {},
        tags=[environment],
        description=(flow.description or "").split("\n\n")[0],
        # Two errors may be recovered side by side; two starts of one environment may not.
        concurrency_limit=None if waits else ONE_AT_A_TIME,
        entrypoint_type=EntrypointType.MODULE_PATH,
        enforce_parameter_schema=True,
        **schedule,
    )
    if not isinstance(deployment, RunnerDeployment):
        raise TypeError("to_deployment was called from asynchronous code")
    return deployment
