"""Operations whose process was killed, taken up again by a person, by the next agent, or by Retry in Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from prefect import Flow, get_client
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry

from flows.agent.left_operations import resume_left
from models.operations import Operation

BY_HAND, BY_AGENT, BY_RETRY = "by hand", "by the agent", "by a retry in Prefect"
BY_ITSELF = (BY_AGENT, BY_RETRY)
_AGENT_SECONDS = 120


Killed = Operation | UUID
"""An operation, or the flow run of what is none, such as a snapshot."""


async def take_up(way: str, flow: Flow[..., Any], killed: Killed, pool: str, **parameters: object) -> object:
    """Take it up again, or do it again by hand; its result. What an agent takes up must be a run of the pool."""
    if way == BY_HAND:
        known = {"deployment_id": killed.deployment_id} if isinstance(killed, Operation) else {}
        return await flow("test", **parameters, **known)
    if way == BY_AGENT:
        async with agent_after_a_killed_one(pool):
            await _until_retried(killed)
    else:
        async with get_client() as client:
            await client.set_flow_run_state(_run_id(killed), AwaitingRetry(), force=True)
    return await run_flow(flow, flow_run=await run_of(killed))


async def is_left_by_the_agent(killed: Killed, pool: str) -> bool:
    """Whether the next agent does not take an operation up again."""
    async with agent_after_a_killed_one(pool) as looked:
        await looked.wait()
    state = (await run_of(killed)).state
    return state is not None and state.name != "AwaitingRetry"


@asynccontextmanager
async def agent_after_a_killed_one(pool: str) -> AsyncIterator[asyncio.Event]:
    """What an agent that starts does with left operations; the event is that it has looked at them."""
    looked = asyncio.Event()
    looking = asyncio.create_task(resume_left(pool, looked.set))
    try:
        yield looked
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def run_of(killed: Killed) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(_run_id(killed))


async def run_in(pool: str) -> UUID:
    """The only flow run of a work pool."""
    async with get_client() as client:
        in_pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        (run,) = await client.read_flow_runs(work_pool_filter=in_pool)
    return run.id


def _run_id(killed: Killed) -> UUID:
    return killed if isinstance(killed, UUID) else UUID(str(killed.details["flow_run_id"]))


async def _until_retried(killed: Killed) -> None:
    async with asyncio.timeout(_AGENT_SECONDS):
        while True:
            state = (await run_of(killed)).state
            if state is not None and state.name == "AwaitingRetry":
                return
            await asyncio.sleep(0.2)
