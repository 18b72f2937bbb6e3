"""What the batch writer says to a database: where a spool is, and rows as they lie in it.

Rows come as a list of lists, or as the JSON of one. SQLite is given their values; PostgreSQL takes the JSON apart.
"""

# ruff: noqa: S608 - the statements are made of names of tables and columns

from __future__ import annotations

import logging
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json, to_json

from adapters.stores.database import Database, SqliteDatabase
from adapters.stores.series import bury, series_ids_by
from adapters.stores.trouble import is_of_another_host, said

log = logging.getLogger("roas")


GivenValues = list[tuple[Any, ...]]
"""Rows as JSON knows them, so that it makes no difference whether they were read back or not."""

NAMES_OF_SERIES = ("environment", "service", "metric")
"""What a waiting sample names its series by: an id means another series in another store."""

GivenRows = bytes | GivenValues
"""Rows, or their JSON: a list of lists."""


class RowRefusedError(Exception):
    """A row of a batch breaks a rule. Which one it is, `insert_by_halves` finds out in another transaction."""


class BatchRows(ABC):
    """Speaks to the transaction that a batch goes in with."""

    _mark: str
    _run: Callable[..., Any]

    def position(self, spool: str) -> int:
        """How many bytes of a spool are in the store."""
        row = self._run(f"SELECT position FROM spool_positions WHERE spool = {self._mark}", (spool,)).fetchone()
        return int(row[0]) if row else 0

    def note_position(self, spool: str, position: int) -> None:
        """So many are in it now."""
        self._run(
            f"INSERT INTO spool_positions (spool, position) VALUES ({self._mark}, {self._mark}) "
            "ON CONFLICT (spool) DO UPDATE SET position = excluded.position",
            (spool, position),
        )

    def forget_position(self, spool: str) -> None:
        """The spool is no more."""
        self._run(f"DELETE FROM spool_positions WHERE spool = {self._mark}", (spool,))

    def insert(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        """Insert rows; where the key is the row's own, the last one given is kept.

        Raises:
            RowRefusedError: One breaks a rule. The transaction must be undone.
        """
        try:
            if target.name == "metric_samples" and "series" not in columns:
                columns, rows = self._with_series(columns, rows)
            self._insert(target, tuple(columns), rows)
        except (sqlite3.Error, OverflowError, sa.exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if not self._is_of_the_row(cause):
                raise
            raise RowRefusedError(said(cause)) from error

    def insert_by_halves(self, target: sa.Table, columns: Sequence[str], rows: GivenRows) -> None:
        """As `insert`; a row that breaks a rule is found and kept in dead_letters with its reason.

        It costs a savepoint, which makes every page that changes be copied.
        """
        self._run("SAVEPOINT batch")
        try:
            self.insert(target, columns, rows)
        except RowRefusedError as refused:
            self._run("ROLLBACK TO batch")
            self._run("RELEASE batch")
            parsed = _values(rows)
            if len(parsed) > 1:
                half = len(parsed) // 2
                self.insert_by_halves(target, columns, parsed[:half])
                self.insert_by_halves(target, columns, parsed[half:])
            else:
                self.refuse(target, columns, parsed, str(refused))
        else:
            self._run("RELEASE batch")

    def refuse(self, target: sa.Table, columns: Sequence[str], rows: GivenRows, reason: str) -> None:
        """Keep rows in dead_letters."""
        for row in _values(rows):
            self._bury(target, dict(zip(columns, row, strict=False)), reason)

    def _bury(self, target: sa.Table, row: dict[str, Any], reason: str) -> None:
        log.error("batch writer: a row for %s was refused and is kept in dead_letters: %s", target.name, reason)
        bury(self._run, self._mark, target.name, reason, row)

    def _with_series(self, columns: Sequence[str], rows: GivenRows) -> tuple[list[str], GivenValues]:
        """Samples with the ids that this store gives to the series they name; those it has no room for are left out."""
        names = [columns.index(name) for name in NAMES_OF_SERIES]
        value_places = [place for place in range(len(columns)) if place not in names]
        keyed = [(tuple(row[place] for place in names), row) for row in _values(rows)]
        ids = series_ids_by(self._run, self._mark, {key for key, _ in keyed})
        samples = [(ids[key], *(row[place] for place in value_places)) for key, row in keyed if key in ids]
        return ["series", *(columns[place] for place in value_places)], samples

    @abstractmethod
    def _insert(self, target: sa.Table, columns: tuple[str, ...], rows: GivenRows) -> None: ...

    @abstractmethod
    def _is_of_the_row(self, error: object) -> bool: ...


@contextmanager
def rows_of(database: Database) -> Iterator[BatchRows]:
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


class _SqliteRows(BatchRows):
    _mark = "?"

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver
        self._run = driver.execute

    def _insert(self, target: sa.Table, columns: tuple[str, ...], rows: GivenRows) -> None:
        self._driver.executemany(_sqlite_insert(target, columns), _values(rows))

    def _is_of_the_row(self, error: object) -> bool:
        return not getattr(error, "sqlite_errorname", "").startswith(_NOT_THE_ROW)


class _PostgresqlRows(BatchRows):
    _mark = "%s"

    def __init__(self, connection: sa.Connection) -> None:
        self._run = connection.exec_driver_sql

    def _insert(self, target: sa.Table, columns: tuple[str, ...], rows: GivenRows) -> None:
        text = rows if isinstance(rows, bytes) else to_json(rows)
        self._run(_postgresql_insert(target, columns), (text.decode(),))

    def _is_of_the_row(self, error: object) -> bool:
        return (getattr(error, "sqlstate", None) or "").startswith(_THE_ROW) or is_of_another_host(error)


def _values(rows: GivenRows) -> GivenValues:
    values: GivenValues = from_json(rows) if isinstance(rows, bytes) else rows
    return values


_THE_ROW = ("22", "23")
"""Classes of SQLSTATE: data exceptions and integrity constraint violations."""

_NOT_THE_ROW = (
    *("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CORRUPT"),
    *("SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_INTERRUPT", "SQLITE_PROTOCOL"),
)
"""What would befall any other row just as well; everything else is this row's own fault."""


@lru_cache(maxsize=256)
def _sqlite_insert(target: sa.Table, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {_into(target, columns)} VALUES ({', '.join('?' * len(columns))}) {_or(target, columns)}"


@lru_cache(maxsize=256)
def _postgresql_insert(target: sa.Table, columns: tuple[str, ...]) -> str:
    from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

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
    changed = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in keys)
    return f"ON CONFLICT ({', '.join(keys)}) DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"


def _own_keys(target: sa.Table) -> list[str]:
    """The columns of a key that a row brings with it; none where the store gives it a number."""
    keys = [column.name for column in target.primary_key]
    return [] if keys == ["id"] else keys
