"""A store in one SQLite file: connections, transactions, opening, damage."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from errno import EISDIR
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.host.private_files import make_private_folder, open_private
from adapters.stores.gate import Gate
from adapters.stores.migrate import upgrade
from adapters.stores.trouble import OurWords
from models.failures import StoreBusyError, StoreCorruptError, StoreError, StoreFullError, StoreTooNewError

log = logging.getLogger("roas")

FIRST_SAFE_SQLITE = (3, 51, 3)
"""Before it, two connections that checkpoint and write at one instant can lose part of the WAL."""

_WAL_LIMIT_BYTES = 64 * 1024 * 1024
_CHECKPOINT_PAGES = 2000
INCREMENTAL = 2
_NUMBERS = (sa.Integer, sa.Numeric)
ASIDE = ".corrupt-"


class SqliteFile:
    """The file of a store, in WAL mode.

    Raises:
        StoreBusyError: Others were writing until the deadline.
        StoreError: The store cannot be read or written; the message says why.
    """

    def __init__(self, name: str, path: Path, gate: Gate, *, decides: bool, deadline_seconds: float) -> None:
        """Open nothing yet; `open` does.

        The store that `decides` whether a transaction over several happened must not forget: it is synchronous=FULL.
        What a writer of another does is written down in its connection's `info["record"]`, where there is one.
        """
        self.name = name
        self.recorded = not decides
        self.path = path
        self._label = f"Store {name} ({path})"
        self.gate = gate
        self.deadline_seconds = deadline_seconds
        self.set_aside: list[Path] = []
        """Damaged files this process found and moved out of the way."""
        self.before_write: Callable[[], None] = lambda: None
        """Called by every writer with the gate held."""
        self._synchronous = "FULL" if decides else "NORMAL"
        self._suspected = False
        self._opening = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._new_engines()
        _databases.add(self)

    def open(self) -> None:
        """Make or upgrade the file; a damaged one is set aside and a new one made. Call with the gate held.

        Raises:
            StoreTooNewError: A later version of this program made it.
            StoreError: It cannot be opened or upgraded.
        """
        try:
            self._open()
        except (StoreTooNewError, StoreBusyError, StoreFullError):
            raise
        except StoreError as error:
            # Bytes that were flipped in its schema may read as any other mistake.
            if not isinstance(error, StoreCorruptError) and not self._is_damaged():
                raise
            self._put_aside(str(error))
            self._open()
        self._suspected = False

    def close(self) -> None:
        """Close every pooled connection."""
        self._readers.dispose()
        self._writers.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment and changes nothing."""
        self._same_file()
        with self._watch_damage(), self._readers.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """A transaction under the gate, committed if the body ends well and undone if it raises.

        A `durable` one is synced with the gate held: a transaction over several stores that follows it is done
        again after a power failure, and must find what it follows.
        """
        with self.gate.hold(self.deadline_seconds, self._label):
            self.before_write()
            with self.write_unchecked() as connection:
                yield connection
            if durable:
                self.sync()

    @contextmanager
    def write_unchecked(self) -> Iterator[sa.Connection]:
        """As `write`, for a caller that holds the gate and has repaired the stores."""
        with self.write_connection() as connection, connection.begin():
            yield connection

    @contextmanager
    def write_connection(self) -> Iterator[sa.Connection]:
        """A connection to begin a write transaction on, for a caller that holds the gate."""
        self._make_sure()
        with self._watch_damage(), self._writers.connect() as connection:
            yield connection

    def sync(self) -> None:
        """Sync committed transactions to disk.

        Raises:
            StoreError: The disk does not take it.
        """
        try:
            file = os.open(self.wal_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # The last connection that closed has moved it into the file, and synced that.
            return
        try:
            os.fdatasync(file)
        except OSError as error:
            raise StoreError(
                f"{self._label} cannot be synced: {error.strerror};", advice="is its disk sound, and is there room?"
            ) from error
        finally:
            os.close(file)

    @property
    def wal_path(self) -> Path:
        """The file's write-ahead log."""
        return self.path.with_name(self.path.name + "-wal")

    def _watch_damage(self) -> AbstractContextManager[None]:
        """In our words; and after a sign of damage the next writer, or the next opening, looks closely."""
        return OurWords(self._label, self._suspect)

    def _suspect(self) -> None:
        self._suspected = True
        # In a read-only folder this process alone remembers it.
        with suppress(OSError):
            self._suspect_path.touch()

    def _new_engines(self) -> None:
        self._readers = self._engine("BEGIN DEFERRED", size=5, overflow=15, query_only=True)
        # One connection is enough: the gate lets one writer through.
        self._writers = self._engine("BEGIN IMMEDIATE", size=1, overflow=4, query_only=False)
        if self.recorded:
            sa.event.listen(self._writers, "before_cursor_execute", _record)

    def _engine(self, begin: str, *, size: int, overflow: int, query_only: bool) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+pysqlite://",
            creator=lambda: self._connect(query_only=query_only),
            poolclass=sa.QueuePool,
            pool_size=size,
            max_overflow=overflow,
            pool_timeout=self.deadline_seconds,
        )
        sa.event.listen(engine, "begin", lambda connection: driver_of(connection).execute(begin) and None)
        return engine

    def _connect(self, *, query_only: bool) -> sqlite3.Connection:
        # mode=rw: a file that vanished must be an error, not a new and empty store.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self.deadline_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        for setting in (
            f"synchronous={self._synchronous}",
            "foreign_keys=ON",
            # A mapped page that another process truncates kills this one, and widens the WAL-reset fault.
            "mmap_size=0",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            f"journal_size_limit={_WAL_LIMIT_BYTES}",
            "secure_delete=OFF",
            "cache_size=-16384",
            "temp_store=MEMORY",
            f"query_only={'ON' if query_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {setting}")
        return connection

    def _open(self) -> None:
        with OurWords(self._label):
            self._create()
            with self._writers.connect() as connection:
                if self._suspect_path.exists():
                    self._judge(connection)
                with connection.begin():
                    # The first look at its schema finds a file that is no database, or was cut short.
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
                    upgrade(connection, self.name)
            self._file = _identity(self.path)

    def _create(self) -> None:
        try:
            make_private_folder(self.path.parent)
            # SQLite gives -wal and -shm the mode of their database. One that is there must not be opened here: the
            # close would end the locks of all connections of this process (fcntl(2)), and the next process that closes
            # the file would take their write-ahead log away.
            if self.path.is_dir():
                raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
            with suppress(FileExistsError):
                os.close(open_private(self.path, os.O_WRONLY | os.O_EXCL))
        except OSError as error:
            raise StoreError(
                f"{self._label} cannot be made: {error.strerror};",
                advice="may this user write to the data folder, and is there room on its disk?",
            ) from error
        with self._writers.connect() as connection:
            driver = driver_of(connection)
            if driver.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                # Only before the first table; without effect on a file that another program made.
                driver.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
                driver.execute("PRAGMA journal_mode=WAL").fetchone()

    def _is_damaged(self) -> bool:
        try:
            with OurWords(self._label), self._writers.connect() as connection:
                self._judge(connection)
        except StoreError as error:
            return isinstance(error, StoreCorruptError)
        return False

    def _judge(self, connection: sa.Connection) -> None:
        """Check the file's structure, and that every text, moment and list in it can be read."""
        # Mapping the tables takes time, which no sound store should cost.
        from adapters.stores.sql import tables_of

        driver = driver_of(connection)
        faults = driver.execute("PRAGMA quick_check(5)").fetchall()
        if faults != [("ok",)]:
            text = "; ".join(str(fault[0]) for fault in faults)
            raise StoreCorruptError(f"{self._label} is damaged: {text};", advice="")
        for target in tables_of(self.name).values():
            there = {row[1] for row in driver.execute(f'PRAGMA table_info("{target.name}")')}
            columns = [
                column for column in target.columns if column.name in there and not isinstance(column.type, _NUMBERS)
            ]
            if columns:
                for _ in connection.execute(sa.select(*columns), execution_options={"yield_per": 1000}):
                    pass
        connection.rollback()
        self._suspect_path.unlink(missing_ok=True)

    @property
    def _suspect_path(self) -> Path:
        return self.path.with_name(self.path.name + ".suspect")

    def _put_aside(self, reason: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.close()
        aside = self.path.with_name(f"{self.path.name}{ASIDE}{stamp}")
        try:
            for suffix in ("-wal", "-shm", ""):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            self._suspect_path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self._label} is damaged and cannot be set aside: {error.strerror};",
                advice="may this user write to the data folder?",
            ) from error
        self.set_aside.append(aside)
        log.error("store %s was damaged and is kept as %s; a new one begins: %s", self.name, aside, reason)

    def _make_sure(self) -> None:
        """The file is there and, as far as anybody knows, sound."""
        self._same_file()
        if self._suspected:
            self.open()

    def _same_file(self) -> None:
        try:
            now = _identity(self.path)
        except OSError as error:
            raise StoreError(
                f"{self._label} cannot be inspected: {error.strerror};", advice="may this user enter the data folder?"
            ) from error
        if now == self._file:
            return
        if now is None:
            raise StoreError(
                f"{self._label} was deleted while it was open;",
                advice="restore the last backup with `roas restore`, or start again with an empty store.",
            )
        with self._opening:
            if now != self._file:
                log.warning("store %s was replaced by another file; opening that one", self.name)
                self.close()
                self._file = now

    def forget_after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone, and open own ones when needed."""
        _inherited.append((self._readers, self._writers))
        self._opening = threading.Lock()
        self._new_engines()


def known_fault() -> str:
    """What is wrong with this version of SQLite; empty for a version without a known fault."""
    if sqlite3.sqlite_version_info >= FIRST_SAFE_SQLITE:
        return ""
    safe = ".".join(map(str, FIRST_SAFE_SQLITE))
    return f"it can lose a write when two programs write to a store at the same instant; {safe} does not"


def _record(
    connection: sa.Connection, cursor: object, statement: str, parameters: Any, context: object, many: bool
) -> None:
    record = connection.info.get("record")
    if record is not None and statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
        record.append((statement, parameters))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """The driver's own connection behind one of SQLAlchemy's."""
    driver = connection.connection.dbapi_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"{driver!r} is no SQLite connection")
    return driver


_databases: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_inherited: list[object] = []
"""Connections of the parent: a child that closed them could undo the parent's locks and WAL."""


def _forget_databases() -> None:
    for database in _databases:
        database.forget_after_fork()


os.register_at_fork(after_in_child=_forget_databases)
