"""What hosts ship, applied to the stores of their control plane: once, in each host's order, and only what is its own.

A host's batches wait for each other, those of several hosts do not. What a host may not write, or PostgreSQL refuses,
is left out and said in the answer; the rest of the batch is applied.
"""

# ruff: noqa: S608 - the statements are made of names of tables and columns of ours

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from adapters.stores.postgresql import PostgresqlDatabase, PostgresqlServer
from adapters.stores.sql import tables_of
from adapters.stores.stores import Stores
from core.storage.audit import NO_HASH
from core.storage.incidents import OWN_SYSTEM
from core.storage.shipping import AUDITED, OF_SERIES, SHIPPED, Shipped, environment_of, follow, ids_in
from models.audit import AuditEntry
from models.shipping import Batch, Part, Receipt, Refusal

log = logging.getLogger("roas")

_MOST_REFUSALS = 20
_to_entries = TypeAdapter(list[AuditEntry]).validate_python

PREPARE = (
    """
CREATE TABLE IF NOT EXISTS deployment_logs.host_streams (
    host_id text PRIMARY KEY, number bigint NOT NULL, received_at timestamp NOT NULL, oldest_at timestamp NOT NULL,
    rows bigint NOT NULL, refused bigint NOT NULL)""",
    """
CREATE TABLE IF NOT EXISTS deployment_logs.host_audit (
    host_id text NOT NULL, store text NOT NULL, seq bigint NOT NULL, hash text NOT NULL, entry jsonb NOT NULL,
    PRIMARY KEY (host_id, store, seq, hash))""",
    *(
        statement.format(f"{store}.{table}", table)
        for store, tables in SHIPPED.items()
        for table, shipped in tables.items()
        if not shipped.key
        for statement in (
            "ALTER TABLE {0} ADD COLUMN IF NOT EXISTS shipped_key uuid",
            "ALTER TABLE {0} ALTER COLUMN id TYPE bigint",
            "CREATE UNIQUE INDEX IF NOT EXISTS {1}_shipped_key ON {0} (shipped_key)",
        )
    ),
)
"""What PostgreSQL needs beyond the tables of the stores. Doing it again changes nothing."""

_ROOTS = {
    "deployment_id": "SELECT deployment_id, environment FROM deployment_logs.deployment_operations",
    "release_id": "SELECT release_id, environment FROM deployment_logs.releases",
    "run_id": "SELECT run_id, environment FROM deployment_logs.scheduled_runs",
    "snapshot_id": "SELECT snapshot_id, environment FROM deployment_logs.snapshots",
    "alert_id": "SELECT alert_id, environment FROM monitoring.alerts",
    "prediction_id": "SELECT prediction_id, environment FROM monitoring.predictions",
    "error_id": "SELECT error_id, environment FROM errors.deployment_errors",
    "bundle_id": "SELECT bundle_id, environment FROM errors.evidence_bundles",
    "ticket_id": "SELECT ticket_id, environment FROM errors.manual_intervention_tickets",
    "attempt_id": (
        "SELECT a.attempt_id, e.environment FROM errors.auto_recovery_executions a "
        "JOIN errors.deployment_errors e USING (error_id)"
    ),
}
"""For each column that has ids: where each one is at home, and so whose it is."""


