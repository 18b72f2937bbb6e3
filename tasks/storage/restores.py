"""The record of restores: which snapshot is being put back, and what has happened since it was taken."""

from __future__ import annotations

import asyncio

from models.operations import OperationType
from models.snapshots import DataSnapshot
from tasks.runtime.retry_policy import retry_read, retry_write
from tasks.runtime.stores import open_stores


@retry_write
async def begin_restore(environment: str, snapshot_id: str, deployment_id: str) -> None:
    """Write which snapshot an operation puts back from now on."""
    await asyncio.to_thread(open_stores().snapshots.mark_restoring, environment, snapshot_id, deployment_id)


@retry_write
async def end_restore(environment: str) -> None:
    """Write that nothing is being put back any more."""
    await asyncio.to_thread(open_stores().snapshots.clear_restoring, environment)


@retry_read
async def being_restored(environment: str) -> DataSnapshot | None:
    """The snapshot that an operation has begun to put back and not finished; None where there is none."""
    return await asyncio.to_thread(open_stores().snapshots.find_restoring, environment)


def count_later_deployments(snapshot: DataSnapshot) -> int:
    """How many deployments of the environment began after a snapshot was taken."""
    history = open_stores().operations.history(environment=snapshot.environment)
    kinds = (OperationType.START, OperationType.RESTART)
    return sum(operation.started_at > snapshot.begun_at and operation.operation_type in kinds for operation in history)
