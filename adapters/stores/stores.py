"""The three stores together: opened, upgraded and closed as one, in files or in PostgreSQL."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from adapters.host.private_files import make_private_folder
from adapters.shipped_version import shipped_version
from adapters.stores.data_folder import FolderAccess, narrow_access
from adapters.stores.database import Database, SqliteDatabase
from adapters.stores.gate import Gate, Waits, open_lock_file
from adapters.stores.migrate import STORES
from adapters.stores.repositories.repositories import Repositories
from adapters.stores.transactions import DECIDES, SqliteTransactions, Together
from models.failures import BadInputError, StoreBusyError, StoreError
from models.settings import Settings

if TYPE_CHECKING:
    from adapters.stores.batch import BatchWriter
    from adapters.stores.postgresql import PostgresqlTransactions

log = logging.getLogger("roas")

DAMAGED = ".damaged"
"""Suffix of a file with rows that is kept for the user because a part of it cannot be read."""

DEADLINE_SECONDS = 30.0
"""How long a writer waits for its turn before it gives up with StoreBusyError."""


class Stores(Repositories):
    """deployment_logs, monitoring and errors, safe for many threads, processes and, in PostgreSQL, hosts."""

    databases: Mapping[str, Database]

    def __init__(
        self,
        databases: Mapping[str, Database],
        transactions: SqliteTransactions | PostgresqlTransactions,
        waits: Waits,
        *,
        folder: Path,
        deadline_seconds: float,
        label: str = "files",
    ) -> None:
        """Join databases; `Stores.open` makes and opens them. `folder` has archives, and what waits under `label`."""
        super().__init__(databases)
        self.folder = folder
        self.rows_folder = folder / "journal" / label
        """Where rows for these stores wait: another database, or files, have another folder."""
        self.waits = waits
        self.access = FolderAccess()
        """Modes and owners found in the data folder when it was opened."""
        self.is_restricted = False
        """Whether this is an enrolled host at stores of its control plane: it writes only what is its own."""
        self.have_files_beside = False
        """Whether the data folder also has stores in files, which were in use before PostgreSQL."""
        self._transactions = transactions
        self._deadline_seconds = deadline_seconds
        self._in_use: int | None = None
        self._writer: BatchWriter | None = None
        self._beginning = threading.Lock()

    @classmethod
    def open(cls, settings: Settings, *, deadline_seconds: float = DEADLINE_SECONDS) -> Stores:
        """Open the stores, made or upgraded where needed. A damaged file is set aside and a new one made.

        They are files in the data folder, or three schemas of the PostgreSQL database that settings name.

        Raises:
            BadInputError: The URL of the stores cannot be used.
            StoreUnreachableError: The server of that URL does not answer, or does not let this user in.
            StoreTooNewError: A later version of this program made a store.
            StoreBusyError: Others held the stores until the deadline.
            StoreError: A store cannot be opened; the message says why.
        """
        access = _make_folder(settings)
        mark = mark_in_use(settings.data_dir)
        try:
            join = cls._open_files if settings.stores_url is None else cls._open_postgresql
            stores = join(settings, deadline_seconds)
        except BaseException:
            os.close(mark)
            raise
        stores._in_use = mark
        stores._renew_patterns()
        stores.access = access
        return stores

    def _renew_patterns(self) -> None:
        """Write the shipped patterns into a store that has none of this version of them; all hosts share them."""
        if self.is_restricted:
            return
        version = shipped_version()
        # Asked without the table's class: mapping it takes each command that reads another store a tenth of a second.
        there = sa.table("error_patterns", sa.column("shipped_version"))
        query = sa.select(sa.literal(1)).select_from(there).where(there.c.shipped_version == version).limit(1)
        with self.databases["errors"].read() as connection:
            if connection.scalar(query) is not None:
                return
        from adapters.pattern_files import shipped_patterns

        try:
            self.patterns.renew(shipped_patterns(), version)
        except StoreError as failure:
            # The patterns of before serve until the next opening.
            log.warning("the shipped patterns could not be renewed: %s", failure)

    @classmethod
    def _open_files(cls, settings: Settings, deadline_seconds: float) -> Stores:
        waits = Waits(settings.data_dir / "waits")
        gate = Gate(settings.data_dir / "gate.lock", waits)
        files = _files(settings, gate, deadline_seconds)
        used_before = gate.path.exists()
        transactions = SqliteTransactions(files, gate)
        with gate.hold(deadline_seconds, "Opening the stores"):
            # Not earlier: another process or thread may have been making them until now.
            missing = _missing_files(files) if used_before else []
            for file in files.values():
                file.open()
            for name, file in files.items():
                if file.set_aside:
                    transactions.start_new_file(name)
            transactions.repair()
        stores = cls(files, transactions, waits, folder=settings.data_dir, deadline_seconds=deadline_seconds)
        stores._tell_a_person(missing)
        return stores

    @classmethod
    def _open_postgresql(cls, settings: Settings, deadline_seconds: float) -> Stores:
        # Its driver takes a tenth of a second to load, which no command without it should wait for.
        from adapters.stores.postgresql import PostgresqlDatabase, PostgresqlServer, PostgresqlTransactions

        server = PostgresqlServer(settings, deadline_seconds=deadline_seconds)
        server.open()
        schemas = {name: PostgresqlDatabase(name, server) for name in STORES}
        transactions = PostgresqlTransactions(server)
        stores = cls(
            schemas,
            transactions,
            server.waits,
            folder=settings.data_dir,
            deadline_seconds=deadline_seconds,
            label=server.label_of_rows,
        )
        stores.is_restricted = server.is_restricted
        stores.have_files_beside = settings.store_path("monitoring").exists()
        return stores

    @property
    def writer(self) -> BatchWriter:
        """The batch writer of this process, for what comes often: begun at the first use, ended by `close`."""
        with self._beginning:
            if self._writer is None:
                # It imports this module.
                writer: BatchWriter = import_module("adapters.stores.batch").BatchWriter(self)
                self._writer = writer
            return self._writer

    def together(self) -> AbstractContextManager[Together]:
        """The three stores in one transaction: all the body does through it happens, or nothing.

        Raises:
            StoreBusyError: Others were writing until the deadline.
            StoreError: A store failed, and nothing happened.
        """
        return self._transactions.write(self._deadline_seconds)

    def read_one_moment(self) -> AbstractContextManager[Together]:
        """The three stores to read as they were at one moment: no transaction over several is seen in part.

        Raises:
            StoreError: A store cannot be read.
        """
        return self._transactions.read(self._deadline_seconds)

    def kept_aside(self) -> dict[str, list[Path]]:
        """Damaged files by store, set aside by this or another process, for a user to inspect."""
        rows = [path for name in ("journal", "spool") for path in (self.folder / name).rglob(f"monitoring-*{DAMAGED}")]
        return {
            name: [*database.kept_aside(), *(sorted(rows) if name == "monitoring" else ())]
            for name, database in self.databases.items()
        }

    def _tell_a_person(self, missing: Sequence[Path]) -> None:
        """Open a ticket for each damaged file that has none yet, and for each store that was missing."""
        from core.storage.incidents import report_damage, report_loss

        now = datetime.now(UTC)
        reported = [report_loss(file, now) for file in missing]
        reported += [report_damage(file, now) for files in self.kept_aside().values() for file in files]
        try:
            for error, ticket in reported:
                if not self.errors.knows(error.error_id):
                    self.errors.record(error)
                    self.tickets.open(ticket)
        except StoreError as failure:
            log.warning("no ticket could be opened for an incident of the stores: %s", failure)

    def close(self) -> None:
        """Write what waits, and close every connection.

        Raises:
            StoreError: What waits could not be written now; it waits for the next process.
        """
        try:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        finally:
            self._close()

    def _close(self) -> None:
        for database in self.databases.values():
            database.close()
        if self._in_use is not None:
            os.close(self._in_use)
            self._in_use = None

    def __enter__(self) -> Stores:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _files(settings: Settings, gate: Gate, deadline_seconds: float) -> dict[str, SqliteDatabase]:
    return {
        name: SqliteDatabase(
            name,
            settings.store_path(name),
            gate,
            decides=name == DECIDES,
            deadline_seconds=deadline_seconds,
        )
        for name in STORES
    }


def _missing_files(files: Mapping[str, SqliteDatabase]) -> list[Path]:
    """Files that are gone from among others."""
    there = [database for database in files.values() if database.path.exists()]
    if not there:
        return []
    paths = [database.path for database in files.values() if database not in there]
    for path in paths:
        log.error("store %s was missing and begins empty; `roas restore` brings back a backup", path)
    return paths


def mark_in_use(folder: Path, *, alone: bool = False) -> int:
    """Say that the stores of a folder are in use, as long as the file returned is open.

    Raises:
        StoreBusyError: Others use them, and this one must be alone.
        StoreError: This user may not write to the folder.
    """
    file = open_lock_file(folder / "in_use.lock")
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise StoreBusyError(
            f"The stores in {folder} are {'in use' if alone else 'being restored'};",
            advice="stop every process of the system first." if alone else "wait until it is done.",
        ) from error
    return file


def _make_folder(settings: Settings) -> FolderAccess:
    try:
        make_private_folder(settings.data_dir)
    except OSError as error:
        kind = BadInputError if error.errno in _NO_FOLDER else StoreError
        raise kind(
            f"Data folder {settings.data_dir} cannot be made: {error.strerror};",
            advice="set ROAS_DATA_DIR to a folder this user may write to.",
        ) from error
    access = narrow_access(settings.data_dir)
    for words in (access.what_was_narrowed, *access.faults):
        if words:
            log.warning("%s", words)
    return access


_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""What says that a path can never be a folder; all else may be otherwise in a moment."""
