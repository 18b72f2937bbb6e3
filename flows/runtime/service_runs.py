"""Service runs: the watch and the monitoring of each environment, begun as soon as a server knows them.

Their schedules begin them again where nothing else did, and come only minutes later. `python -m
flows.runtime.service_runs` begins them on a server of your own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from uuid import UUID

from httpx import HTTPError
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

_TRY_AGAIN_SECONDS = 15.0
_TRIES = 40
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


async def begin_each(deployments: Iterable[UUID]) -> dict[UUID, UUID]:
    """Begin a run of each deployment; the runs by their deployments."""
    async with get_client() as client:
        return {one: (await client.create_flow_run_from_deployment(one)).id for one in deployments}


async def begin_again_what_is_cancelled(begun: Mapping[UUID, UUID]) -> None:
    """Wait until the runs that were begun go on, for ten minutes, and begin each again that the server cancels.

    It does so while it still counts a run that was killed with the last `roas serve`, and the next time of the
    schedule is up to a quarter of an hour away.
    """
    waiting = dict(begun)
    async with get_client() as client:
        for _ in range(_TRIES):
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
            for deployment, run in list(waiting.items()):
                # A server that does not answer is asked again.
                with suppress(HTTPError):
                    state = (await client.read_flow_run(run)).state
                    if state is not None and state.is_running():
                        del waiting[deployment]
                    elif state is not None and state.is_final():
                        waiting[deployment] = (await client.create_flow_run_from_deployment(deployment)).id
            if not waiting:
                return


if __name__ == "__main__":
    print("begun:", ", ".join(asyncio.run(begin_standing())) or "nothing, all of it runs")
