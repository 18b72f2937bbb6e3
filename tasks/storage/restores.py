"""The record of restores: which snapshot is being put back, and what has happened since it was taken."""

from __future__ import annotations

import asyncio

from models.environments import Environment
from models.failures import HalfRestoredError
from models.operations import OperationType
from models.snapshots import DataSnapshot
from tasks.deployment.operations import operation_of
from tasks.deployment.rotation import refuse_half_rotated
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


async def refuse_half_restored(environment: Environment, deployment_id: str = "") -> None:
    """Raise where an operation, other than this one, began to put data back, or to rotate a password, and is not over.

    Raises:
        HalfRestoredError: The message names the snapshot or the secret, and how to go on.
    """
    await refuse_half_rotated(environment.name, deployment_id)
    snapshot = await being_restored(environment.name) if environment.data is not None else None
    if snapshot is None or snapshot.restoring == deployment_id:
        return
    whole = f"roas snapshot restore {environment.name} {snapshot.snapshot_id}"
    operation = await operation_of(environment.name, snapshot.restoring, None)
    # One that failed by itself, and could not be undone, does not go on.
    ended = operation is not None and operation.ended_at is not None and not operation.record.interrupted
    raise HalfRestoredError(
        f"The data of {environment.name} is half restored: {snapshot.restoring} was to put snapshot "
        f"{snapshot.snapshot_id} back and did not finish;",
        advice=f"restore a snapshot: {whole}."
        if ended
        else f"`roas resume {snapshot.restoring}` finishes it; or restore a snapshot: {whole}.",
    )


def count_later_deployments(snapshot: DataSnapshot) -> int:
    """How many deployments of the environment began after a snapshot was taken."""
    history = open_stores().operations.history(environment=snapshot.environment)
    kinds = (OperationType.START, OperationType.RESTART)
    return sum(operation.started_at > snapshot.begun_at and operation.operation_type in kinds for operation in history)
