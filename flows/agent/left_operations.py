"""Operations that ended with an earlier agent, such as one that was replaced: their flow runs are retried, once.

A retried run continues its operation after the last finished step, as `roas resume` does. A run that the earlier agent
had taken and not begun yet is taken again. A snapshot is taken anew: what was saved of it does not count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Completed, Crashed, Scheduled

from adapters.host.processes import is_alive
from adapters.server.membership import read_membership
from flows.agent.isolation import Progress
from flows.common.pages import all_of
from models.failures import RoasError
from models.operations import Operation, OperationStatus
from models.settings import current_settings
from models.snapshots import SnapshotState
from tasks.deployment.lease import holder_of
from tasks.deployment.operations import mark_interrupted
from tasks.runtime.hosts import this_host
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

LOOKS_FOR = timedelta(minutes=5)
"""A runner in another container can only be taken for gone when its lease has expired for a while."""

_EVERY_SECONDS = 5.0
_LOOKED_AT = 200
_REPORTED_WITHIN = timedelta(minutes=10)
_AWAY = (RoasError, PrefectException, httpx.HTTPError, OSError, TimeoutError)


async def resume_left(pool: str, progress: Progress) -> None:
    """Let operations go on whose runner ended with an earlier agent, then wait until this is cancelled.

    Only the newest operation of an environment goes on, if a run of this work pool carried it, if it was never resumed
    before, and if the environment is not paused: what ends its runner a second time is left to a person. While stores
    or server are away they are asked again.
    """
    begun, since, reported = datetime.now(UTC), None, False
    looks_left = int(LOOKS_FOR.total_seconds() / _EVERY_SECONDS)
    while looks_left:
        try:
            if since is None:
                since = await asyncio.to_thread(lambda: open_stores().hosts.now())
            if not reported:
                await _take_again(pool, begun)
                await _report(await asyncio.to_thread(_unreported_operations, since))
                reported = True
            await mark_interrupted(None, datetime.now(UTC))
            operations = await asyncio.to_thread(_interrupted_operations, since)
            if operations:
                await _retry(operations, pool)
            await _retry_snapshots(pool, begun)
            looks_left -= 1
        except _AWAY as error:
            log.debug("operations of an earlier agent cannot be resumed yet: %s", error)
        progress()
        await asyncio.sleep(_EVERY_SECONDS)
    while True:
        progress()
        await asyncio.sleep(_EVERY_SECONDS)


def _interrupted_operations(since: datetime) -> list[Operation]:
    """The operations of this host that were marked as interrupted since a moment, and that may go on by themselves."""
    stores, here = open_stores(), this_host().host_id
    paused = {pause.environment for pause in stores.pauses.active(datetime.now(UTC)) if pause.service is None}
    return [
        operation
        for operation in stores.operations.history(status=OperationStatus.FAILED, limit=_LOOKED_AT)
        if operation.record.interrupted
        and not paused & {None, operation.environment}
        and operation.ended_at is not None
        and operation.ended_at >= since
        and not operation.record.resumed
        and operation.host_id in ("", here)
        and operation.record.flow_run_id
        # Nothing that was asked for later is undone.
        and [newest.deployment_id for newest in stores.operations.latest_recorded(operation.environment, 1)]
        == [operation.deployment_id]
    ]


def _unreported_operations(since: datetime) -> list[Operation]:
    """The operations of this host that succeeded shortly before a moment, and whose process is gone."""
    stores, here = open_stores(), this_host().host_id
    return [
        operation
        for operation in stores.operations.history(status=OperationStatus.SUCCESS, limit=_LOOKED_AT)
        if operation.ended_at is not None
        and operation.ended_at >= since - _REPORTED_WITHIN
        and operation.host_id in ("", here)
        and operation.record.flow_run_id
        and (runner := operation.record.runner) is not None
        and is_alive(runner) is False
    ]


async def _take_again(pool: str, begun: datetime) -> None:
    """Schedule the runs anew that no process was begun for when the earlier agent ended.

    Only in the pool that an enrolled host has to itself: in another one a second worker may be about to begin them.
    """
    member = read_membership(current_settings())
    if member is None or member.pool != pool:
        return
    message = "Its worker ended before it began, and the next one takes it."
    async with get_client() as client:
        pending = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))
        for run in await all_of(
            client.read_flow_runs,
            flow_run_filter=FlowRunFilter(state=pending),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        ):
            # The states have the time of this host.
            if run.state is not None and run.state.timestamp < begun:
                await client.set_flow_run_state(run.id, Scheduled(message=message), force=True)
                log.info("the run %s was not begun when its worker ended, and is taken again", run.name)


async def _report(done: Sequence[Operation]) -> None:
    """Complete the runs of operations that had ended when their process was, which the server shows as running."""
    if not done:
        return
    message = "Its operation succeeded; its process ended before it said so."
    async with get_client() as client:
        for operation in done:
            with suppress(ObjectNotFound):
                run = await client.read_flow_run(UUID(operation.record.flow_run_id))
                if run.state is not None and run.state.is_running():
                    await client.set_flow_run_state(run.id, Completed(message=message), force=True)


async def _retry(operations: Sequence[Operation], pool: str) -> None:
    async with get_client() as client:
        for operation in operations:
            # One that is not there ran on another server, such as a command's own.
            with suppress(ObjectNotFound):
                await _retry_run(client, operation, pool)


async def _retry_snapshots(pool: str, begun: datetime) -> None:
    """Take the snapshots anew, once, whose process ended with the earlier agent, unless something came after them."""
    async with get_client() as client:
        running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        for run in await all_of(
            client.read_flow_runs,
            flow_filter=FlowFilter(name=FlowFilterName(any_=["snapshot"])),
            flow_run_filter=FlowRunFilter(state=running),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        ):
            name, since = str(run.parameters.get("environment")), run.start_time
            if since is None or since >= begun or await asyncio.to_thread(holder_of, name) is not None:
                continue
            if run.run_count > 1 or not await asyncio.to_thread(_is_still_wanted, name, since):
                message = "Its worker ended; the next snapshot saves all of it."
                await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
                continue
            message = "Its worker ended, and the next one takes the snapshot anew."
            await client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry", message=message), force=True)
            log.info("the snapshot of %s was interrupted, and is taken anew", name)


def _is_still_wanted(environment: str, since: datetime) -> bool:
    """Whether a snapshot that began at a moment is not paused, and no operation or other snapshot came after it."""
    stores, now = open_stores(), datetime.now(UTC)
    paused = {pause.environment for pause in stores.pauses.active(now) if pause.service is None}
    whole = [snapshot for snapshot in stores.snapshots.list_for(environment) if snapshot.state is SnapshotState.WHOLE]
    starts = [operation.started_at for operation in stores.operations.latest_recorded(environment, 1)]
    return not paused & {None, environment} and all(
        at < since for at in (*starts, *(snapshot.begun_at for snapshot in whole))
    )


async def _retry_run(client: PrefectClient, operation: Operation, pool: str) -> None:
    run = await client.read_flow_run(UUID(operation.record.flow_run_id))
    if run.work_pool_name != pool or run.state is None or not run.state.is_crashed():
        return
    message = "Its worker ended, and the next one continues it after its last finished step."
    await client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry", message=message), force=True)
    log.info(
        "%s %s of %s was interrupted, and continues", operation.kind, operation.deployment_id, operation.environment
    )
