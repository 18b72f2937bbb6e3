"""One store as a database: what every store offers, and the one in a SQLite file."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import sqlalchemy as sa

from adapters.stores.sqlite_file import ASIDE, INCREMENTAL, SqliteFile, driver_of
from adapters.stores.trouble import OurWords
from core.storage.retention import FileUse, pages_to_give_back
from models.storage import RetentionPolicy

if TYPE_CHECKING:
    from adapters.stores.postgresql import PostgresqlDatabase

Database: TypeAlias = "SqliteDatabase | PostgresqlDatabase"
"""A store's database with its maintenance. Every method raises StoreError where the store fails."""

_PAGES_AT_ONCE = 256


class Transacting(Protocol):
    """What a store's words need of its database: a transaction to read in, and one to write in."""

    name: str

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that sees one moment and changes nothing."""

    def write(self, *, durable: bool = False) -> AbstractContextManager[sa.Connection]:
        """A transaction that is committed if its body ends well, and undone if it raises.

        A `durable` one survives a power failure before the next writer begins.
        """


class SqliteDatabase(SqliteFile):
    """A store in one SQLite file, with its maintenance.

    Raises:
        StoreBusyError: Others were writing until the deadline.
        StoreFullError: The disk has no room for what a method writes.
        StoreError: The store cannot be read or written.
    """

    def kept_aside(self) -> list[Path]:
        """Damaged files set aside by this or another process."""
        files = self.path.parent.glob(f"{self.path.name}{ASIDE}*")
        return sorted(file for file in files if not file.name.endswith(("-wal", "-shm")))

    @property
    def place(self) -> str:
        """Its file."""
        return str(self.path)

    @property
    def archive_source(self) -> str:
        """Its file."""
        return str(self.path.absolute())

    def settle(self) -> None:
        """Empty the WAL into the file; without it the log of a busy store grows by all that was deleted."""
        with self.gate.hold(self.deadline_seconds, f"Emptying the log of {self._label}"):
            self.checkpoint()

    def analyse(self) -> None:
        """Look at a sample of each index, so that queries choose well, and empty the WAL into the file."""
        with self.gate.hold(self.deadline_seconds, f"Optimising {self._label}"):
            with OurWords(self._label), self._writers.connect() as connection:
                driver_of(connection).executescript("PRAGMA analysis_limit=400; ANALYZE")
            self.checkpoint()

    def faults(self) -> list[str]:
        """At most ten faults in the file: damage, and rows whose owner is missing."""
        with self.read() as connection:
            lines = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(10)")]
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(10)
        faults = [line for line in lines if line != "ok"]
        if faults:
            self._suspect()
        return (faults + [f"row {row[1]} of {row[0]} refers to a missing {row[2]}" for row in orphans])[:10]

    def use(self) -> FileUse:
        """How much of the file is used."""
        with self.read() as connection:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return FileUse(pages=pages, free=free, page_bytes=size)

    def sizes(self) -> dict[str, int]:
        """Bytes of the file and of its WAL; the last connection of all that closes takes the WAL with it."""
        return {"database": _size(self.path), "wal": _size(self.wal_path)}

    def give_back(self, policy: RetentionPolicy, deadline: float, *, dry_run: bool) -> tuple[int, str | None]:
        """Give free pages back to the disk, where there are enough of them to pay."""
        use = self.use()
        pages = pages_to_give_back(use, policy)
        if pages == 0:
            return use.file_bytes, None
        if dry_run:
            return use.file_bytes - pages * use.page_bytes, None
        remark = None
        if self.gives_back_in_steps():
            while pages > 0 and time.monotonic() < deadline:
                with self.gate.hold(self.deadline_seconds, f"Giving room of {self._label} back"):
                    self._cut_off(min(pages, _PAGES_AT_ONCE))
                pages -= _PAGES_AT_ONCE
        else:
            remark = self._rewrite_if_there_is_room(use.used_bytes)
        self.settle()
        return self.use().file_bytes, remark

    def gives_back_in_steps(self) -> bool:
        """Whether free pages can be cut off a few at a time; else only by writing the whole file anew."""
        with self.read() as connection:
            return bool(connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() == INCREMENTAL)

    def _cut_off(self, pages: int) -> None:
        with OurWords(self._label), self._writers.connect() as connection:
            # Not `execute`: it steps this statement once, which frees a single page.
            driver_of(connection).executescript(f"PRAGMA incremental_vacuum({pages})")

    def _rewrite_if_there_is_room(self, used_bytes: int) -> str:
        free = shutil.disk_usage(self.path.parent).free
        if free < 2 * used_bytes:
            return f"{self.name} was not rewritten: that wants {2 * used_bytes} free bytes, the disk has {free}"
        with (
            self.gate.hold(self.deadline_seconds, f"Rewriting {self._label}"),
            OurWords(self._label),
            self._writers.connect() as connection,
        ):
            driver_of(connection).executescript(f"PRAGMA auto_vacuum={INCREMENTAL}; VACUUM")
        return f"{self.name} was rewritten once, so that it can give back in steps from now on"

    def checkpoint(self) -> None:
        """Move the WAL into the file and empty it, as far as readers allow now. Call with the gate held."""
        with OurWords(self._label), self._writers.connect() as connection:
            driver = driver_of(connection)
            # Not waiting for a long reader: every writer would wait with it.
            driver.execute("PRAGMA busy_timeout=0").fetchall()
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={round(self.deadline_seconds * 1000)}").fetchall()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
