"""Put a snapshot's data back: stop what writes, save the present data, put each part back, start, and prove.

What writes is stopped before the present data is saved, so that nothing is lost where the restore is undone.

Which snapshot is put back is on record from before the first part until the application is proven, so that nothing
starts on data of which a part is old and a part is new.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from core.deployment.plan import refuse_paused
from core.storage.snapshots import check_rehearsal
from flows.execution.execute import start_in_order
from flows.operation.recorder import OperationRecorder
from flows.storage.snapshot import SnapshotRun, take_snapshot
from flows.storage.writers import (
    clients,
    containers_of_services,
    part_of_services,
    runs_of,
    services_up,
    stop_services,
    writers,
)
from models.compose import Application
from models.failures import HalfRestoredError, SnapshotError, StartFailedError
from models.results import ServiceStart
from models.snapshots import DataSnapshot, SnapshotReason, SnapshotState
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.services import inspect_application, proven_releases
from tasks.runtime.identifiers import new_snapshot_id
from tasks.runtime.project import Project
from tasks.storage.restores import begin_restore, being_restored, end_restore
from tasks.storage.snapshots import check_part, end_own_pauses, load_part, parts_declared, snapshots_of

log = logging.getLogger("roas")

STOPPING = "about to stop"
"""Step of a restore: this service runs, and is stopped from here on because it writes to the data."""
SAFETY = "safety snapshot"
"""Step of a restore: the present data is saved; the detail is the snapshot's id."""
TOUCHED = "data touched"
"""Step of a restore: a server that is down for it is stopped too, and from here on a part may be replaced."""
RESTORED = "restored"
"""Step of a restore: a part is put back. In place of a service it names the part."""
RETURNED = "returned"
"""Step of a failed restore: a part is again as the safety snapshot has it."""
OVER = "over half restored data"
"""Step of a restore: it begins with what another one left half done; the detail is that snapshot and operation."""
UNTOUCHED = "no data was touched"
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
    stopped: frozenset[str] = frozenset()
    """The services that write to the data and ran, which it has begun to stop."""
    _quiet: dict[str, datetime | None] | None = None
    """What wrote until the safety snapshot was taken: each container's id, and when it had been started last."""
    _over: tuple[str, ...] | None = None
    """The snapshot and the operation of another restore, whose half restored data this one began with."""

    @property
    def may_have_stopped(self) -> bool:
        """Whether services may be down for it, and its way back is open: no other operation has changed the data."""
        return self.safety is not None or (bool(self.stopped) and not self.is_touched)

    async def take_up(self, recorder: OperationRecorder, application: Application) -> None:
        """Find out how far an operation that is taken up again had come; nothing for one that only begins.

        Raises:
            PausedError: A person paused a service since.
            SnapshotError: The data is no longer as it left it, or its safety snapshot is gone; nothing was touched.
        """
        self.application = application
        if (over := recorder.step_detail(OVER)) is not None:
            self._over = tuple(json.loads(over))
        self.stopped = frozenset(step.service for step in recorder.steps if step.step == STOPPING and step.service)
        safety_id = next((step.detail for step in reversed(recorder.steps) if step.step == SAFETY), None)
        if safety_id is None:
            return
        self.is_touched = TOUCHED in recorder.done or _parts_done(recorder)
        await _refuse_paused(recorder.project, application)
        marked = await being_restored(recorder.name)
        is_ours = marked is not None and marked.restoring == recorder.deployment_id
        if SETTLED in recorder.done:
            self.stopped = frozenset()
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
            # Its data was not touched, and what was started since has written: it is saved again.
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
        may_write = writers(project, parts_declared(project.environment, safety), application)
        states = await containers_of_services(project)
        up = {container.service for container in states if container.up}
        has_written = any(
            container.up or (container.started_at is not None and container.started_at > safety.begun_at)
            for container in states
            if container.service in may_write
        )
        is_over_half = self._over is not None or safety.deployment_id != recorder.deployment_id
        if has_written and not self.is_touched and not is_over_half:
            # No part is put back until all are stopped. What was started has written since, so it is saved again.
            await end_restore(recorder.name)
            if not may_write <= up:
                await start_again(recorder, application)
            return
        self.safety, self.is_touched = safety, True

    async def put_back(self, recorder: OperationRecorder, snapshot: DataSnapshot) -> None:
        """Read the snapshot to its end, save the present data, and put the snapshot's data in its place.

        What writes is stopped before the present data is saved. Until `settle` no other operation of the environment
        starts anything.

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
            self.safety = await self._save_for_safety(recorder, snapshot)
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

    async def put_safety_back(self, recorder: OperationRecorder) -> None:
        """Put the data back as it was before; `start_as_before` is for when it is back.

        Raises:
            SnapshotError: A part could not be put back.
            HalfRestoredError: It is half restored by another restore, still or again: nothing may start.
        """
        if self.safety is None:
            return
        marked = await being_restored(recorder.name)
        if marked is not None and marked.restoring != recorder.deployment_id:
            # Only where the mark is ours has this operation replaced a part.
            raise HalfRestoredError(
                f"no data was touched, which {marked.restoring} had left half restored, so nothing starts;",
                advice=f"restore a whole snapshot: `roas snapshot list {recorder.name}` shows them.",
            )
        if self.is_touched and marked is not None:
            log.warning("putting the data back as it was before")
            await self._put_parts_back(recorder, self.safety, RETURNED)
        if self._over is not None:
            await begin_restore(recorder.name, *self._over)
            raise HalfRestoredError(
                f"the data is again as it was before, which {self._over[1]} had left half restored, so nothing starts;",
                advice=f"restore a whole snapshot: `roas snapshot list {recorder.name}` shows them.",
            )

    async def _put_parts_back(self, recorder: OperationRecorder, snapshot: DataSnapshot, step: str) -> None:
        """Stop what writes to the data, and put each part back that is not back yet."""
        project = recorder.project
        remaining_parts = [
            part for part in parts_declared(project.environment, snapshot) if (step, part.name) not in recorder.done
        ]
        if not remaining_parts:
            return
        await begin_restore(project.environment.name, snapshot.snapshot_id, recorder.deployment_id)
        await stop_services(recorder, self.application, writers(project, remaining_parts, self.application))
        if not self.is_touched:
            await self._check_quiet(recorder, snapshot)
        # On record first: where what writes is started meanwhile, this data is not taken for what was there before.
        self.is_touched = True
        await recorder.step(TOUCHED)
        for part in remaining_parts:
            await load_part(project, self.application, part, snapshot)
            await recorder.step(step, service=part.name)
            log.info("%s is as it was at %s UTC", part.name, f"{snapshot.begun_at:%Y-%m-%d %H:%M:%S}")

    async def start_as_before(self, recorder: OperationRecorder) -> tuple[tuple[ServiceStart, ...], str]:
        """Start on the data of before; how each service came up, and in words how it went back.

        Where no data was touched it starts what it had stopped, and nothing that somebody has stopped since. Where a
        person had stopped the environment before, only what ran all the same runs again.

        Raises:
            StartFailedError: A service did not come up.
        """
        words, application, project = UNTOUCHED, self.application, recorder.project
        if self.safety is not None and self.is_touched:
            words = f"the data is again that of before (snapshot {self.safety.snapshot_id})"
            if not await is_meant_to_run(recorder.name, but=recorder.deployment_id):
                application = part_of_services(application, self.stopped | await services_up(project))
        elif self._over is not None or not await is_meant_to_run(recorder.name):
            # Half restored data of another restore stays marked so.
            await self._settle_own(recorder)
            return (), f"{words}, and what was stopped stays so"
        else:
            application = part_of_services(application, self.stopped | await services_up(project))
        try:
            starts = await start_again(recorder, application)
        except StartFailedError:
            # All of it is of one moment. What does not run on it may need another version, which may start.
            await self._settle_own(recorder)
            raise
        await self._settle_own(recorder)
        return starts, f"{words}: {len(starts)} services proven"

    async def _settle_own(self, recorder: OperationRecorder) -> None:
        if self.safety is not None:
            await self.settle(recorder)

    async def _save_for_safety(self, recorder: OperationRecorder, snapshot: DataSnapshot) -> DataSnapshot:
        """Save the data that a snapshot is to replace, with what writes to it stopped.

        It is saved once before that, while all runs: then it can be saved, and the second time little is new.
        """
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

        async def stop_clients() -> None:
            await self._stop_clients(recorder, snapshot)

        data = parts_declared(project.environment, snapshot)
        safety = await take_snapshot(
            SnapshotRun(project, self.application, data, recorder.redactor, begun, stop_clients)
        )
        # A step is recorded once, and a restore that was killed before it touched anything saves again.
        again = safety.snapshot_id if SAFETY in recorder.done else None
        await recorder.step(SAFETY, service=again, detail=safety.snapshot_id)
        return safety

    async def _stop_clients(self, recorder: OperationRecorder, snapshot: DataSnapshot) -> None:
        """Stop what writes to the data, and leave the servers that save it themselves."""
        project = recorder.project
        data = parts_declared(project.environment, snapshot)
        may_write = writers(project, data, self.application)
        for name in sorted((may_write & await services_up(project)) - self.stopped):
            self.stopped |= {name}
            await recorder.step(STOPPING, service=name)
        await stop_services(recorder, self.application, clients(project, data, self.application))
        self._quiet = await self._runs_of(project, snapshot)

    async def _check_quiet(self, recorder: OperationRecorder, snapshot: DataSnapshot) -> None:
        """Refuse to replace data to which a service that was started by hand has written since it was saved.

        Raises:
            SnapshotError: One was; no data was touched.
        """
        if self._quiet is None or await self._runs_of(recorder.project, snapshot) == self._quiet:
            return
        if self._over is None:
            await end_restore(recorder.name)
            self.safety = None
        raise SnapshotError(
            "A service that writes to the data was started while that was saved, so not all of it is saved;",
            advice="start nothing by hand meanwhile, and restore again. No data was touched.",
        )

    async def _runs_of(self, project: Project, snapshot: DataSnapshot) -> dict[str, datetime | None]:
        data = parts_declared(project.environment, snapshot)
        return await runs_of(project, clients(project, data, self.application))

    async def settle(self, recorder: OperationRecorder) -> None:
        """Record that the data is whole, so that it stays as it is and other operations may start."""
        await recorder.step(SETTLED)
        await end_restore(recorder.name)
        self.safety, self.stopped = None, frozenset()


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


def _parts_done(recorder: OperationRecorder) -> bool:
    return any(step.step in (RESTORED, RETURNED) for step in recorder.steps)
