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

from flows.runtime.registry import FLOWS
from tasks.recovery.notify import UNHEALTHY

ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""A second run of the same kind would only find the environment held; it is cancelled, which is seen."""

_SCHEDULES: dict[str, dict[str, Any]] = {
    # What runs all the time is begun again where it has died; while it lives, each further run is cancelled.
    "monitor": {"interval": timedelta(minutes=5)},
    "watch": {"interval": timedelta(minutes=15)},
    # In UTC and off the full hour, when every other job runs; the report comes after the life cycle.
    "drift": {"cron": "23 * * * *"},
    "lifecycle": {"cron": "17 3 * * *"},
    "report": {"cron": "41 5 * * *"},
}


def deployments_of(environment: str) -> list[RunnerDeployment]:
    """All deployments of one environment, ready to be served."""
    return [_deployment(name, flow, environment) for name, flow in FLOWS.items()]


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
        # Two errors may be recovered side by side; two starts of one environment may not.
        concurrency_limit=None if name == "recover" else ONE_AT_A_TIME,
        entrypoint_type=EntrypointType.MODULE_PATH,
        enforce_parameter_schema=True,
        triggers=[_when_unhealthy(environment)] if name == "recover" else None,
        **_SCHEDULES.get(name, {}),
    )
    if not isinstance(deployment, RunnerDeployment):
        raise TypeError("to_deployment was called from asynchronous code")
    return deployment
