"""What data there should be, noted beside the product: rows, snapshots, and what is half put back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from adapters.docker.client import SERVICE_LABEL
from core.storage.snapshots import file_name
from models.operations import Operation
from models.recovery import TicketState
from models.snapshots import DataSettings, DataSnapshot, FilesData, SnapshotState
from tasks.runtime.stores import open_stores
from tests.simulation import kernel
from tests.simulation.containers import Container
from tests.simulation.data_world import WRITERS, cannot_read, volume_of
from tests.simulation.ledger import Ledger
from tests.simulation.repository import Entry
from tests.simulation.sentences import Sentence
from tests.simulation.snapshot_programs import rows_in
from tests.simulation.world import NAME, Run, World

PUTS_DATA_BACK = ("restore", "rollback with data")


@dataclass(slots=True)
class _Saved:
    """A snapshot as the repository got it. `rows` are by volume."""

    taker: kernel.Process | None
    rows: dict[str, set[int]] = field(default_factory=dict)
    was_mixed: bool = False
    is_whole: bool = False
    begun_at: datetime | None = None
    manifest: dict[str, Any] = field(default_factory=dict)


class DataLedger:
    """The notes of data of one simulation."""

    def __init__(self, world: World, ledger: Ledger, settings: DataSettings) -> None:
        self._world, self._ledger, self._settings = world, ledger, settings
        self._volumes = {
            f"/{file_name(data.name)}": volume_of("web" if isinstance(data, FilesData) else data.service)
            for data in settings.save
        }
        self._expected: dict[str, dict[int, float]] = {volume: {} for volume in self._volumes.values()}
        self._saved: dict[str, _Saved] = {}
        self._forgotten: set[str] = set()
        self._before: dict[str, dict[int, float]] = {}
        """What was expected until a snapshot was put back that a person chose."""
        self.on_load: Callable[[], None] = lambda: None
        """Called once a part is put back."""
        self._current = ""
        """The snapshot of which a part was put back last, and the volumes that have it since."""
        self._put_back: set[str] = set()
        self._attempt = 0
        self._attempts: dict[int, int] = {}
        """Of each process the first one of its operation."""
        self._attempt_of: dict[str, int] = {}
        self._loads_of: set[int] = set()
        """The attempts that put a part back."""
        self._begun: set[int] = set()
        self._reported: set[tuple[str, int]] = set()
        """The images that serve on a newer schema, with that, that a person has learnt of."""
        self._touched_at = float("inf")
        """When the first part was put back of what is not settled yet."""
        programs = world.snapshot_programs
        programs.on_load, programs.on_loaded = self._begin_load, self._end_load
        world.repository.on_save, world.repository.on_forget = self._note_saved, self._check_forget
        on_change = world.engine.on_change

        def check_change(container: Container, change: str) -> None:
            on_change(container, change)
            self._check_change(container, change)

        world.engine.on_change = check_change

    # What is there

    @property
    def is_mixed(self) -> bool:
        """Whether a part of a snapshot is put back and another is not, or a part is half of it."""
        volumes = self._world.engine.volumes
        if any(volumes[volume].is_half for volume in self._expected if volume in volumes):
            return True
        return bool(self._current) and self._put_back != set(self._saved[self._current].rows)

    def _rows(self, volume: str) -> dict[int, float]:
        data = self._world.engine.volumes.get(volume)
        return {} if data is None else {row.number: row.written_at for row in data.rows}

    def _look(self) -> None:
        """Note what was written. While parts are put back, what is older came with them, and may go with them again."""
        since = 0.0 if math.isinf(self._touched_at) else self._touched_at
        for volume, expected in self._expected.items():
            expected |= {number: at for number, at in self._rows(volume).items() if at >= since}

    # What the product does

    def _begin_load(self, volume: str, snapshot_id: str) -> None:
        if volume not in self._expected:
            return
        self._look()
        saved = self._saved[snapshot_id]
        loader = self._world.snapshot_programs.loader
        attempt = self._attempts.get(loader.pid if loader is not None else 0, 0)
        if snapshot_id != self._current or (self._put_back == set(saved.rows) and attempt != self._attempt):
            self._current, self._put_back = snapshot_id, set()
        self._attempt = attempt
        self._loads_of.add(attempt)
        self._touched_at = min(self._touched_at, self._world.clock.seconds)
        self._put_back.discard(volume)
        self._world.note("data", f"{volume} becomes that of {snapshot_id}")

    def _end_load(self, volume: str, snapshot_id: str) -> None:
        if volume not in self._expected or snapshot_id != self._current:
            return
        self._put_back.add(volume)
        if self._put_back == set(self._saved[snapshot_id].rows):
            self._note_put_back(snapshot_id)
        # It may kill the process that puts back, and what follows is not done.
        self.on_load()

    def _note_put_back(self, snapshot_id: str) -> None:
        """All parts of a snapshot are put back."""
        saved = self._saved[snapshot_id]
        taken_by = None if saved.taker is None else self._attempts.get(saved.taker.pid)
        if taken_by is None or taken_by != self._attempt:
            # A person confirmed that what came since is lost, unless it is undone.
            self._before = dict(self._expected)
            self._expected |= {name: self._rows(name) for name in saved.rows}
        else:
            self._expected = {name: self._before.get(name, {}) | rows for name, rows in self._expected.items()}

    def _note_saved(self, entry: Entry) -> None:
        saved = self._saved.setdefault(entry.snapshot_id, _Saved(kernel.current.get()))
        if entry.is_manifest:
            saved.is_whole, saved.manifest = True, json.loads(entry.content)
            saved.begun_at = datetime.fromisoformat(saved.manifest["begun_at"])
        else:
            saved.rows[self._volumes[entry.path]] = rows_in(entry.content)
            saved.was_mixed |= self.is_mixed

    def _check_change(self, container: Container, change: str) -> None:
        is_ours = kernel.current.get() is not None and change in ("start", "restart")
        labels = container.labels
        is_writer = labels.get(SERVICE_LABEL) in WRITERS and labels.get("com.docker.compose.oneoff") == "False"
        if is_ours and is_writer and self.is_mixed:
            self._ledger.fail(
                Sentence.NOT_ON_HALF, f"{change} of {container.name}, and only {sorted(self._put_back)} is put back."
            )

    def _check_forget(self, entry: Entry) -> None:
        saved = self._saved[entry.snapshot_id]
        if entry.snapshot_id in self._forgotten:
            return
        self._forgotten.add(entry.snapshot_id)
        process = kernel.current.get()
        self._world.note("data", f"{entry.snapshot_id} is deleted")
        if not saved.is_whole:
            if saved.taker is not None and not saved.taker.is_dead and saved.taker is not process:
                self._ledger.fail(Sentence.SNAPSHOT_KEPT, f"{entry.snapshot_id} is deleted while it is taken.")
        elif why := self._why_kept(entry.snapshot_id, saved):
            self._ledger.fail(Sentence.SNAPSHOT_KEPT, f"{entry.snapshot_id} is deleted, though {why}.")

    def _why_kept(self, snapshot_id: str, saved: _Saved) -> str:
        stores, keep = open_stores(), self._settings.keep
        others = {
            other: details
            for other, details in self._saved.items()
            if details.is_whole and other not in self._forgotten and details.begun_at is not None
        }
        newer = {key: details for key, details in others.items() if details.begun_at > saved.begun_at}  # type: ignore[operator]
        if not others:
            return "it is the last one"
        if len(newer) < keep.last:
            return f"only {len(newer)} are newer, and {keep.last} are kept"
        days = {details.begun_at.date() for details in newer.values() if details.begun_at is not None}
        if saved.begun_at is not None and saved.begun_at.date() not in days and len(days) < keep.daily:
            return "it is the newest of its day"
        marked = stores.snapshots.find_restoring(NAME)
        if marked is not None and snapshot_id == marked.snapshot_id:
            return f"{marked.restoring} puts it back"
        if marked is not None and saved.manifest["deployment_id"] == marked.restoring:
            return f"it is what was there before {marked.restoring}, which is open"
        return self._why_of_release(saved, newer)

    def _why_of_release(self, saved: _Saved, newer: dict[str, _Saved]) -> str:
        release, reason = saved.manifest["release_id"], saved.manifest["reason"]
        if reason != "update" or any(
            details.manifest["release_id"] == release and details.manifest["reason"] == "update"
            for details in newer.values()
        ):
            return ""
        kept = {kept.release_id for kept in open_stores().releases.latest(NAME) if kept.proven}
        return f"release {release} is kept" if release in kept else ""

    # Operations

    def begin(self, run: Run, deployment_id: str | None) -> None:
        """An operation begins, or is taken up again."""
        self._look()
        self._attempts[run.process.pid] = self._attempt_of.get(deployment_id or "", run.process.pid)
        self._begun.add(run.process.pid)

    def end(self, kind: str, run: Run, recorded: list[Operation]) -> None:
        """An operation has ended, or was killed."""
        pid = run.process.pid
        record = next((row for row in recorded if row.record.runner is not None and row.record.runner.pid == pid), None)
        self._begun.discard(pid)
        if record is not None:
            self._attempt_of[record.deployment_id] = self._attempts[pid]
        if record is None or (run.result is None and run.error is None):
            return
        self._look()
        succeeded = run.error is None and bool(getattr(run.result, "success", False))
        if kind in PUTS_DATA_BACK and succeeded:
            self._check_put_back(kind, record)
        elif kind in PUTS_DATA_BACK and record.record.undone and not record.record.undo_failed:
            self._check_undone(kind, record, has_loaded=self._attempts[pid] in self._loads_of)
        self._check_rows(kind)

    def _check_put_back(self, kind: str, record: Operation) -> None:
        target = record.record.restore or record.record.data_of
        saved = self._saved.get(target)
        if saved is None or target != self._current or self.is_mixed:
            self._ledger.fail(
                Sentence.ONE_MOMENT,
                f"{kind} to {target} succeeded, and {sorted(self._put_back)} is of {self._current}.",
            )
            return
        if saved.was_mixed:
            self._ledger.fail(Sentence.ONE_MOMENT, f"{kind} to {target} succeeded, which was saved half put back.")
        for volume, rows in saved.rows.items():
            now = self._rows(volume)
            if lost := rows - set(now):
                self._ledger.fail(Sentence.ROWS_KEPT, f"{kind} to {target} lost {len(lost)} rows of {volume}.")
            # A person confirmed that what came since is lost.
            self._expected[volume] = now
        self._settle()

    def _settle(self) -> None:
        """What was put back stays, or is as before."""
        self._touched_at, self._before = float("inf"), {}

    def _check_undone(self, kind: str, record: Operation, *, has_loaded: bool) -> None:
        if self.is_mixed:
            self._ledger.fail(
                Sentence.ONE_MOMENT,
                f"{kind} was undone ({record.record.undone}), and only {sorted(self._put_back)} of "
                f"{self._current} is put back.",
            )
            return
        safety = record.record.safety_snapshot
        saved = self._saved.get(safety)
        if saved is not None and saved.was_mixed:
            self._ledger.fail(Sentence.ONE_MOMENT, f"{kind} was undone to data that were saved half put back.")
        for volume, expected in self._expected.items():
            expected |= self._before.get(volume, {}) if has_loaded and self._current != safety else {}
            now = self._rows(volume)
            # What was written on data of the snapshot goes with them.
            self._expected[volume] = {
                number: at for number, at in expected.items() if number in now or at < self._touched_at
            }
        self._settle()

    def _check_rows(self, what: str) -> None:
        if self.is_mixed or self._begun:
            return
        for volume, expected in self._expected.items():
            if lost := {number: at for number, at in expected.items() if number not in self._rows(volume)}:
                first = min(lost.values())
                self._ledger.fail(
                    Sentence.ROWS_KEPT, f"after {what} {volume} lacks {len(lost)} rows, the first of {first:.0f} s."
                )

    async def check_readable(self, actors: Any, what: str) -> None:
        """Whether a person learns where code serves on data that it cannot read: once, as long as that lasts."""
        blind = cannot_read(self._world)
        pairs = {(container.version.image_id, newest) for container, newest in blind}
        self._reported &= pairs
        if pairs == self._reported or self.is_mixed or self._ledger.is_busy:
            return
        recorded = await actors.look()
        tickets = await actors.ask(lambda: list(open_stores().tickets.find(environment=NAME)))
        since = min(container.created_at for container, _ in blind)
        later = [row.record for row in recorded if row.ended_at is not None and row.ended_at >= since]
        is_said = any(record.data or "data" in (record.undone or "") for record in later)
        if not is_said and not any(ticket.state is TicketState.OPEN for ticket in tickets):
            names = [f"{container.name} (schema {container.version.schema} of {newest})" for container, newest in blind]
            self._ledger.fail(Sentence.READABLE, f"After {what} {', '.join(names)} serves, and nothing says so.")
        self._reported = pairs

    async def check_calm(self, actors: Any) -> DataSnapshot | None:
        """Compare after a while without events; the snapshot that is half put back."""
        self._look()
        self._check_rows("calm")
        await self.check_readable(actors, "calm")
        snapshots = await actors.ask(lambda: open_stores().snapshots.list_for(NAME))
        for snapshot in snapshots:
            saved = self._saved.get(snapshot.snapshot_id)
            if snapshot.state is SnapshotState.WHOLE and snapshot.reason != "safety" and saved and saved.was_mixed:
                self._ledger.fail(Sentence.ONE_MOMENT, f"{snapshot.snapshot_id} counts, and was saved half put back.")
            lost_parts = {part.restic_id for part in snapshot.parts} - self._world.repository.entries.keys()
            if snapshot.state is SnapshotState.WHOLE and lost_parts:
                self._ledger.fail(Sentence.SNAPSHOT_KEPT, f"{snapshot.snapshot_id} counts, and has lost parts.")
        marked: DataSnapshot | None = await actors.ask(lambda: open_stores().snapshots.find_restoring(NAME))
        if self.is_mixed and marked is None:
            self._ledger.fail(
                Sentence.ONE_MOMENT, f"only {sorted(self._put_back)} of {self._current} is put back, without a record."
            )
        return marked
