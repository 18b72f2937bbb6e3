"""The stores: how long rows are kept, results of lifecycle steps, backups, archives, and how a store is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """Ages and sizes beyond which records leave the stores. What failed outlives what went well.

    - `monitoring`, `errors`, `deployments`, `failed_deployments`: ages of rows; an error's counts from its resolution.
    - `hours`, `days`: ages of the hourly and daily sums of samples.
    - `releases`: how many of an environment stay in any case.
    - `store_bytes`: a larger store loses its oldest rows early, successes first, none younger than `keep_always`.
    - `runs`, `failed_runs`: ages of Prefect's own records of runs.
    - `step_time`: bounds one step of one run; the rest is for the next run.
    - `chunk_rows`: how many rows leave in one transaction, while writers wait.
    """

    monitoring: timedelta = timedelta(days=90)
    errors: timedelta = timedelta(days=30)
    deployments: timedelta = timedelta(days=180)
    failed_deployments: timedelta = timedelta(days=360)
    hours: timedelta = timedelta(days=400)
    days: timedelta = timedelta(days=1830)
    runs: timedelta = timedelta(days=30)
    failed_runs: timedelta = timedelta(days=90)
    releases: int = 20
    keep_always: timedelta = timedelta(days=7)
    store_bytes: int = 2048 * MIB
    free_bytes: int = 64 * MIB
    step_time: timedelta = timedelta(minutes=5)
    chunk_rows: int = 20_000
    vacuum_share: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleStep:
    """What one step did, or with `dry_run` would do: rows by table, files written, bytes of the store.

    `about_bytes` and `about_files` are what a dry run estimates to leave the store, and archives to be written.
    `complete` is False where the step ran out of its time and the next run goes on from there.
    """

    name: str
    dry_run: bool
    rows: dict[str, int] = field(default_factory=dict)
    archives: tuple[str, ...] = ()
    bytes_before: int = 0
    bytes_after: int = 0
    about_bytes: int = 0
    about_files: int = 0
    complete: bool = True
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        counted = ", ".join(f"{count:,} {table}" for table, count in self.rows.items() if count)
        text = f"{self.name}: {'would take' if self.dry_run else 'took'} {counted}"
        if not counted:
            text = f"{self.name}: {'' if self.notes or self.bytes_after < self.bytes_before else 'nothing to do'}"
        if self.about_bytes:
            text += f", about {self.about_bytes / MIB:.1f} MiB"
        if files := len(self.archives) or self.about_files:
            text += f", into {files} {'archive' if files == 1 else 'archives'}"
        if self.bytes_after < self.bytes_before:
            freed = (self.bytes_before - self.bytes_after) / MIB
            text += f", {freed:.1f} MiB {'to give back' if self.dry_run else 'freed'}"
        if not self.complete:
            text += ", the rest next time"
        return "; ".join((text, *self.notes)).replace(": ; ", ": ").replace(": , ", ": ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A copy of the three stores at one moment; `files` has each file's size in bytes."""

    folder: Path
    made_at: datetime
    files: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """A file of rows that left a store. `path` is below the data folder, `size` in bytes.

    `first` and `last` are the moments its samples lie between, None for other rows. `there` is False where
    the file is gone.
    """

    store: str
    table: str
    path: Path
    rows: int
    size: int
    sha256: str
    archived_at: datetime
    first: datetime | None = None
    last: datetime | None = None
    there: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFigures:
    """Figures of one store that are cheap to read: bytes by part (`database`, `wal`), time of its oldest row."""

    store: str
    bytes: dict[str, int]
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Rows outside a store: bytes that wait in journals, and how many rows it refused."""

    waiting_bytes: int
    dead_letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """How one store is, and where. Sizes are in bytes; `full_in` is None where it does not grow.

    `faults` are of the store itself; `remarks` tell what a person may want to look at, such as what it refers
    to in another store and is not there.
    """

    store: str
    place: str
    file_bytes: int
    used_bytes: int
    wal_bytes: int
    rows: dict[str, int]
    oldest: dict[str, datetime]
    growth_bytes_per_day: float
    full_in: timedelta | None
    dead_letters: int
    longest_wait_seconds: float
    budget_bytes: int = 0
    faults: tuple[str, ...] = field(default=())
    remarks: tuple[str, ...] = field(default=())
