"""Transactions over several stores: all or nothing, whenever the process is killed or the power fails.

SQLite commits each file by itself. So the first store also holds what a transaction does to the others, as an intent,
and its commit decides: from then on the transaction has happened, and where its writer dies the next process finishes
it. Each store holds the number of its last transaction, so nothing is done twice. The first store is synchronous=FULL;
an intent is deleted only after the other stores are synced.
"""

from __future__ import annotations

import base64
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json

from adapters.stores.database import SqliteDatabase
from adapters.stores.gate import Gate
from adapters.stores.repositories.repositories import Repositories
from adapters.stores.sql import tables_of
from adapters.stores.sqlite_file import driver_of
from adapters.stores.trouble import OurWords
from models.failures import StoreError

log = logging.getLogger("roas")

DECIDES = "deployment_logs"
# Plain words to the driver: said with every transaction, and said through SQLAlchemy they take longer than its rows.
_READ_VERSION = "SELECT seq FROM cross_store_version"
_SET_VERSION = "UPDATE cross_store_version SET seq = ?"
_NOTE_INTENT = "INSERT INTO cross_store_intents (seq, statements) VALUES (?, ?)"
_DROP_INTENTS = "DELETE FROM cross_store_intents WHERE seq < ?"
_FOLLOW = ("monitoring", "errors")

_NO_TRANSACTION = -1
_KEPT_INTENTS = 64
_READ_TRIES = 50

_Statement = tuple[str, Any]


class Together(Repositories):
    """The three stores inside one transaction: a change is made in all of them, or in none."""


class SqliteTransactions:
    """Begins, finishes and repairs transactions over several files."""

    def __init__(self, databases: Mapping[str, SqliteDatabase], gate: Gate) -> None:
        """Repair nothing yet: call `repair` with the gate held once the databases are open."""
        self._databases = databases
        self._gate = gate
        for database in databases.values():
            database.before_write = self.repair_if_left

    @contextmanager
    def write(self, deadline_seconds: float) -> Iterator[Together]:
        """A transaction over the three stores; use the stores only through the value it yields.

        Raises:
            StoreBusyError: Others were writing until the deadline.
            StoreError: A store failed, and nothing happened; or the transaction happened and a store is
                behind until the next write, which is logged and not raised.
        """
        with self._gate.hold(deadline_seconds, "A transaction over the three stores"):
            self.repair_if_left()
            with ExitStack() as undo:
                connections = {name: undo.enter_context(_begin(self._databases[name])) for name in (DECIDES, *_FOLLOW)}
                records: dict[str, list[_Statement]] = {name: [] for name in _FOLLOW}
                for name, record in records.items():
                    connections[name].info["record"] = record
                    undo.callback(connections[name].info.pop, "record", None)
                yield Together({name: Bound(name, connection) for name, connection in connections.items()})
                self._commit(connections, records)

    @contextmanager
    def read(self, deadline_seconds: float) -> Iterator[Together]:
        """The three stores at one moment: no transaction over several stores is seen in part.

        Raises:
            StoreError: A store cannot be read.
        """
        with ExitStack() as stack:
            for _ in range(_READ_TRIES):
                connections = {name: stack.enter_context(database.read()) for name, database in self._databases.items()}
                if len({_version(connection) for connection in connections.values()}) == 1:
                    break
                stack.close()
                time.sleep(0)
            else:
                # A writer that died may have left the stores apart for good: finish its work, then look.
                with self._gate.hold(deadline_seconds, "A read of the three stores"):
                    self.repair()
                    connections = {
                        name: stack.enter_context(database.read()) for name, database in self._databases.items()
                    }
                    for connection in connections.values():
                        _version(connection)
            yield Together({name: Bound(name, connection) for name, connection in connections.items()})

    def repair_if_left(self) -> None:
        """Finish what a dead writer left, where the gate tells of one. Call with the gate held.

        Raises:
            StoreError: A store still cannot be written.
        """
        # A file without a number is new: the one before was deleted.
        if self._gate.read_number() != 0:
            self.repair()

    def repair(self) -> None:
        """Bring every store to the last transaction that was decided. Call with the gate held.

        Raises:
            StoreError: A store cannot be read or written.
        """
        if self._gate.read_number() != 0:
            self._settle_last_commit()
        versions = {name: self._read_version(name) for name in self._databases}
        last = max(versions.values())
        for name in _FOLLOW:
            if versions[name] < versions[DECIDES]:
                self._redo(name, versions[name])
        for name in self._databases:
            if self._read_version(name) != last:
                # Its file is new or was restored alone: what it missed is not known any more.
                log.warning("store %s misses transactions up to %d; it goes on from there", name, last)
                self._set_version(name, last)
        self._gate.leave_number(0)

    def _settle_last_commit(self) -> None:
        """Let a commit that nobody sees yet never be seen.

        A writer that is killed between the last page of its commit in the log and the index of the log leaves one that
        counts only once the index is made anew: when every process has closed the store. What is written now takes its
        place.
        """
        with self._databases[DECIDES].write_unchecked() as connection:
            driver_of(connection).execute(_NOTE_INTENT, (_NO_TRANSACTION, None))
            driver_of(connection).execute("DELETE FROM cross_store_intents WHERE seq = ?", (_NO_TRANSACTION,))

    def start_new_file(self, name: str) -> None:
        """A store's file was made anew: it begins at the last transaction. Call with the gate held.

        Raises:
            StoreError: A store cannot be read or written.
        """
        self._set_version(name, max(self._read_version(other) for other in self._databases))

    def _commit(self, connections: Mapping[str, sa.Connection], records: Mapping[str, list[_Statement]]) -> None:
        for name in _FOLLOW:
            del connections[name].info["record"]
        with OurWords(f"Store {DECIDES}"):
            self._decide(connections, records)
        try:
            for name in _FOLLOW:
                driver_of(connections[name]).execute("COMMIT")
        except sqlite3.Error as error:
            log.warning("the transaction happened; one store follows with the next write: %s", error)
            return
        self._gate.leave_number(0)

    def _decide(self, connections: Mapping[str, sa.Connection], records: Mapping[str, list[_Statement]]) -> None:
        decider = driver_of(connections[DECIDES])
        if any(records.values()):
            seq = _version(connections[DECIDES]) + 1
            for connection in connections.values():
                driver_of(connection).execute(_SET_VERSION, (seq,))
            statements = {name: [[sql, _to_json(values)] for sql, values in records[name]] for name in _FOLLOW}
            decider.execute(_NOTE_INTENT, (seq, to_json(statements, inf_nan_mode="null").decode()))
            if seq % _KEPT_INTENTS == 0:
                self._sync_followers()
                decider.execute(_DROP_INTENTS, (seq,))
            # From here until the followers are done, the next holder of the gate must repair.
            self._gate.leave_number(seq)
        decider.execute("COMMIT")

    def _redo(self, name: str, version: int) -> None:
        intents = tables_of(DECIDES)["cross_store_intents"]
        with self._databases[DECIDES].read() as connection:
            pending = connection.execute(
                sa.select(intents).where(intents.c.seq > version).order_by(intents.c.seq)
            ).all()
        for intent in pending:
            with self._databases[name].write_unchecked() as connection:
                if _version(connection) >= intent.seq:
                    # Its writer is not dead, but holds a gate whose file was deleted.
                    continue
                for sql, json_values in intent.statements[name]:
                    _redo_statement(connection, name, sql, json_values)
                driver_of(connection).execute(_SET_VERSION, (intent.seq,))
        log.info("store %s: %d transactions of a dead writer finished", name, len(pending))

    def _sync_followers(self) -> None:
        for name in _FOLLOW:
            self._databases[name].sync()

    def _read_version(self, name: str) -> int:
        with self._databases[name].read() as connection:
            return _version(connection)

    def _set_version(self, name: str, seq: int) -> None:
        with self._databases[name].write_unchecked() as connection:
            driver_of(connection).execute(_SET_VERSION, (seq,))


