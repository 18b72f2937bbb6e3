"""Names and ids for shell completion, read with as little as possible: a user waits for them between two keys.

They come from SQLite files alone, read-only; where the stores are in PostgreSQL there are only names of hosts.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from models.settings import Settings

_BUSY_SECONDS = 0.05
_POSTGRESQL_SECONDS = 2
"""libpq waits no shorter time for a server."""
_MOST = 50
_LONGEST_NOTE = 60


class RecordedName(NamedTuple):
    """A name or id, and what a shell shows beside it."""

    name: str
    note: str = ""


class _Kind(NamedTuple):
    """Where names of one kind are: SQL of the columns, the table and the order. Each table has an environment."""

    store: str
    name: str
    note: str
    table: str
    order: str = "id DESC"


_OPEN_FIRST = "resolved_at IS NOT NULL, id DESC"
_KINDS = {
    "environments": _Kind("deployment_logs", "DISTINCT environment", "''", "deployment_operations", "1"),
    "operations": _Kind(
        "deployment_logs",
        "deployment_id",
        "operation_type || ' of ' || environment || ': ' || status || ' at ' || substr(start_time, 1, 16)",
        "deployment_operations",
    ),
    "releases": _Kind(
        "deployment_logs", "release_id", "substr(created_at, 1, 16)", "(SELECT * FROM releases WHERE proven)"
    ),
    "snapshots": _Kind("deployment_logs", "snapshot_id", "reason", "(SELECT * FROM snapshots WHERE state = 'whole')"),
    "services": _Kind(
        "deployment_logs",
        "DISTINCT service_name",
        "''",
        "service_state_changes JOIN deployment_operations USING (deployment_id)",
        "1",
    ),
    "tickets": _Kind("errors", "ticket_id", "state || ': ' || title", "manual_intervention_tickets", _OPEN_FIRST),
    "errors": _Kind(
        "errors", "error_id", "category || coalesce(' of ' || service_name, '')", "deployment_errors", _OPEN_FIRST
    ),
    "hosts": _Kind(
        "deployment_logs",
        "name",
        "'last contact ' || substr(last_contact, 1, 16)",
        "(SELECT *, '' AS environment FROM hosts)",
        "1",
    ),
    "alerts": _Kind("monitoring", "alert_id", "severity || ': ' || reason", "alerts", _OPEN_FIRST),
}


def recorded_names(kind: str, data_dir: Path, start: str = "", environment: str = "") -> list[RecordedName]:
    """Names that begin with `start`, newest first, of one environment or of all; at most 50.

    `kind` is environments, operations, releases, snapshots, services, tickets, errors, hosts or alerts.

    Raises:
        OSError, sqlite3.Error: The store cannot be read; the caller shows nothing then.
    """
    source = _KINDS[kind]
    file = (data_dir / f"{source.store}.db").absolute()
    if not file.is_file():
        return []
    # Without a write-ahead log no process has it open, and reading must not make one.
    is_open = file.with_name(f"{file.name}-wal").exists()
    address = f"{file.as_uri()}?mode=ro{'' if is_open else '&immutable=1'}"
    with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as connection:
        rows = connection.execute(
            # The parts are constants of this module.
            f"SELECT {source.name}, {source.note} FROM {source.table} WHERE :environment IN ('', environment)"  # noqa: S608
            f" AND instr({source.name.removeprefix('DISTINCT ')}, :start) = 1 ORDER BY {source.order} LIMIT {_MOST}",
            {"start": start, "environment": environment},
        ).fetchall()
    return [RecordedName(str(name), " ".join(str(note).split())[:_LONGEST_NOTE]) for name, note in rows]


def recorded_hosts(settings: Settings, start: str = "") -> list[RecordedName]:
    """Names of hosts that begin with `start`, at most 50, wherever the stores are.

    Raises:
        OSError, sqlite3.Error, psycopg.Error: The store cannot be read; the caller shows nothing then.
    """
    if settings.stores_url is None:
        return recorded_names("hosts", settings.data_dir, start)
    import psycopg

    file = settings.stores_password_file
    limits = f"-c statement_timeout={_POSTGRESQL_SECONDS}s -c default_transaction_read_only=on"
    with psycopg.connect(
        settings.stores_url,
        password=None if file is None else file.read_text().strip(),
        connect_timeout=_POSTGRESQL_SECONDS,
        options=limits,
    ) as connection:
        rows = connection.execute(
            "SELECT name, 'last contact ' || to_char(last_contact, 'YYYY-MM-DD HH24:MI') FROM deployment_logs.hosts"
            " WHERE starts_with(name, %s) ORDER BY 1 LIMIT %s",
            (start, _MOST),
        ).fetchall()
    return [RecordedName(str(name), str(note)) for name, note in rows]
