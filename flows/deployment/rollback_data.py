"""Put data back with a release: the snapshot that was taken when the release was replaced."""

from __future__ import annotations

import logging

from core.storage.snapshots import chosen, of_release, proof_of
from flows.operation.recorder import OperationRecorder, Rollback
from flows.storage.restoring import DataRestore, start_again
from models.environments import Environment
from models.records import Release
from tasks.storage.snapshots import settings_of, snapshots_of

log = logging.getLogger("roas")

_DATA_OF = "data of"
"""Step of a rollback with data: which snapshot it puts back, also where it is taken up again."""


class RollbackOfData:
    """Rolls back a rollback that put data back: data and containers are again as they were before it."""

    def __init__(self, containers: Rollback) -> None:
        """`containers` rolls them back."""
        self._containers = containers
        self.data = DataRestore()

    async def put_data_back(self, recorder: OperationRecorder, environment: Environment, release: Release) -> None:
        """Save what is there, stop what writes, and put back the data of before the release was replaced.

        Raises:
            NotFoundError: No snapshot was taken then.
            SnapshotError: The data cannot be saved or put back.
        """
        settings_of(environment)
        snapshots, snapshot_id = await snapshots_of(environment.name), recorder.reported(_DATA_OF)
        snapshot = chosen(snapshots, snapshot_id, environment.name) if snapshot_id else of_release(snapshots, release)
        await recorder.step(_DATA_OF, detail=snapshot.snapshot_id)
        recorder.facts |= {"data_of": snapshot.snapshot_id, "proof": proof_of(snapshot)}
        await self.data.put_back(recorder, environment, snapshot)

    async def __call__(self, recorder: OperationRecorder, error: Exception) -> None:
        """Roll back the data, then the containers, and start what is to run; put into the recorder's facts how.

        Raises:
            RoasError: It could not be rolled back; where data is half back, nothing starts.
        """
        environment, application = await recorder.load(), self.data.application
        # First the data: what is started before would write to data of which a part is old and a part is new.
        await recorder.begin_rollback(error)
        safety = await self.data.put_safety_back(recorder, environment)
        await self._containers(recorder, error)
        if safety is None or application is None:
            return
        starts = await start_again(recorder, environment, application)
        await self.data.settle(recorder)
        summary = recorder.facts.get("undone") or "no container was replaced"
        recorder.facts["undone"] = (
            f"{summary}; the data is again that of before (snapshot {safety}): {len(starts)} services proven"
        )
        log.warning("rollback: %s", recorder.facts["undone"])
