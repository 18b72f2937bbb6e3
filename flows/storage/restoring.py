"""Put a snapshot's data back: save the present data, stop what writes, put each part back, start, and prove.

Which snapshot is put back is on record from before the first part until the application is proven, so that nothing
starts on data of which a part is old and a part is new.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from core.common.dependencies import dependencies_of
from core.deployment.plan import refuse_paused, stop_waves
from core.storage.snapshots import check_rehearsal, writers_of
from flows.common.identifiers import new_snapshot_id
from flows.execution.execute import start_in_order
from flows.operation.recorder import OperationRecorder
from flows.storage.snapshot import SnapshotRun, take_snapshot
from models.compose import Application
from models.environments import Environment
from models.failures import HalfRestoredError, SnapshotError
from models.results import ServiceStart
from models.snapshots import DataSnapshot, SavedData, SnapshotReason, SnapshotState
from tasks.deployment.operations import record_changes
from tasks.deployment.services import inspect_application, proven_releases, stop_containers
from tasks.runtime.project import Project
from tasks.storage import restores
from tasks.storage.restores import begin_restore, being_restored, end_restore
from tasks.storage.snapshots import check_part, end_own_pauses, load_part, parts_declared, snapshots_of

log = logging.getLogger("roas")

SAFETY = "safety snapshot"
"""Step of a restore: the present data is saved; the detail is the snapshot's id."""
TOUCHED = "data touched"
"""Step of a restore: what writes is stopped, and from here on a part may be replaced."""
RESTORED = "restored"
"""Step of a restore: a part is put back. In place of a service it names the part."""
RETURNED = "returned"
"""Step of a failed restore: a part is again as the safety snapshot has it."""
OVER = "over half restored data"
"""Step of a restore: it begins with what another one left half done; the detail is that snapshot and operation."""
SETTLED = "data settled"
"""Step of a restore: its data is whole, in one direction or the other, and nothing is put back any more."""


