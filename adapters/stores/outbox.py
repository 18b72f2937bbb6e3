"""What changed in a host's stores and is not with its control plane yet: a table in each, which triggers fill.

So nothing that writes has to know of it, whichever process or version writes. A change is noted by the key of its row;
what is shipped is the row as it stands then.
"""

# ruff: noqa: S608 - the statements are made of names of tables and columns of ours

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import sqlalchemy as sa

from adapters.stores.sql import tables_of
from adapters.stores.stores import Stores
from core.storage.shipping import AUDITED, FIRST_THINNED, OF_SERIES, SHIPPED, Shipped
from models.shipping import Part, Store

_NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_MAKE = (
    "CREATE TABLE outbox "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL)"
)
_AUDIT = Shipped(key=("seq",), environment=None, left_out=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The oldest changes that wait. `up_to` is the last of them by store, `waiting` how many come after them."""

    parts: list[Part]
    up_to: Mapping[str, int]
    oldest_at: datetime
    waiting: int


class Outbox:
    """The changes of a host's stores in files."""

    def __init__(self, stores: Stores) -> None:
        """Note nothing yet: call `begin`."""
        self._stores = stores

    def begin(self) -> None:
        """Note every change from now on, and all that is there already. Doing it again changes nothing.

        Raises:
            StoreError: A store cannot be written.
        """
        for store, database in self._stores.databases.items():
            wanted = dict(_triggers(store))
            with database.read() as connection:
                there = _triggers_there(connection)
            if there == wanted:
                continue
            with database.write() as connection:
                for name in there:
                    connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
                if not sa.inspect(connection).has_table("outbox"):
                    connection.exec_driver_sql(_MAKE)
                for statement in wanted.values():
                    connection.exec_driver_sql(statement)
                for table, shipped in _tables(store):
                    _note_all(connection, table, shipped)

    def end(self) -> None:
        """Note nothing any more, and forget what waits.

        Raises:
            StoreError: A store cannot be written.
        """
        for database in self._stores.databases.values():
            with database.write() as connection:
                for name in _triggers_there(connection):
                    connection.exec_driver_sql(f"DROP TRIGGER {name}")
                connection.exec_driver_sql("DROP TABLE IF EXISTS outbox")

    def take(self, most: int) -> Taken | None:
        """The oldest changes, at most so many of each store; None where none waits.

        Raises:
            StoreError: A store cannot be read.
        """
        parts: list[Part] = []
        up_to: dict[str, int] = {}
        oldest, waiting = None, 0
        for store, database in self._stores.databases.items():
            with database.read() as connection:
                changes = connection.exec_driver_sql(_OLDEST, (most,)).all()
                if not changes:
                    continue
                up_to[store] = changes[-1].seq
                oldest = min(oldest or changes[0].at, changes[0].at)
                waiting += _count_after(connection, changes[-1].seq)
                keys: dict[str, dict[str, None]] = {}
                for change in changes:
                    # The last change decides where a row comes.
                    of_table = keys.setdefault(change.name, {})
                    of_table.pop(change.key, None)
                    of_table[change.key] = None
                for table, shipped in _tables(store):
                    if table in keys:
                        parts.append(_part(connection, store, table, shipped, list(keys[table])))
        if oldest is None:
            return None
        oldest_at = datetime.fromtimestamp(oldest / 1000, UTC)
        return Taken(parts=parts, up_to=up_to, oldest_at=oldest_at, waiting=waiting)

    def drop(self, up_to: Mapping[str, int]) -> None:
        """Forget changes that the control plane has: a change that was noted after them stays.

        Raises:
            StoreError: A store cannot be written; they are shipped again, which changes nothing.
        """
        for store, seq in up_to.items():
            with self._stores.databases[store].write() as connection:
                connection.exec_driver_sql("DELETE FROM outbox WHERE seq <= ?", (seq,))

    def thin(self, most: int) -> int:
        """Leave out the oldest samples and measurements where more than `most` changes wait; how many those were.

        Raises:
            StoreError: A store cannot be written.
        """
        database = self._stores.databases["monitoring"]
        with database.read() as connection:
            surplus = _count_after(connection, 0) - most if sa.inspect(connection).has_table("outbox") else 0
        if surplus <= 0:
            return 0
        names = ", ".join(f"'{name}'" for name in FIRST_THINNED)
        with database.write() as connection:
            # A tenth more, so that the next change does not do it again.
            return connection.exec_driver_sql(
                "DELETE FROM outbox WHERE seq IN "
                f"(SELECT seq FROM outbox WHERE name IN ({names}) ORDER BY seq LIMIT ?)",
                (surplus + most // 10,),
            ).rowcount


def _tables(store: str) -> Iterator[tuple[str, Shipped]]:
    yield from SHIPPED[store].items()
    if store in AUDITED:
        yield "audit_log", _AUDIT


def _key(shipped: Shipped) -> tuple[str, ...]:
    """The columns that name a row in this store: its number, where it has one."""
    return ("id",) if "id" in shipped.left_out else shipped.key


def _triggers(store: str) -> Iterator[tuple[str, str]]:
    for table, shipped in _tables(store):
        for event in ("insert", "update", *(("delete",) if shipped.ends else ())):
            row = "OLD" if event == "delete" else "NEW"
            key = ", ".join(f"{row}.{name}" for name in _key(shipped))
            name = f"outbox_{table}_{event}"
            noted = f"INSERT INTO outbox (name, key, at) VALUES ('{table}', json_array({key}), {_NOW_MS})"
            yield name, f"CREATE TRIGGER {name} AFTER {event.upper()} ON {table} BEGIN {noted}; END"


def _triggers_there(connection: sa.Connection) -> dict[str, str]:
    return {row.name: row.sql for row in connection.exec_driver_sql(_TRIGGERS_THERE)}


def _note_all(connection: sa.Connection, table: str, shipped: Shipped) -> None:
    key = ", ".join(_key(shipped))
    connection.exec_driver_sql(
        f"INSERT INTO outbox (name, key, at) SELECT '{table}', json_array({key}), {_NOW_MS} FROM {table} ORDER BY {key}"
    )


def _part(connection: sa.Connection, store: str, table: str, shipped: Shipped, keys: Sequence[str]) -> Part:
    names = [column.name for column in tables_of(store)[table].columns if column.name not in shipped.left_out]
    chosen = [f't."{name}"' for name in names]
    joined = ""
    if table in OF_SERIES:
        names.remove("series")
        chosen = [f't."{name}"' for name in names]
        names += ["environment", "service", "metric"]
        chosen += ["s.environment", "s.service", "s.metric"]
        joined = "JOIN metric_series s ON s.id = t.series"
    same = " AND ".join(f"t.\"{name}\" = json_extract(k.value, '$[{n}]')" for n, name in enumerate(_key(shipped)))
    rows = connection.exec_driver_sql(
        f"SELECT {', '.join(chosen)} FROM json_each(?) k CROSS JOIN {table} t ON {same} {joined} ORDER BY k.key",
        (f"[{','.join(keys)}]",),
    )
    found = [dict(zip(names, map(_plain, row), strict=True)) for row in rows]
    gone = []
    if shipped.ends:
        there = {tuple(row[name] for name in shipped.key) for row in found}
        gone = [dict(zip(shipped.key, key, strict=True)) for key in map(json.loads, keys) if tuple(key) not in there]
    return Part(store=cast("Store", store), table=table, rows=found, gone=gone)


def _plain(value: Any) -> Any:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value


def _count_after(connection: sa.Connection, seq: int) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM outbox WHERE seq > ?", (seq,)).scalar_one())


_TRIGGERS_THERE = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'outbox\\_%' ESCAPE '\\'"
_OLDEST = "SELECT seq, name, key, at FROM outbox ORDER BY seq LIMIT ?"
