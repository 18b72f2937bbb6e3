"""Refuse to start on data that a restore has put back in part only."""

from __future__ import annotations

from flows.operation.recorder import OperationRecorder
from models.failures import HalfRestoredError
from tasks.deployment.operations import operation_of
from tasks.storage.restores import being_restored


async def refuse_half_restored(recorder: OperationRecorder) -> None:
    """Raise where another operation began to put data back and did not finish.

    Raises:
        HalfRestoredError: The message names the snapshot, and how to go on.
    """
    if recorder.environment.data is None:
        return
    snapshot = await being_restored(recorder.name)
    if snapshot is not None and snapshot.restoring != recorder.deployment_id:
        whole = f"roas snapshot restore {recorder.name} {snapshot.snapshot_id}"
        operation = await operation_of(recorder.name, snapshot.restoring, None)
        # One that failed by itself, and could not be undone, does not go on.
        ended = operation is not None and operation.ended_at is not None and not operation.record.interrupted
        raise HalfRestoredError(
            f"The data of {recorder.name} is half restored: {snapshot.restoring} was to put snapshot "
            f"{snapshot.snapshot_id} back and did not finish;",
            advice=f"restore a snapshot: {whole}."
            if ended
            else f"`roas resume {snapshot.restoring}` finishes it; or restore a snapshot: {whole}.",
        )
