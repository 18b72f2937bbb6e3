"""Save what an update may change before it touches a container."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from core.common.dependencies import dependencies_of
from core.storage.snapshots import check_services, data_to_save, proof_of
from flows.storage.snapshot import SnapshotRun, take_snapshot
from flows.update.context import Update
from models.operations import DATA_SAVED
from models.operations.record import SnapshotRecord
from models.snapshots import DataSnapshot, SnapshotReason
from tasks.deployment.services import inspect_application
from tasks.runtime.identifiers import new_snapshot_id
from tasks.storage.snapshots import snapshots_of

log = logging.getLogger("roas")


async def save_before_update(update: Update) -> str | None:
    """Save the data of the services that an update changes, tied to the release that runs; the id of a new snapshot.

    Raises:
        SnapshotError: It could not be saved, so the update must not go on.
        BadInputError: `data` names a service or volume that is not there.
    """
    environment, recorder = update.environment, update.recorder
    if environment.data is None:
        return None
    earlier = await snapshots_of(environment.name)
    if snapshot_id := recorder.step_detail(DATA_SAVED):
        saved = (snapshot for snapshot in earlier if snapshot.snapshot_id == snapshot_id)
        recorder.record.snapshots = tuple(map(_record_of, saved))
        return None
    check_services(environment.data, update.application)
    there = {container.service for container in await inspect_application(update.project)}
    # A migration may change any data.
    changed = tuple(update.application.services) if environment.hooks.before else update.changed_services
    dependencies = dependencies_of(environment, update.application)
    data = data_to_save(environment.data, update.application, dependencies, changed, there)
    if not data:
        return None
    now = datetime.now(UTC)
    begun = DataSnapshot(
        snapshot_id=new_snapshot_id(now),
        environment=environment.name,
        begun_at=now,
        reason=SnapshotReason.UPDATE,
        deployment_id=recorder.deployment_id,
        release_id=update.release.release_id if update.release else "",
    )
    log.info("saving %s before the update", ", ".join(part.name for part in data))
    run = SnapshotRun(update.project, update.application, data, recorder.redactor, begun)
    snapshot = await take_snapshot(run)
    recorder.record.snapshots = (_record_of(snapshot),)
    return snapshot.snapshot_id


def _record_of(snapshot: DataSnapshot) -> SnapshotRecord:
    return SnapshotRecord(
        id=snapshot.snapshot_id,
        parts=tuple(part.name for part in snapshot.parts),
        bytes=snapshot.bytes,
        seconds=snapshot.seconds,
        proof=proof_of(snapshot),
    )