class Bound:
    """A database whose every transaction is the one that is open. `enter` says before each use that it is this one."""

    def __init__(
        self, name: str, connection: sa.Connection, enter: Callable[[sa.Connection, str], None] = lambda *_: None
    ) -> None:
        self.name = name
        self._connection = connection
        self._enter = enter

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """The open transaction."""
        with OurWords(f"Store {self.name}"):
            self._enter(self._connection, self.name)
            yield self._connection

    def write(self, *, durable: bool = False) -> AbstractContextManager[sa.Connection]:
        """The open transaction, which is as durable as its commit."""
        del durable
        return self.read()


@contextmanager
def _begin(database: SqliteDatabase) -> Iterator[sa.Connection]:
    """A write transaction that the caller commits; undone if it is still open at the end."""
    with database.write_connection() as connection:
        transaction = connection.begin()
        try:
            yield connection
        finally:
            transaction.rollback()


def _version(connection: sa.Connection) -> int:
    return int(driver_of(connection).execute(_READ_VERSION).fetchone()[0])


def _redo_statement(connection: sa.Connection, name: str, sql: str, json_values: Any) -> None:
    values = _from_json(json_values)
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(sql, values)
    except sa.exc.IntegrityError as error:
        # After a power failure a row it refers to may be lost; the rest must not wait for it for ever.
        log.error("store %s: a statement could not be done again: %s", name, error.orig)
        connection.execute(
            sa.insert(tables_of(name)["dead_letters"]).values(
                buried_at=datetime.now(UTC),
                target="transaction",
                reason=str(error.orig),
                payload={"statement": sql, "values": json_values},
            )
        )


def _to_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise StoreError(f"A value of type {type(value).__name__} cannot be part of a transaction;", advice="")


def _from_json(values: Any) -> Any:
    many = bool(values) and isinstance(values[0], list)
    return [_row(row) for row in values] if many else _row(values)


def _row(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(base64.b64decode(value["base64"]) if isinstance(value, dict) else value for value in values)
