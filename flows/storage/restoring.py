"""Put a snapshot's data back: save what is there, stop what writes, put each part back, start, and prove.

Which snapshot is put back is on record from before the first part until the application is proven, so that nothing
starts on data of which a part is old and a part is new.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from core.common.dependencies import dependencies_of
from core.deployment.plan import stop_waves
from core.storage.snapshots import check_rehearsal, writers_of
from flows.deployment.operation import OperationRecorder
from flows.runtime.identifiers import new_snapshot_id
from flows.storage.snapshot import Taking, take_snapshot
from models.compose import Application
from models.environments import Environment
from models.failures import SnapshotError
from models.results import ServiceStart
from models.snapshots import DataSnapshot, SavedData, SnapshotReason
from tasks.deployment.operations import record_changes
from tasks.deployment.services import inspect_application, stop_containers
from tasks.storage.restores import begin_restore
from tasks.storage.snapshots import check_part, load_part, parts_declared, snapshots_of

log = logging.getLogger("roas")

SAFETY = "safety snapshot"
"""Step of a restore: what is there is saved; the detail is the snapshot's id."""
RESTORED = "restored"
"""Step of a restore: a part is put back. In place of a service it names the part."""
RETURNED = "returned"
"""Step of a failed restore: a part is again as the safety snapshot has it."""


async def save_for_safety(
    recorder: OperationRecorder, environment: Environment, application: Application, snapshot: DataSnapshot
) -> DataSnapshot:
    """Read the snapshot to its end, and save the data that a restore replaces; once in an operation.

    Raises:
        SnapshotError: It cannot be read or its rehearsal failed, or the data cannot be saved: nothing is restored.
    """
    known = recorder.reported(SAFETY)
    if known is not None:
        return next(one for one in await snapshots_of(environment.name) if one.snapshot_id == known)
    check_rehearsal(snapshot)
    for part in snapshot.parts:
        await check_part(environment, part, snapshot.snapshot_id)
    now = datetime.now(UTC)
    begun = DataSnapshot(
        snapshot_id=new_snapshot_id(now),
        environment=environment.name,
        begun_at=now,
        reason=SnapshotReason.SAFETY,
        deployment_id=recorder.deployment_id,
    )
    data = parts_declared(environment, snapshot)
    taken = await take_snapshot(Taking(environment, application, data, recorder.redactor), begun)
    recorder.facts["safety_snapshot"] = taken.snapshot_id
    await recorder.step(SAFETY, detail=taken.snapshot_id)
    return taken


async def put_back(
    recorder: OperationRecorder,
    environment: Environment,
    application: Application,
    snapshot: DataSnapshot,
    *,
    step: str = RESTORED,
) -> None:
    """Stop what writes to the data, and put each part back that is not back yet.

    Until `end_restore` no other operation of the environment starts anything.

    Raises:
        SnapshotError: A part could not be put back.
    """
    data = parts_declared(environment, snapshot)
    await begin_restore(environment.name, snapshot.snapshot_id, recorder.deployment_id)
    await _stop_writers(recorder, environment, application, data)
    for one in data:
        if (step, one.name) in recorder.done:
            continue
        await load_part(environment, application, one, snapshot)
        await recorder.step(step, service=one.name)
        log.info("%s is as it was at %s UTC", one.name, f"{snapshot.begun_at:%Y-%m-%d %H:%M:%S}")


async def _stop_writers(
    recorder: OperationRecorder, environment: Environment, application: Application, data: list[SavedData]
) -> None:
    """Stop them in reverse order of the start, on record as stopped on request: no recovery starts them meanwhile."""
    dependencies = dependencies_of(environment, application)
    wanted = set().union(*(writers_of(one, application, dependencies) for one in data))
    states = await inspect_application(environment)

    async def stop(name: str) -> None:
        up = [one for one in states if one.service == name and one.up and not one.one_off]
        if not up:
            return
        await stop_containers(environment, name, up, application.services[name].stop_grace_period)
        stopped = ServiceStart(
            service=name, previous_state=up[0].state, state="stopped", reason="its data is being restored", kept=False
        )
        await record_changes([recorder.change(stopped, {"on_request": True})])

    for wave in stop_waves(application, dependencies):
        await asyncio.gather(*(stop(name) for name in wave if name in wanted))
    still_up = {one.service for one in await inspect_application(environment) if one.up and not one.one_off}
    if wrong := sorted(wanted & still_up):
        raise SnapshotError(f"{', '.join(wrong)} cannot be stopped, so data under it cannot be restored.")
