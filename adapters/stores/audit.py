"""The audit log of a store: one entry for each thing that was recorded of an operation, ticket or pause.

An entry is written in the transaction that writes the rows. It holds the rows as they then stand, and the hash of the
entry before it, so `audit_check.verify` finds every row and entry that something else changed, removed or inserted.
A migration that changes these rows appends an entry with them, as the revision does that begins the log.
"""

# ruff: noqa: S608 - the statements are made of names of tables and columns of ours

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.storage.audit import GENESIS, NO_HASH, content_of, entry_hash, plain, row_digest, row_of_entry
from models.audit import SYSTEM, Actor, AuditEntry
from models.tables.columns import UtcDateTime

_WHO = ("asked_uid", "asked_user", "login_uid", "claimed_by")

AUDITED: dict[str, dict[str, tuple[str, ...]]] = {
    "deployment_logs": {
        "deployment_operations": (
            *("deployment_id", "operation_type", "environment", "status", "start_time", "end_time", "duration_ms"),
            *("user_agent", "metadata", *_WHO),
        )
    },
    "errors": {
        # What a ticket's title, steps and evidence say may be amended while it is open; how it stands may not.
        "manual_intervention_tickets": (
            *("ticket_id", "environment", "service_name", "state", "opened_at", "resolved_at"),
        ),
        "ticket_history": ("id", "ticket_id", "at", "by", "what", *_WHO),
        "recovery_controls": ("environment", "service_name", "until", "reason", "by", "paused_at", *_WHO),
    },
}
"""By store and table, the columns whose values are recorded."""

KEYS = {
    "deployment_operations": ("deployment_id",),
    "manual_intervention_tickets": ("ticket_id",),
    "ticket_history": ("id",),
    "recovery_controls": ("environment", "service_name"),
}
"""The columns that name a row of an audited table."""

_COLUMNS = {table: columns for tables in AUDITED.values() for table, columns in tables.items()}
_ROWS_AN_ENTRY = 500


def actor_columns(actor: Actor) -> dict[str, Any]:
    """The columns that say who asked."""
    return {
        "asked_uid": actor.uid,
        "asked_user": actor.user or None,
        "login_uid": actor.login_uid,
        "claimed_by": actor.claimed or None,
    }


def actor_of(row: sa.Row[Any]) -> Actor:
    """Who asked, of a row that has these columns."""
    return Actor(uid=row.asked_uid, user=row.asked_user or "", login_uid=row.login_uid, claimed=row.claimed_by or "")


def audit_row(connection: sa.Connection, kind: str, table: str, key: Sequence[Any], actor: Actor = SYSTEM) -> None:
    """Append an entry about one row as it stands now; one that was deleted is recorded as gone."""
    append(connection, kind, key_text(key), {table: row_as_recorded(connection, table, key)}, actor=actor)


def row_as_recorded(connection: sa.Connection, table: str, key: Sequence[Any]) -> dict[str, Any]:
    """A row under its key, for an entry's content; None in the place of one that is gone."""
    names = KEYS[table]
    row = connection.execute(_select_one(table), dict(zip(names, key, strict=True))).one_or_none()
    return {key_text(key): None if row is None else row_of_entry(row_values(row))}


def append(
    connection: sa.Connection,
    kind: str,
    subject: str,
    rows: Mapping[str, Mapping[str, Any]],
    *,
    actor: Actor = SYSTEM,
    archives: Mapping[str, str] | None = None,
    **facts: Any,
) -> None:
    """Append an entry. Call it in the transaction that writes the rows, after them."""
    last = connection.execute(_LAST).one_or_none()
    now = datetime.now(UTC)
    entry = AuditEntry(
        seq=1 if last is None else last.seq + 1,
        at=str(plain(now)),
        kind=kind,
        subject=subject.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        **actor_columns(actor),
        content=content_of(rows, archives, **facts),
        previous_hash=NO_HASH if last is None else last.hash,
        hash="",
    )
    entry = replace(entry, hash=entry_hash(entry))
    connection.execute(_APPEND, {name: getattr(entry, name) for name in _ENTRY} | {"at": now})


