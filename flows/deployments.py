"""The deployments of an environment: each flow under the name a person types, with its schedule.

prefect.yaml lists the same ones for `prefect deploy`; a test holds the two together.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.operations import FLOWS
from tasks.doors import find_environment

ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""A second run of the same kind would only find the environment held; it is cancelled, which is seen."""

NIGHTLY = "17 3 * * *"
"""When the life cycle runs, in UTC: off the full hour, where every other job runs."""


HOURLY = "23 * * * *"
"""When drift is looked for."""


def deployments_of(environment: str) -> list[RunnerDeployment]:
    """All deployments of one environment, ready to be served."""
    every = timedelta(seconds=find_environment(environment).collect_every_seconds)
    schedules: dict[str, dict[str, Any]] = {
        "collect": {"interval": every},
        "drift": {"cron": HOURLY},
        "lifecycle": {"cron": NIGHTLY},
    }
    return [
        _deployment(flow, environment, schedules.get(name, {}), waits=name == "recover") for name, flow in FLOWS.items()
    ]


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
        **schedule,
    )
    if not isinstance(deployment, RunnerDeployment):
        raise TypeError("to_deployment was called from asynchronous code")
    return deployment
