"""What the batch writer says to a database: where a spool is, and rows as they lie in it.

Rows come as a list of lists, or as the JSON of one. SQLite is given their values; PostgreSQL takes the JSON apart.
"""

# ruff: noqa: S608 - the statements are made of names of tables and columns

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

from adapters.stores.database import Database, SqliteDatabase
from adapters.stores.trouble import said

log = logging.getLogger("roas")


GivenValues = list[tuple[Any, ...]]
"""Rows as JSON knows them, so that it makes no difference whether they were read back or not."""

GivenRows = bytes | GivenValues
"""Rows, or their JSON: a list of lists."""


class RowRefusedError(Exception):
    """A row of a batch breaks a rule. Which one it is, `insert_by_halves` finds out in another transaction."""


class Rows(Protocol):
    """Speaks to the transaction that a batch goes in with."""

    def position(self, spool: str) -> int:
        """How many bytes of a spool are in the store."""

    def note_position(self, spool: str, position: int) -> None:
        """So many are in it now."""

    def forget_position(self, spool: str) -> None:
        """The spool is no more."""

    def insert(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        """Insert rows; where the key is the row's own, the last one given is kept.

        Raises:
            RowRefusedError: One breaks a rule. The transaction must be undone.
        """

    def insert_by_halves(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        """As `insert`; a row that breaks a rule is found and kept in dead_letters with its reason.

        It costs a savepoint, which makes every page that changes be copied.
        """


@contextmanager
def rows_of(database: Database) -> Iterator[Rows]:
    """A transaction that a batch goes in with, committed if the body ends well and undone if it raises.

    Raises:
        StoreBusyError: Others were writing until the deadline.
        StoreError: The store cannot be written; the message says why.
    """
    if isinstance(database, SqliteDatabase):
        with database.write_driver() as driver:
            yield _SqliteRows(driver)
    else:
        with database.write() as connection:
            yield _PostgresqlRows(connection)


class _SqliteRows:
    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def position(self, spool: str) -> int:
        found = self._driver.execute("SELECT position FROM spool_positions WHERE spool = ?", (spool,)).fetchone()
        return found[0] if found else 0

    def note_position(self, spool: str, position: int) -> None:
        self._driver.execute(_NOTE_POSITION, (spool, position))

    def forget_position(self, spool: str) -> None:
        self._driver.execute("DELETE FROM spool_positions WHERE spool = ?", (spool,))

    def insert(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        try:
            self._driver.executemany(_sqlite_insert(target, tuple(columns)), _values(rows))
        except (sqlite3.Error, OverflowError) as error:
            if _befalls_any_row(error):
                raise
            raise RowRefusedError from error

    def insert_by_halves(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        self._by_halves(target, columns, _values(rows))

    def _by_halves(self, target: sa.Table, columns: Sequence[str], rows: GivenValues) -> None:
        self._driver.execute("SAVEPOINT batch")
        try:
            self._driver.executemany(_sqlite_insert(target, tuple(columns)), rows)
        except (sqlite3.Error, OverflowError) as error:
            if _befalls_any_row(error):
                raise
            self._driver.execute("ROLLBACK TO batch")
            self._driver.execute("RELEASE batch")
            if len(rows) == 1:
                _say_buried(target, error)
                self._driver.execute(
                    "INSERT INTO dead_letters (buried_at, target, reason, payload) VALUES (?, ?, ?, ?)",
                    _letter(target, columns, rows[0], error),
                )
                return
            half = len(rows) // 2
            self._by_halves(target, columns, rows[:half])
            self._by_halves(target, columns, rows[half:])
            return
        self._driver.execute("RELEASE batch")


class _PostgresqlRows:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def position(self, spool: str) -> int:
        found = self._run("SELECT position FROM spool_positions WHERE spool = %s", (spool,)).scalar()
        return int(found or 0)

    def note_position(self, spool: str, position: int) -> None:
        self._run(_NOTE_POSITION.replace("?", "%s"), (spool, position))

    def forget_position(self, spool: str) -> None:
        self._run("DELETE FROM spool_positions WHERE spool = %s", (spool,))

    def insert(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        try:
            self._run(_postgresql_insert(target, tuple(columns)), (_json(rows),))
        except sa.exc.DBAPIError as error:
            if not _is_of_the_row(error):
                raise
            raise RowRefusedError from error

    def insert_by_halves(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        try:
            with self._connection.begin_nested():
                self._run(_postgresql_insert(target, tuple(columns)), (_json(rows),))
        except sa.exc.DBAPIError as error:
            if not _is_of_the_row(error):
                raise
            parsed = _values(rows)
            if len(parsed) == 1:
                _say_buried(target, error.orig)
                self._run(
                    "INSERT INTO dead_letters (buried_at, target, reason, payload) VALUES (%s, %s, %s, %s)",
                    _letter(target, columns, parsed[0], error.orig),
                )
                return
            half = len(parsed) // 2
            self.insert_by_halves(target, columns, parsed[:half])
            self.insert_by_halves(target, columns, parsed[half:])

    def _run(self, statement: str, values: tuple[Any, ...]) -> sa.CursorResult[Any]:
        return self._connection.exec_driver_sql(statement, values)


def _values(rows: GivenRows) -> GivenValues:
    found: GivenValues = from_json(rows) if isinstance(rows, bytes) else rows
    return found


def _json(rows: GivenRows) -> str:
    return (rows if isinstance(rows, bytes) else to_json(rows)).decode()


_NOTE_POSITION = (
    "INSERT INTO spool_positions (spool, position) VALUES (?, ?) "
    "ON CONFLICT (spool) DO UPDATE SET position = excluded.position"
)
_THE_ROW = ("22", "23")
"""Classes of SQLSTATE: data exceptions and integrity constraint violations."""

_NOT_THE_ROW = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_CANTOPEN",
    "SQLITE_NOMEM",
    "SQLITE_INTERRUPT",
    "SQLITE_PROTOCOL",
)
"""What would befall any other row just as well; everything else is this row's own fault."""


def _befalls_any_row(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(_NOT_THE_ROW)


def _is_of_the_row(error: sa.exc.DBAPIError) -> bool:
    return (getattr(error.orig, "sqlstate", None) or "").startswith(_THE_ROW)


def _say_buried(target: sa.Table, error: object) -> None:
    log.error("batch writer: a row for %s was refused and is kept in dead_letters: %s", target.name, said(error))


def _letter(target: sa.Table, columns: Sequence[str], row: Sequence[Any], error: object) -> tuple[str, str, str, str]:
    payload = dict(zip(columns, row, strict=False))
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return at, target.name, said(error), to_json(payload).decode()


@lru_cache(maxsize=256)
def _sqlite_insert(target: sa.Table, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {_into(target, columns)} VALUES ({', '.join('?' * len(columns))}) {_or(target, columns)}"


@lru_cache(maxsize=256)
def _postgresql_insert(target: sa.Table, columns: tuple[str, ...]) -> str:
    dialect = postgresql_dialect()  # type: ignore[no-untyped-call]
    values = ", ".join(
        f'CAST(r ->> {place} AS {target.columns[name].type.compile(dialect)}) AS "{name}"'
        for place, name in enumerate(columns)
    )
    rows = f"SELECT n, {values} FROM json_array_elements(%s::json) WITH ORDINALITY AS given (r, n)"
    listed = ", ".join(f'"{name}"' for name in columns)
    keys = _own_keys(target)
    # One statement may not change a row twice: of those with one key only the last goes in.
    last = f"SELECT DISTINCT ON ({', '.join(keys)}) * FROM ({rows}) AS r ORDER BY {', '.join(keys)}, n DESC"
    source = f"SELECT {listed} FROM ({last if keys else f'{rows} ORDER BY n'}) AS one"
    return f"INSERT INTO {_into(target, columns)} {source} {_or(target, columns)}"


def _into(target: sa.Table, columns: Sequence[str]) -> str:
    listed = ", ".join(f'"{column}"' for column in columns)
    return f'"{target.name}" ({listed})'


def _or(target: sa.Table, columns: Sequence[str]) -> str:
    keys = _own_keys(target)
    if not keys:
        return ""
    changed = ", ".join(f'"{one}" = excluded."{one}"' for one in columns if one not in keys)
    return f"ON CONFLICT ({', '.join(keys)}) DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"


def _own_keys(target: sa.Table) -> list[str]:
    """The columns of a key that a row brings with it; none where the store gives it a number."""
    keys = [column.name for column in target.primary_key]
    return [] if keys == ["id"] else keys