def begin_log(connection: sa.Connection, store: str) -> None:
    """Write a log's first entries: that it begins, and the digest of each row that is there already."""
    append(connection, GENESIS, store, {})
    for table in AUDITED[store]:
        digests = {row_key(table, row): row_digest(row_values(row)) for row in connection.execute(select_all(table))}
        keys = list(digests)
        for begin in range(0, len(keys), _ROWS_AN_ENTRY):
            some = keys[begin : begin + _ROWS_AN_ENTRY]
            append(connection, "found", table, {table: {key: digests[key] for key in some}})


def audit_archived(connection: sa.Connection, table: str, where: str, file: str, sha256: str) -> None:
    """Append an entry that rows leave into an archive. Call it before they are deleted; `where` is SQL of ours."""
    if table not in KEYS:
        return
    names = ", ".join(f'"{name}"' for name in KEYS[table])
    keys = connection.exec_driver_sql(f"SELECT {names} FROM {table} WHERE {where}").all()
    if keys:
        append(connection, "archived", file, {table: {key_text(key): None for key in keys}}, archives={file: sha256})


def audit_put_back(
    connection: sa.Connection, table: str, rows: Sequence[Mapping[str, Any]], file: str, actor: Actor
) -> None:
    """Append entries that rows are in the store again, from an archive."""
    if table not in KEYS:
        return
    keys = [tuple(row[name] for name in KEYS[table]) for row in rows]
    for begin in range(0, len(keys), _ROWS_AN_ENTRY):
        some: dict[str, Any] = {}
        for key in keys[begin : begin + _ROWS_AN_ENTRY]:
            some |= row_as_recorded(connection, table, key)
        append(connection, "put back", file, {table: some}, actor=actor)


def file_digest(file: Path) -> str:
    """The SHA-256 of a file, as audit entries and manifests have it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def entries(connection: sa.Connection) -> Iterator[AuditEntry]:
    """Every entry as it is stored, in the order of their numbers."""
    for row in connection.execute(_ALL):
        values: dict[str, Any] = dict(row._mapping)
        yield AuditEntry(**values | {"at": str(plain(row.at))})


def head(connection: sa.Connection) -> str:
    """The hash of the last entry."""
    last = connection.execute(_LAST).one_or_none()
    return NO_HASH if last is None else str(last.hash)


@cache
def select_all(table: str) -> sa.TextClause:
    """Every row of an audited table, in the columns that are recorded."""
    return sa.text(f"SELECT {_list_names(table)} FROM {table}")


def row_key(table: str, row: sa.Row[Any]) -> str:
    """What names a row in the log."""
    return key_text([row._mapping[name] for name in KEYS[table]])


def key_text(key: Sequence[Any]) -> str:
    """The key of a row as one text."""
    return "/".join(str(part) for part in key)


def row_values(row: sa.Row[Any]) -> dict[str, Any]:
    """A row's values in the form that is recorded."""
    return {name: value if type(value) is str else plain(value) for name, value in row._mapping.items()}


@cache
def _select_one(table: str) -> sa.TextClause:
    named = " AND ".join(f'"{name}" = :{name}' for name in KEYS[table])
    return sa.text(f"SELECT {_list_names(table)} FROM {table} WHERE {named}")


def _list_names(table: str) -> str:
    return ", ".join(f'"{name}"' for name in _COLUMNS[table])


_ENTRY = ("seq", "at", "kind", "subject", *_WHO, "content", "previous_hash", "hash")
_LAST = sa.text("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1")
_ALL = sa.text(f"SELECT {', '.join(_ENTRY)} FROM audit_log ORDER BY seq")
_APPEND = sa.text(
    f"INSERT INTO audit_log ({', '.join(_ENTRY)}) VALUES ({', '.join(f':{name}' for name in _ENTRY)})"
).bindparams(sa.bindparam("at", type_=UtcDateTime()))
