"""Restore: bring an environment's data back to a snapshot, with a safety copy of what is there."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from core.storage.snapshots import chosen, proof_of, what_would_be_lost
from flows.common import parameters
from flows.deployment.execute import verify
from flows.deployment.failure import escalate
from flows.operation.recorder import OperationRecorder, OperationRequest, recorded
from flows.storage.restoring import SAFETY, DataRestore, start_again
from flows.storage.snapshot import forget_where_possible
from models.failures import BadInputError
from models.operations import OperationType
from models.results import OperationResult
from tasks.deployment.services import read_application
from tasks.storage.restores import count_later_deployments
from tasks.storage.snapshots import settings_of, snapshots_of

log = logging.getLogger("roas")


@flow(name="restore", flow_run_name="restore the data of {environment}")
async def restore(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    snapshot: str | None = Field(None, description="Its id, as `roas snapshot list` shows it; without it the newest."),
    confirmed: bool = Field(False, description="On: what was written since the snapshot may be lost."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
) -> OperationResult:
    """Save what is there, stop what writes, put the snapshot's data back, start, and prove.

    It is recorded as a start. One that fails is undone: the data is again what it was before.

    Raises:
        NotFoundError: There is no such snapshot that is whole.
        BadInputError: It is not confirmed.
        SnapshotError: A part cannot be saved or put back.
        StartFailedError: A service did not come up with that data.
    """
    undo = DataRollback()
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    async with recorded(OperationType.START, environment, request, on_failure=escalate, rollback=undo) as recorder:
        declared = await recorder.load()
        settings_of(declared)
        application = await read_application(declared)
        await undo.data.take_up(recorder, application)
        recorder.refuse_to_go_forward()
        target = chosen(await snapshots_of(environment), recorder.reported(_WANTED) or snapshot, environment)
        if not confirmed:
            later = await asyncio.to_thread(count_later_deployments, target)
            raise BadInputError(
                what_would_be_lost(target, datetime.now(UTC), later), advice="Confirm that it may be (--yes)."
            )
        await recorder.step(_WANTED, detail=target.snapshot_id)
        recorder.facts |= {"restore": target.snapshot_id, "proof": proof_of(target)}
        await undo.data.put_back(recorder, declared, target)
        starts = await start_again(recorder, declared, application)
        health = await verify(recorder, declared, application)
        await undo.data.settle(recorder)
        await forget_where_possible(declared)
        recorder.settles = True
    return recorder.result(
        f"the data is that of snapshot {target.snapshot_id}: {len(starts)} services proven",
        services=starts,
        health=health,
    )


_WANTED = "snapshot"
"""Step of a restore: which snapshot it puts back, also where it is taken up again."""


class DataRollback:
    """Brings data back to the safety snapshot where a restore failed. Until that is taken there is nothing to do."""

    def __init__(self) -> None:
        self.data = DataRestore()

    async def __call__(self, recorder: OperationRecorder, error: Exception) -> None:
        """Put the data back as it was, start, and prove; put into the recorder's facts how.

        Raises:
            RoasError: It could not be put back; nothing is started then.
        """
        environment, application = await recorder.load(), self.data.application
        if self.data.safety is None or application is None:
            if SAFETY not in recorder.done:
                recorder.facts["undone"] = "no data was touched"
            return
        await recorder.begin_rollback(error)
        safety = await self.data.put_safety_back(recorder, environment)
        starts = await start_again(recorder, environment, application)
        await self.data.settle(recorder)
        recorder.facts["undone"] = (
            f"the data is again that of before (snapshot {safety}): {len(starts)} services proven"
        )
        log.warning("rollback: %s", recorder.facts["undone"])
