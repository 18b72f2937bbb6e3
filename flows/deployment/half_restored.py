"""Refuse to start on data that a restore has put back in part only."""

from __future__ import annotations

from flows.deployment.operation import OperationRecorder
from models.failures import HalfRestoredError
from tasks.storage.restores import being_restored


async def refuse_half_restored(recorder: OperationRecorder) -> None:
    """Raise where another operation began to put data back and did not finish.

    Raises:
        HalfRestoredError: The message names the snapshot, and how to go on.
    """
    if (await recorder.load()).data is None:
        return
    found = await being_restored(recorder.name)
    if found is not None and found.restoring != recorder.deployment_id:
        raise HalfRestoredError(
            f"The data of {recorder.name} is half restored: {found.restoring} was to put snapshot {found.snapshot_id} "
            "back and did not finish;",
            advice=f"`roas resume {found.restoring}` finishes it; or restore a snapshot: "
            f"roas snapshot restore {recorder.name} {found.snapshot_id}.",
        )
