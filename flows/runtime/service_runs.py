"""Service runs: the watch and the monitoring of each environment of prefect.yaml, where no agent watches.

Their schedules begin them again where nothing else did, and come only minutes later. `python -m
flows.runtime.service_runs` begins them on a server of your own.
"""

from __future__ import annotations

import asyncio

from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

STANDING = ("watch", "monitoring")
"""The flows that run all the time."""

_GOES_ON = [StateType.PENDING, StateType.RUNNING]


async def begin_standing() -> list[str]:
    """Begin each service run that the server does not show as running; returns their names, flow/environment.

    One whose process is gone counts as running until the server notices; then it is begun again by itself.
    """
    begun = []
    async with get_client() as client:
        for flow in STANDING:
            named = FlowFilter(name=FlowFilterName(any_=[flow]))
            for deployment in await client.read_deployments(flow_filter=named):
                runs = await client.read_flow_runs(
                    deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
                    flow_run_filter=FlowRunFilter(
                        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_GOES_ON)),
                    ),
                )
                if not runs:
                    await client.create_flow_run_from_deployment(deployment.id)
                    begun.append(f"{flow}/{deployment.name}")
    return begun


if __name__ == "__main__":
    print("begun:", ", ".join(asyncio.run(begin_standing())) or "nothing, all of it runs")
