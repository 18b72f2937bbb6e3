"""One run of a lifecycle step: its time and budget, the rows it archives and deletes, and what belongs to them."""

# ruff: noqa: S608 - the statements are made of names and times of ours, never of what a person typed

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.stores.archiver import Archived, Archiver
from adapters.stores.audit import audit_archived
from adapters.stores.database import Database
from adapters.stores.gate import Gate
from adapters.stores.sql import tables_of, upsert
from adapters.stores.stores import Stores
from core.storage.retention import bytes_over_budget
from models.failures import StoreFullError
from models.storage import MIB, LifecycleStep, RetentionPolicy
from models.tables.columns import JsonText, UtcDateTime

log = logging.getLogger("roas")
_TIMEOUT_SECONDS = 1.0
CHUNKS_TO_SETTLE = 4
_SAY_EVERY_SECONDS = 10.0
_ROW_BYTES = 24
_ROWS_TO_WEIGH = 500
_ROWS_WITH_CHILDREN = 1000


@dataclass(slots=True)
class LifecycleRun:
    """One step while it runs: its time, what it took, and the process that writes its archives."""

    name: str
    stores: Stores
    store: str
    policy: RetentionPolicy
    dry_run: bool
    rows: Counter[str] = field(default_factory=Counter)
    archives: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about_bytes: int = 0
    about_files: int = 0
    complete: bool = True
    database: Database = field(init=False)
    archiver: Archiver = field(init=False, default_factory=Archiver)
    undo: ExitStack = field(init=False, default_factory=ExitStack)
    deadline: float = field(init=False)
    said_at: float = field(init=False, default_factory=time.monotonic)
    bytes_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.database = self.stores.databases[self.store]
        self.deadline = time.monotonic() + self.policy.step_time.total_seconds()
        self.bytes_before = self.database.use().used_bytes

    def __enter__(self) -> LifecycleRun:
        if self.dry_run:
            return self
        folder = self.stores.folder
        free = shutil.disk_usage(folder).free
        if free < self.policy.free_bytes:
            raise StoreFullError(
                f"Only {free} bytes are free in {folder}, {self.name} wants {self.policy.free_bytes};",
                advice="free room on its disk; what is old leaves at the next run.",
            )
        # Two at once would archive the same rows, each into a file of its own.
        self.undo.enter_context(Gate(folder / "lifecycle.lock").hold(_TIMEOUT_SECONDS, self.name.capitalize()))
        self.undo.callback(self.archiver.close)
        for part in folder.glob(f"archive/{self.store}/*/*.part"):
            # Of an archiver that was killed: nothing else writes here while the lock is held.
            part.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    def has_time(self) -> bool:
        """Whether the step may begin another chunk."""
        now = time.monotonic()
        if now - self.said_at > _SAY_EVERY_SECONDS:
            self.said_at = now
            log.info("%s: %s so far", self.name, ", ".join(f"{rows:,} {name}" for name, rows in self.rows.items()))
        self.complete = now < self.deadline
        return self.complete

    def excess_bytes(self) -> int:
        """How many bytes too many the store holds now."""
        return max(0, bytes_over_budget(self.database.use(), self.policy) - (self.about_bytes if self.dry_run else 0))

    def foresee(self, rows: int, bytes_each: float, rows_a_file: int | None, source: str) -> None:
        """Count what a dry run would take; None for `rows_a_file` where nothing of it is archived."""
        self.rows[source] += rows
        self.about_bytes += round(rows * bytes_each)
        self.about_files += 0 if rows_a_file is None else -(-rows // rows_a_file)

    def note_archive(
        self, connection: sa.Connection, source: str, first: datetime, last: datetime, archived: Archived, **more: Any
    ) -> None:
        """Record an archive in the store that its rows leave."""
        values = {
            "file": archive_name(archived.file),
            "source": source,
            "first": first.isoformat(),
            "last": last.isoformat(),
            "rows": archived.rows,
            "bytes": archived.size,
            "sha256": archived.sha256,
            "archived_at": datetime.now(UTC),
            **more,
        }
        upsert(connection, tables_of(self.store)["archives"], values, keys=["file"])

    def result(self) -> LifecycleStep:
        """The result of this run."""
        if self.complete and (beyond := self.excess_bytes()):
            self.notes.append(
                f"{self.store} still holds {beyond / MIB:.1f} MiB more than its budget of "
                f"{self.policy.store_bytes / MIB:.0f} MiB: the rest is young, or not resolved"
            )
        return LifecycleStep(
            name=self.name,
            dry_run=self.dry_run,
            rows=dict(self.rows),
            archives=tuple(self.archives),
            bytes_before=self.bytes_before,
            bytes_after=self.database.use().used_bytes,
            about_bytes=self.about_bytes,
            about_files=self.about_files,
            complete=self.complete,
            notes=tuple(self.notes),
        )

    def file(self, source: str, first: str, last: str) -> Path:
        """Where an archive goes: never in the place of one that is noted.

        What begins with the same row and is not noted is an attempt that a crash ended: it goes.
        """
        folder = self.stores.folder / "archive" / self.store / source
        with self.database.read() as connection:
            noted = set(
                connection.scalars(sa.text("SELECT file FROM archives WHERE source = :source"), {"source": source})
            )
        for attempt in folder.glob(f"{first}-*.parquet"):
            if archive_name(attempt) not in noted:
                attempt.unlink()
        names = (f"{first}-{last}{'' if place == 1 else f'-{place}'}.parquet" for place in count(1))
        return next(folder / name for name in names if archive_name(folder / name) not in noted)


class RowsChanged(Exception):  # noqa: N818 - not a failure
    """Roll the transaction back: a row was added or removed since the archive was written."""


def archive_name(archive: Path) -> str:
    """An archive's name in the manifest."""
    return "/".join(archive.parts[-3:])


def sql_time(moment: datetime) -> str:
    """Format a time as an SQL literal."""
    return f"'{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows of one table that leave together with others; `where` is SQL."""

    table: str
    where: str


Belongings = Callable[[str], list[Partition]]


def no_belongings(_: str) -> list[Partition]:
    """No other rows belong to these."""
    return []


def archive_rows(
    run: LifecycleRun,
    name: str,
    where: str,
    belongings: Belongings = no_belongings,
    rows_at_once: int = _ROWS_WITH_CHILDREN,
    *,
    only_over_budget: bool = False,
) -> None:
    """Archive and delete rows of a table and what belongs to them, in chunks, until none is left or time is up."""
    if run.dry_run:
        # What would leave for its age is counted above; for the budget only as far as that is not enough.
        if not only_over_budget or run.excess_bytes():
            _foresee_rows(run, [*belongings(where), Partition(name, where)], rows_at_once, only_over_budget)
        return
    while run.has_time() and not (only_over_budget and not run.excess_bytes()):
        chunk = f"SELECT id FROM {name} WHERE {where} ORDER BY id LIMIT {rows_at_once}"
        with run.database.read() as connection:
            first, last = connection.exec_driver_sql(f"SELECT min(id), max(id) FROM ({chunk}) AS chunk").one()
        if last is None:
            return
        owners = f"id <= {last} AND {where}"
        parts = [*belongings(owners), Partition(name, owners)]
        archived = [_archive_part(run, part, f"{name}-{first}", str(last)) for part in parts]
        if not _delete_parts(run, parts, archived):
            log.info("%s changed while it was archived; once more", name)


def _foresee_rows(run: LifecycleRun, parts: Sequence[Partition], rows_a_file: int, only_over_budget: bool) -> None:
    for part in parts:
        target = tables_of(run.store)[part.table]
        width = " + ".join(f'coalesce(length(CAST("{column.name}" AS TEXT)), 0)' for column in target.columns)
        some = f"SELECT {width} AS width FROM {target.name} WHERE {part.where} LIMIT {_ROWS_TO_WEIGH}"
        with run.database.read() as connection:
            rows = connection.exec_driver_sql(f"SELECT count(*) FROM {target.name} WHERE {part.where}").scalar_one()
            each = connection.exec_driver_sql(f"SELECT avg(width) FROM ({some}) AS weighed").scalar_one()
        each = float(each or 0) + _ROW_BYTES
        if only_over_budget:
            rows = min(rows, -(-run.excess_bytes() // round(each)))
        run.foresee(rows, each, rows_a_file, target.name)


def _archive_part(run: LifecycleRun, part: Partition, first: str, last: str) -> Archived:
    target = tables_of(run.store)[part.table]
    listed = ", ".join(f'"{column.name}"' for column in target.columns)
    return run.archiver.write(
        run.database.archive_source,
        f"SELECT {listed} FROM {target.name} WHERE {part.where} ORDER BY id",
        run.file(target.name, first, last),
        kinds={column.name: _kind(column) for column in target.columns},
    )


def _delete_parts(run: LifecycleRun, parts: Sequence[Partition], archived: Sequence[Archived]) -> bool:
    """Delete exactly the archived rows, or none: False where a row came or went since."""
    try:
        with run.database.write() as connection:
            for part, file in zip(parts, archived, strict=True):
                audit_archived(connection, part.table, part.where, archive_name(file.file), file.sha256)
                deleted_rows = connection.exec_driver_sql(f"DELETE FROM {part.table} WHERE {part.where}").rowcount
                if deleted_rows != file.rows:
                    raise RowsChanged
                if deleted_rows:
                    now = datetime.now(UTC)
                    run.note_archive(connection, part.table, now, now, file)
    except RowsChanged:
        return False
    for part, file in zip(parts, archived, strict=True):
        if file.rows:
            run.archives.append(str(file.file))
            run.rows[part.table] += file.rows
        else:
            file.file.unlink()
    return True


def _kind(column: sa.Column[object]) -> str:
    kind = column.type
    if isinstance(kind, UtcDateTime):
        return "moment"
    if isinstance(kind, sa.Boolean):
        return "truth"
    if isinstance(kind, sa.Integer):
        return "whole"
    if isinstance(kind, sa.Float):
        return "real"
    if isinstance(kind, sa.LargeBinary):
        return "bytes"
    if isinstance(kind, sa.Text | JsonText):
        return "text"
    raise TypeError(f"no archive type for {column}")