@dataclass(slots=True)
class _Refused:
    """What is left out of a batch, counted by what it is and why."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, what: str, why: str) -> None:
        self.counts[what, why] += 1

    def as_refusals(self) -> list[Refusal]:
        return [
            Refusal(what=what if count == 1 else f"{what} ({count} times)", why=why)
            for (what, why), count in self.counts.most_common(_MOST_REFUSALS)
        ]


class Ingest:
    """The place where batches of hosts are applied; for use from several threads."""

    def __init__(self, stores: Stores) -> None:
        """Prepare nothing yet: call `prepare` once before the first batch. The stores are in PostgreSQL."""
        self._server: PostgresqlServer = cast("PostgresqlDatabase", stores.databases["errors"]).server

    def prepare(self) -> None:
        """Make what PostgreSQL needs for it.

        Raises:
            StoreError: The user of the stores may not.
        """
        with self._server.shared_write("The tables of what hosts ship") as connection:
            for statement in PREPARE:
                connection.exec_driver_sql(statement)

    def apply(self, host_id: str, batch: Batch) -> Receipt:
        """Apply a batch of a host, unless it or a later one was applied already.

        Raises:
            StoreError: PostgreSQL is away or has no room; nothing of it happened, and it may be sent again.
        """
        try:
            return self._apply(host_id, batch, with_search=False)
        except _RowRefusedError:
            return self._apply(host_id, batch, with_search=True)

    def _apply(self, host_id: str, batch: Batch, *, with_search: bool) -> Receipt:
        refused = _Refused()
        with self._server.shared_write(f"What host {host_id} ships") as connection:
            last, behind = connection.execute(_LOCK_STREAM, {"host": host_id, "sent": batch.sent_at}).one()
            if batch.number <= last:
                return Receipt(last=last, behind_seconds=behind)
            parts = [part for part in batch.parts if part.table != "audit_log"]
            foreign = _foreign_environments(connection, host_id, parts)
            homeless = _foreign_ids(connection, host_id, parts)
            rows = 0
            for part in parts:
                rows += self._write(connection, part, foreign, homeless, refused, with_search=with_search)
            for part in batch.parts:
                if part.table == "audit_log":
                    rows += _keep_audit(connection, host_id, part, refused)
            connection.execute(
                _NOTE_BATCH,
                {
                    "host": host_id,
                    "number": batch.number,
                    "oldest": batch.oldest_at,
                    "rows": rows,
                    "refused": refused.counts.total(),
                    "name": batch.name,
                    "version": batch.version,
                    "engine": batch.engine,
                    "waiting": batch.waiting,
                    "skew": -behind,
                },
            )
        return Receipt(last=batch.number, applied=True, rows=rows, refused=refused.as_refusals(), behind_seconds=behind)

    def _write(
        self,
        connection: sa.Connection,
        part: Part,
        foreign: frozenset[str],
        homeless: frozenset[tuple[str, str]],
        refused: _Refused,
        *,
        with_search: bool,
    ) -> int:
        shipped = SHIPPED[part.store].get(part.table)
        if shipped is None:
            refused.add(f"rows of {part.table}", "this control plane has no such table")
            return 0
        mine = list(_own_rows(part, shipped, part.rows, foreign, homeless, refused))
        gone = list(_own_rows(part, shipped, part.gone, foreign, homeless, refused)) if shipped.ends else []
        if (ended := shipped.ended) is not None:
            mine.sort(key=lambda row: row.get(ended) is None)
        for statement, rows in ((_insertion(part.store, part.table), mine), (_deletion(part.store, part.table), gone)):
            if not rows:
                continue
            if not with_search:
                with _refusals_of_rows():
                    _run(connection, statement, rows)
                continue
            _run_or_refuse(connection, statement, rows, part.table, refused)
        return len(mine) + len(gone)


class _RowRefusedError(Exception):
    """PostgreSQL does not take a row: of the wrong form, or against a rule of its table."""


class _refusals_of_rows:  # noqa: N801 - used as a statement
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sa.exc.DBAPIError) and isinstance(
            error.orig, psycopg.DataError | psycopg.IntegrityError | psycopg.ProgrammingError
        ):
            raise _RowRefusedError(str(error.orig).partition("\n")[0]) from error


def _run_or_refuse(
    connection: sa.Connection, statement: str, rows: Sequence[dict[str, Any]], table: str, refused: _Refused
) -> None:
    """Leave out the rows that PostgreSQL refuses, searched by halves: each alone takes 25 times as long."""
    try:
        with connection.begin_nested(), _refusals_of_rows():
            _run(connection, statement, rows)
    except _RowRefusedError as error:
        if len(rows) == 1:
            refused.add(f"a row of {table}", str(error))
            return
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            _run_or_refuse(connection, statement, half, table, refused)


def _run(connection: sa.Connection, statement: str, rows: Sequence[dict[str, Any]]) -> None:
    connection.exec_driver_sql(statement, {"rows": _as_text(rows)})


def _as_text(value: object) -> str:
    """A value as JSON that PostgreSQL takes, which has no NUL in a text."""
    return to_json(value).replace(b"\\u0000", b"\\ufffd").decode()


def _own_rows(
    part: Part,
    shipped: Shipped,
    rows: Iterable[dict[str, Any]],
    foreign: frozenset[str],
    homeless: frozenset[tuple[str, str]],
    refused: _Refused,
) -> Iterator[dict[str, Any]]:
    for row in rows:
        try:
            environment = environment_of(part.table, shipped, row)
        except ValueError as error:
            refused.add(f"a row of {part.table}", str(error))
            continue
        if environment in foreign:
            whose = "is the control plane's own" if environment == OWN_SYSTEM else "belongs to another host"
            refused.add(f"a row of {part.table}", f"environment {environment} {whose}")
        elif theirs := [value for column, value in ids_in(shipped, [row]) if (column, value) in homeless]:
            refused.add(f"a row of {part.table}", f"{theirs[0]} belongs to another host")
        else:
            yield row


def _foreign_environments(connection: sa.Connection, host_id: str, parts: Sequence[Part]) -> frozenset[str]:
    """The environments in a batch that do not belong to its host; those that belong to none are given to it."""
    named: set[str] = set()
    for part in parts:
        if (shipped := SHIPPED[part.store].get(part.table)) is None:
            continue
        for row in (*part.rows, *part.gone):
            try:
                named.add(environment_of(part.table, shipped, row) or "")
            except ValueError:
                continue
    named -= {"", OWN_SYSTEM}
    values = {"host": host_id, "names": sorted(named)}
    if named:
        connection.execute(_BIND, values)
    theirs = connection.execute(_BOUND_ELSEWHERE, values).scalars().all() if named else ()
    return frozenset({*theirs, OWN_SYSTEM})


def _foreign_ids(connection: sa.Connection, host_id: str, parts: Sequence[Part]) -> frozenset[tuple[str, str]]:
    """The ids in a batch that are at home in an environment of another host, each with its column."""
    named: dict[str, set[str]] = {}
    for part in parts:
        if (shipped := SHIPPED[part.store].get(part.table)) is not None:
            for column, value in ids_in(shipped, part.rows):
                named.setdefault(column, set()).add(value)
    if not named:
        return frozenset()
    query = " UNION ALL ".join(
        f"SELECT '{column}', r.{column} FROM ({_ROOTS[column]}) r "
        f"LEFT JOIN deployment_logs.environment_hosts b ON b.environment = r.environment "
        f"WHERE r.{column} = ANY(%({column})s) AND b.host_id IS DISTINCT FROM %(host)s"
        for column in named
    )
    values = {column: list(ids) for column, ids in named.items()}
    rows = connection.exec_driver_sql(query, {**values, "host": host_id})
    return frozenset((str(row[0]), str(row[1])) for row in rows)


def _keep_audit(connection: sa.Connection, host_id: str, part: Part, refused: _Refused) -> int:
    """Keep the entries of a host's audit log that follow a known one; those that do not are refused.

    A log that goes on differently after an entry is kept beside what was sent before, which stays.
    """
    what = f"the audit log of {part.store}"
    if part.store not in AUDITED:
        refused.add(what, "that store has none")
        return 0
    try:
        entries = sorted(_to_entries(part.rows), key=lambda entry: entry.seq)
    except ValidationError as error:
        refused.add(what, f"{error.error_count()} entries cannot be read")
        return 0
    place = {"host": host_id, "store": part.store}
    numbers = {"numbers": [seq for entry in entries for seq in (entry.seq - 1, entry.seq)]}
    known = {(row.seq, row.hash) for row in connection.execute(_KNOWN_AUDIT, {**place, **numbers})} | {(0, NO_HASH)}
    new: Sequence[AuditEntry] = [entry for entry in entries if (entry.seq, entry.hash) not in known]
    if not new:
        return 0
    before = (new[0].seq - 1, new[0].previous_hash)
    if before not in known:
        refused.add(what, f"entry {new[0].seq} does not follow an entry that was sent before")
        return 0
    new, problem = follow(before, new)
    if problem is not None:
        refused.add(what, problem)
    if new and any(seq == new[0].seq for seq, _ in known):
        why = f"entry {new[0].seq} is another one than was sent before; both are kept"
        refused.add(what, f"{why}. The store was restored from a backup, is in use twice, or was written anew")
    if new:
        connection.execute(
            _ADD_AUDIT,
            [{**place, "seq": entry.seq, "hash": entry.hash, "entry": _as_text(entry)} for entry in new],
        )
    return len(new)


@cache
def _insertion(store: str, table: str) -> str:
    """An insertion of rows given as JSON, which PostgreSQL turns into those of the table."""
    shipped, place = SHIPPED[store][table], f"{store}.{table}"
    columns = [column.name for column in tables_of(store)[table].columns if column.name not in shipped.left_out]
    if table in OF_SERIES:
        return _insertion_by_series(store, table, columns)
    listed = ", ".join(f'"{column}"' for column in columns)
    if not shipped.key:
        values = ", ".join(f'r."{column}"' for column in columns)
        return (
            f"INSERT INTO {place} ({listed}, shipped_key) SELECT {values}, md5(v::text)::uuid "
            f"FROM jsonb_array_elements(%(rows)s::jsonb) v, jsonb_populate_record(NULL::{place}, v) r "
            "ON CONFLICT (shipped_key) DO NOTHING"
        )
    keys = ", ".join(shipped.key)
    changed = ", ".join(f'"{column}" = EXCLUDED."{column}"' for column in columns if column not in shipped.key)
    # Two hosts that name one id at the same moment: the first has it.
    own = " WHERE t.environment = EXCLUDED.environment" if shipped.environment else ""
    return (
        f"INSERT INTO {place} AS t ({listed}) SELECT {listed} "
        f"FROM jsonb_populate_recordset(NULL::{place}, %(rows)s::jsonb) "
        f"ON CONFLICT ({keys}) DO UPDATE SET {changed}{own}"
    )


def _insertion_by_series(store: str, table: str, columns: Sequence[str]) -> str:
    kept = [column for column in columns if column != "series"]
    listed = ", ".join(kept)
    values = ", ".join(f"r.{column}" for column in kept)
    keys = ", ".join(SHIPPED[store][table].key)
    changed = ", ".join(f"{column} = EXCLUDED.{column}" for column in kept if column not in SHIPPED[store][table].key)
    return (
        "WITH given AS MATERIALIZED (SELECT v->>'environment' AS environment, v->>'service' AS service, "
        f"v->>'metric' AS metric, r.* FROM jsonb_array_elements(%(rows)s::jsonb) v, "
        f"jsonb_populate_record(NULL::{store}.{table}, v - 'series') r), "
        f"named AS (SELECT DISTINCT environment, service, metric FROM given), "
        f"made AS (INSERT INTO {store}.metric_series (environment, service, metric) SELECT * FROM named n "
        f"WHERE NOT EXISTS (SELECT 1 FROM {store}.metric_series s WHERE (s.environment, s.service, s.metric) = "
        "(n.environment, n.service, n.metric)) ON CONFLICT DO NOTHING RETURNING id, environment, service, metric), "
        f"ids AS (SELECT s.id, n.* FROM named n JOIN {store}.metric_series s USING (environment, service, metric) "
        "UNION ALL SELECT * FROM made) "
        f"INSERT INTO {store}.{table} ({listed}, series) SELECT {values}, i.id FROM given r "
        f"JOIN ids i USING (environment, service, metric) ON CONFLICT ({keys}) DO UPDATE SET {changed}"
    )


@cache
def _deletion(store: str, table: str) -> str:
    place, key = f"{store}.{table}", SHIPPED[store][table].key
    same = " AND ".join(f"t.{name} = r.{name}" for name in key)
    return f"DELETE FROM {place} t USING jsonb_populate_recordset(NULL::{place}, %(rows)s::jsonb) r WHERE {same}"


_UTC = "(clock_timestamp() AT TIME ZONE 'UTC')"

_LOCK_STREAM = sa.text(f"""
INSERT INTO deployment_logs.host_streams AS s (host_id, number, received_at, oldest_at, rows, refused)
VALUES (:host, 0, {_UTC}, {_UTC}, 0, 0) ON CONFLICT (host_id) DO UPDATE SET number = s.number
RETURNING number, extract(epoch FROM clock_timestamp() - CAST(:sent AS timestamptz))::float
""")

_BIND = sa.text(f"""
INSERT INTO deployment_logs.environment_hosts (environment, host_id, since)
SELECT unnest(CAST(:names AS text[])), :host, {_UTC} ON CONFLICT DO NOTHING
""")

_BOUND_ELSEWHERE = sa.text("""
SELECT environment FROM deployment_logs.environment_hosts WHERE environment = ANY(:names) AND host_id <> :host
""")

_NOTE_BATCH = sa.text(f"""
WITH stream AS (
    UPDATE deployment_logs.host_streams SET number = :number, received_at = {_UTC},
        oldest_at = CAST(:oldest AS timestamptz) AT TIME ZONE 'UTC', rows = rows + :rows, refused = refused + :refused
    WHERE host_id = :host)
INSERT INTO deployment_logs.hosts AS h
    (host_id, name, version, engine, first_contact, last_contact, clock_skew_seconds, backlog)
VALUES (:host, :name, :version, :engine, {_UTC}, {_UTC}, :skew, :waiting)
ON CONFLICT (host_id) DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version, engine = EXCLUDED.engine,
    last_contact = EXCLUDED.last_contact, clock_skew_seconds = EXCLUDED.clock_skew_seconds,
    backlog = EXCLUDED.backlog, dismissed_at = NULL
""")

_KNOWN_AUDIT = sa.text("""
SELECT seq, hash FROM deployment_logs.host_audit WHERE host_id = :host AND store = :store AND seq = ANY(:numbers)
""")
_ADD_AUDIT = sa.text("""
INSERT INTO deployment_logs.host_audit (host_id, store, seq, hash, entry)
VALUES (:host, :store, :seq, :hash, CAST(:entry AS jsonb))
""")
