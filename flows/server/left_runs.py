"""Flow runs that killed commands left on the server that they share."""

from __future__ import annotations

import logging
import os

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

from flows.common.pages import all_of

log = logging.getLogger("roas")

_UNDER_WAY = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING]))
_SAID = "The command whose run this is was killed."


async def crash_left_runs(port: int) -> bool:
    """Set the runs of commands to Crashed while no command uses the server; False where it did not answer.

    Runs of deployments belong to a runner, which may use the same database through another server.
    """
    # The server's own process has the password as the server's setting, not as a client's.
    auth_string = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    try:
        async with PrefectClient(f"http://127.0.0.1:{port}/api", auth_string=auth_string) as client:
            run_filter = FlowRunFilter(state=_UNDER_WAY, deployment_id=FlowRunFilterDeploymentId(is_null_=True))
            for run in await all_of(client.read_flow_runs, flow_run_filter=run_filter):
                if run.parent_task_run_id is None:
                    await _crash(client, run)
    except (httpx.HTTPError, OSError) as error:
        log.info("runs of killed commands stay as they are for now: %s", error or type(error).__name__)
        return False
    return True


async def _crash(client: PrefectClient, run: FlowRun) -> None:
    await client.set_flow_run_state(run.id, Crashed(message=_SAID), force=True)
    children = FlowRunFilter(state=_UNDER_WAY, parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    for child in await all_of(client.read_flow_runs, flow_run_filter=children):
        await _crash(client, child)