@dataclass(slots=True)
class DataRestore:
    """One operation's restore of data, and its undoing; also where the operation is taken up again.

    It goes in one direction: an operation that had begun to undo itself puts back what its safety snapshot has.
    """

    application: Application = field(init=False)
    safety: DataSnapshot | None = None
    """What was there before, once it is saved; until then there is nothing to undo."""
    is_touched: bool = False
    """Whether a part may have been replaced."""
    _over: tuple[str, ...] | None = None
    """The snapshot and the operation of another restore, whose half restored data this one began with."""

    async def take_up(self, recorder: OperationRecorder, application: Application) -> None:
        """Find out how far an operation that is taken up again had come; nothing for one that only begins.

        Raises:
            PausedError: A person paused a service since.
            SnapshotError: The data is no longer as it left it, or its safety snapshot is gone; nothing was touched.
        """
        self.application = application
        if (over := recorder.step_detail(OVER)) is not None:
            self._over = tuple(json.loads(over))
        safety_id = next((step.detail for step in reversed(recorder.steps) if step.step == SAFETY), None)
        if safety_id is None:
            return
        self.is_touched = TOUCHED in recorder.done or _parts_done(recorder)
        await _refuse_paused(recorder.project, application)
        marked = await being_restored(recorder.name)
        is_ours = marked is not None and marked.restoring == recorder.deployment_id
        if SETTLED in recorder.done:
            if is_ours:
                await end_restore(recorder.name)
            return
        if not is_ours:
            if self.is_touched:
                raise SnapshotError(
                    f"{recorder.deployment_id} had put data back in part, and another operation has changed the data "
                    "since, so it cannot go on;",
                    advice=f"restore a whole snapshot: `roas snapshot list {recorder.name}` shows them.",
                )
            # Its data was not touched, and what runs has gone on writing: it is saved again.
            return
        safety = next(
            (snapshot for snapshot in await snapshots_of(recorder.name) if snapshot.snapshot_id == safety_id), None
        )
        if safety is None:
            raise SnapshotError(
                f"Snapshot {safety_id}, the data of before {recorder.deployment_id}, is not on record any more;",
                advice=f"restore a whole snapshot: `roas snapshot list {recorder.name}` shows them.",
            )
        project = recorder.project
        writers = _writers(project.environment, parts_declared(project.environment, safety), application)
        up = {
            container.service
            for container in await inspect_application(project)
            if container.up and not container.one_off
        }
        is_over_half = self._over is not None or safety.deployment_id != recorder.deployment_id
        if writers & up and not self.is_touched and not is_over_half:
            # No part is put back until all are stopped. What ran on has written since, so it is saved again.
            await end_restore(recorder.name)
            if not writers <= up:
                await start_again(recorder, application)
            return
        self.safety, self.is_touched = safety, True

    async def put_back(self, recorder: OperationRecorder, snapshot: DataSnapshot) -> None:
        """Read the snapshot to its end, save the present data, and put the snapshot's data in its place.

        Until `settle` no other operation of the environment starts anything.

        Raises:
            PausedError: A person paused a service; nothing is restored.
            SnapshotError: It cannot be read or its rehearsal failed, or the data cannot be saved: nothing is restored.
                Or a part cannot be put back.
        """
        if SETTLED in recorder.done:
            return
        project, application = recorder.project, self.application
        if self.safety is None:
            check_rehearsal(snapshot)
            await _refuse_paused(project, application)
            for part in snapshot.parts:
                await check_part(project.environment, part, snapshot.snapshot_id)
        half = await being_restored(recorder.name)
        if half is not None and half.restoring != recorder.deployment_id:
            await self._begin_over(recorder, half, snapshot)
        if self.safety is None:
            self.safety = await _save_for_safety(recorder, application, snapshot)
        recorder.record.safety_snapshot = self.safety.snapshot_id
        await self._put_parts_back(recorder, snapshot, RESTORED)

    async def _begin_over(self, recorder: OperationRecorder, half: DataSnapshot, snapshot: DataSnapshot) -> None:
        """Replace what another restore left half done; what was there before that one is there again if this one fails.

        Raises:
            SnapshotError: A part would stay half restored.
        """
        part_names = {part.name for part in snapshot.parts}
        if missing_parts := sorted({part.name for part in half.parts} - part_names):
            raise SnapshotError(
                f"Snapshot {snapshot.snapshot_id} lacks {', '.join(missing_parts)}, which {half.restoring} left "
                "half restored;",
                advice=f"restore one that has it: `roas snapshot list {recorder.name}` shows them.",
            )
        for candidate in await snapshots_of(recorder.name):
            is_of_half = candidate.deployment_id == half.restoring and candidate.reason is SnapshotReason.SAFETY
            if (
                is_of_half
                and candidate.state is SnapshotState.WHOLE
                and part_names <= {part.name for part in candidate.parts}
            ):
                self.safety, self.is_touched = candidate, True
                await recorder.step(SAFETY, detail=candidate.snapshot_id)
                return
        await recorder.step(OVER, detail=json.dumps([half.snapshot_id, half.restoring]))
        self._over = half.snapshot_id, half.restoring

    async def put_safety_back(self, recorder: OperationRecorder) -> str | None:
        """Put the data back as it was before; the id of that snapshot, None where nothing was stopped for it.

        `settle` is for when it serves.

        Raises:
            SnapshotError: A part could not be put back.
            HalfRestoredError: It is as it was, which another restore had left half done: nothing may start.
        """
        if self.safety is None:
            return None
        marked = await being_restored(recorder.name)
        if self.is_touched and marked is not None and marked.restoring == recorder.deployment_id:
            log.warning("putting the data back as it was before")
            await self._put_parts_back(recorder, self.safety, RETURNED)
        if self._over is not None:
            await begin_restore(recorder.name, *self._over)
            raise HalfRestoredError(
                f"the data is again as it was before, which {self._over[1]} had left half restored, so nothing starts;",
                advice=f"restore a whole snapshot: `roas snapshot list {recorder.name}` shows them.",
            )
        return self.safety.snapshot_id

    async def _put_parts_back(self, recorder: OperationRecorder, snapshot: DataSnapshot, step: str) -> None:
        """Stop what writes to the data, and put each part back that is not back yet."""
        project = recorder.project
        remaining_parts = [
            part for part in parts_declared(project.environment, snapshot) if (step, part.name) not in recorder.done
        ]
        if not remaining_parts:
            return
        await begin_restore(project.environment.name, snapshot.snapshot_id, recorder.deployment_id)
        await _stop_writers(recorder, self.application, remaining_parts)
        # On record first: where what writes is started meanwhile, this data is not taken for what was there before.
        self.is_touched = True
        await recorder.step(TOUCHED)
        for part in remaining_parts:
            await load_part(project, self.application, part, snapshot)
            await recorder.step(step, service=part.name)
            log.info("%s is as it was at %s UTC", part.name, f"{snapshot.begun_at:%Y-%m-%d %H:%M:%S}")

    async def settle(self, recorder: OperationRecorder) -> None:
        """Record that the data is whole, so that it stays as it is and other operations may start."""
        await recorder.step(SETTLED)
        await end_restore(recorder.name)
        self.safety = None


