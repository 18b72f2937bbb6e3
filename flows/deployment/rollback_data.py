"""Put data back with a release: the snapshot that was taken when the release was replaced."""

from __future__ import annotations

import logging
from dataclasses import replace

from core.storage.snapshots import of_release, proof_of
from flows.deployment.execute import start_in_order
from flows.deployment.operation import OperationRecorder, Rollback
from flows.storage.restoring import RETURNED, put_back, save_for_safety
from models.compose import Application
from models.environments import Environment
from models.records import Release
from models.snapshots import DataSnapshot
from tasks.storage.restores import end_restore
from tasks.storage.snapshots import settings_of, snapshots_of

log = logging.getLogger("roas")


class RollbackOfData:
    """Rolls back a rollback that put data back: containers and data are again as they were before it."""

    def __init__(self, containers: Rollback) -> None:
        """`containers` rolls them back."""
        self._containers = containers
        self._replaced: tuple[Application, DataSnapshot] | None = None

    async def put_data_back(
        self, recorder: OperationRecorder, environment: Environment, application: Application, release: Release
    ) -> None:
        """Save what is there, stop what writes, and put back the data of before the release was replaced.

        Raises:
            NotFoundError: No snapshot was taken then.
            SnapshotError: The data cannot be saved or put back.
        """
        settings_of(environment)
        wanted = of_release(await snapshots_of(environment.name), release)
        recorder.facts |= {"data_of": wanted.snapshot_id, "proof": proof_of(wanted)}
        safety = await save_for_safety(recorder, environment, application, wanted)
        self._replaced = application, safety
        await put_back(recorder, environment, application, wanted)

    async def __call__(self, recorder: OperationRecorder, error: Exception) -> None:
        """Roll back the containers, then the data, and start what is to run; put into the recorder's facts how.

        Raises:
            RoasError: It could not be rolled back; where data is half back, nothing starts.
        """
        await self._containers(recorder, error)
        if self._replaced is None:
            return
        environment, (application, safety) = await recorder.load(), self._replaced
        await put_back(recorder, environment, application, safety, step=RETURNED)
        inner = replace(recorder, facts={}, steps=(), done=frozenset())
        starts = await start_in_order(inner, environment, application)
        await end_restore(environment.name)
        undone = recorder.facts.get("undone") or "no container was replaced"
        recorder.facts["undone"] = (
            f"{undone}; the data is again that of before (snapshot {safety.snapshot_id}): {len(starts)} services proven"
        )
        log.warning("rollback: %s", recorder.facts["undone"])
