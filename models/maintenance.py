"""Upkeep: what a backup holds, what an archive holds, and how the stores are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path


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
    """Rows outside a store: bytes that wait in its spools, and how many rows it refused."""

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

    @property
    def whole(self) -> bool:
        """True where nothing is wrong."""
        return not self.faults