async def refuse_half_restored(recorder: OperationRecorder) -> None:
    """Raise where another operation began to put data back and did not finish.

    Raises:
        HalfRestoredError: The message names the snapshot, and how to go on.
    """
    if recorder.environment.data is not None:
        await restores.refuse_half_restored(recorder.name, recorder.deployment_id)


async def start_again(recorder: OperationRecorder, application: Application) -> tuple[ServiceStart, ...]:
    """Start an application on data that was put back; what was proven before the data changed is proven again.

    Raises:
        StartFailedError: A service did not come up.
    """
    inner = replace(recorder, steps=(), done=frozenset())
    return await start_in_order(inner, application)


async def _refuse_paused(project: Project, application: Application) -> None:
    """Refuse where a person paused a service: its data could not be reached, or what was restored not be proven.

    Raises:
        PausedError: It names the containers.
    """
    await end_own_pauses(project.environment)
    refuse_paused(await inspect_application(project), application.services, "a restore of its data")


async def _save_for_safety(
    recorder: OperationRecorder, application: Application, snapshot: DataSnapshot
) -> DataSnapshot:
    project, now = recorder.project, datetime.now(UTC)
    releases = await proven_releases(project.environment.name)
    begun = DataSnapshot(
        snapshot_id=new_snapshot_id(now),
        environment=project.environment.name,
        begun_at=now,
        reason=SnapshotReason.SAFETY,
        deployment_id=recorder.deployment_id,
        release_id=releases[0].release_id if releases else "",
    )
    data = parts_declared(project.environment, snapshot)
    safety = await take_snapshot(SnapshotRun(project, application, data, recorder.redactor, begun))
    # A step is recorded once, and a restore that was killed before it touched anything saves again.
    again = safety.snapshot_id if SAFETY in recorder.done else None
    await recorder.step(SAFETY, service=again, detail=safety.snapshot_id)
    return safety


def _parts_done(recorder: OperationRecorder) -> bool:
    return any(step.step in (RESTORED, RETURNED) for step in recorder.steps)


async def _stop_writers(recorder: OperationRecorder, application: Application, data: list[SavedData]) -> None:
    """Stop them in reverse order of the start, on record as stopped on request: no recovery starts them meanwhile."""
    project = recorder.project
    writers = _writers(project.environment, data, application)
    states = await inspect_application(project)

    async def stop(name: str) -> None:
        up = [container for container in states if container.service == name and container.up and not container.one_off]
        if not up:
            return
        await stop_containers(project, name, up, application.services[name].stop_grace_period)
        stopped = ServiceStart(
            service=name, previous_state=up[0].state, state="stopped", reason="its data is being restored", kept=False
        )
        await record_changes([recorder.change(stopped, {"on_request": True})])

    for wave in stop_waves(application, dependencies_of(project.environment, application)):
        await asyncio.gather(*(stop(name) for name in wave if name in writers))
    still_up = {
        container.service for container in await inspect_application(project) if container.up and not container.one_off
    }
    if running_writers := sorted(writers & still_up):
        raise SnapshotError(f"{', '.join(running_writers)} cannot be stopped, so data under it cannot be restored.")


def _writers(environment: Environment, data: list[SavedData], application: Application) -> set[str]:
    dependencies = dependencies_of(environment, application)
    return set().union(*(writers_of(part, application, dependencies) for part in data))
