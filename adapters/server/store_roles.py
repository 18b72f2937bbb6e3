"""Roles of PostgreSQL for enrolled hosts: each reaches the stores with a password of its own, which can be taken away.

A role reads the stores, and writes what belongs to its host: adapters/stores/row_security.py.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from adapters.stores.postgresql import PostgresqlServer, connect
from adapters.stores.row_security import group_of, restrict_hosts
from models.enrolment import USER_PREFIX
from models.failures import RoasError
from models.hosts import SILENT_AFTER
from models.settings import Settings

log = logging.getLogger("roas")

_SECONDS = 10.0


def make_role(settings: Settings, role: str, host_id: str) -> str:
    """Make the role of a host, or renew the password of one; the password.

    Raises:
        RoasError: The database does not answer, its user may make no roles, or the host has another credential.
    """
    password = secrets.token_urlsafe(32)
    failed = f"The role {role} cannot be made"
    with _connect(settings, failed) as connection:
        _make_stores(settings)
        restrict_hosts(connection)
        _refuse_others_identity(connection, role, host_id, failed)
        # The server's log may show statements, so it is given the password as it will be kept.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        verb = "ALTER" if _is_there(connection, role) else "CREATE"
        name = sql.Identifier(role)
        with connection.transaction():
            connection.execute(sql.SQL(f"{verb} ROLE {{}} LOGIN PASSWORD {{}}").format(name, sql.Literal(verifier)))
            _restrict(connection, role, host_id)
    return password


def restrict_roles(settings: Settings, hosts: Mapping[str, str]) -> None:
    """Let the roles of hosts, by role the host's id, write what is their own alone: earlier versions made them owners.

    Doing it again changes nothing.

    Raises:
        RoasError: The database does not answer, or its user may change no roles.
    """
    with _connect(settings, "The roles of hosts cannot be restricted") as connection:
        _make_stores(settings)
        restrict_hosts(connection)
        for role, host_id in hosts.items():
            if not _is_there(connection, role) or _is_restricted(connection, role, host_id):
                continue
            with connection.transaction():
                _restrict(connection, role, host_id)
            # What it has open still acts as the owner.
            _end_connections(connection, role)
            log.warning("%s writes only records of its own host from now on", role)


def end_role(settings: Settings, role: str) -> None:
    """Let a role connect no longer, and end its connections; nothing happens where there is none.

    Raises:
        RoasError: The database does not answer, or its user may change no roles.
    """
    with _connect(settings, f"The role {role} cannot be ended") as connection:
        if _is_there(connection, role):
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(role)))
            _end_connections(connection, role)


def end_blockers(settings: Settings, pause: Callable[[], object]) -> None:
    """Again and again, after each `pause`: end the connections of hosts that make others wait for too long.

    A host sets the time limits of its connections itself, and may take locks that all writers need.

    Raises:
        RoasError: The database does not answer, or its user may not see or end connections of others.
    """
    blockers: dict[tuple[int, datetime | None], float] = {}
    with _connect(settings, "Hosts that hold up the stores cannot be ended") as connection:
        while True:
            if connection.execute(_MAY_END).fetchone() != (True,):
                raise psycopg.errors.InsufficientPrivilege
            with connection.transaction():
                # What it shows stays as it is until the transaction's end: it is older than what locks show then.
                connection.execute("SELECT count(*) FROM pg_stat_activity")
                rows = connection.execute(_BLOCKERS, {"group": _group(connection)}).fetchall()
            now, before, blockers, culprits = time.monotonic(), blockers, {}, set()
            for role, pid, began, waits, is_kept in rows:
                key = (pid, None if is_kept else began)
                if waits and key not in before:
                    continue
                blockers[key] = before.get(key, now)
                if not waits and key in before and (is_kept or now - blockers[key] >= _HELD_SECONDS):
                    culprits.add(role)
            for role in sorted(culprits):
                # All of them: another one may hold the same, or be next in the queue.
                _end_connections(connection, role)
                name = role.removeprefix(USER_PREFIX)
                log.error(
                    "host %s held up writers of the stores, so its connections were ended; "
                    "if it does so again: roas fleet revoke %s",
                    name,
                    name,
                )
            pause()


_HELD_SECONDS = 15.0
"""Hundreds of times what a write of a host takes. With pauses less than others wait for their turn, so none fails."""

_MAY_END = (
    "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') "
    "AND pg_has_role(current_user, 'pg_signal_backend', 'USAGE')"
)

# Connections of hosts that others wait for, and whether each waits in turn itself. Our writers hold an advisory lock no
# longer than their transaction, and none gets one before those who waited for it. So who has it in a transaction that
# began after another's wait, or in none, keeps it beyond its transactions.
_BLOCKERS = """
SELECT holder.usename, holder.pid, holder.xact_start,
    EXISTS (SELECT 1 FROM pg_locks own WHERE own.pid = holder.pid AND NOT own.granted),
    bool_or(waiting.locktype = 'advisory' AND waiting.waitstart < coalesce(holder.xact_start, now()))
FROM pg_locks waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity holder ON holder.pid = blocking.pid
JOIN pg_auth_members member ON member.member = holder.usesysid
JOIN pg_roles hosts ON hosts.oid = member.roleid AND hosts.rolname = %(group)s
WHERE NOT waiting.granted
GROUP BY holder.usename, holder.pid, holder.xact_start
"""


def _end_connections(connection: psycopg.Connection[Any], role: str) -> None:
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])


def _make_stores(settings: Settings) -> None:
    """Make or upgrade the tables that are restricted then."""
    server = PostgresqlServer(settings, deadline_seconds=_SECONDS)
    try:
        server.open()
    finally:
        server.close()


def _is_there(connection: psycopg.Connection[Any], role: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None


def _is_restricted(connection: psycopg.Connection[Any], role: str, host_id: str) -> bool:
    row = connection.execute(
        "SELECT pg_has_role(%(role)s, %(group)s, 'MEMBER') AND NOT pg_has_role(%(role)s, current_user, 'MEMBER') "
        "AND EXISTS (SELECT 1 FROM deployment_logs.host_roles WHERE role = %(role)s AND host_id = %(host)s)",
        {"role": role, "group": _group(connection), "host": host_id},
    ).fetchone()
    return row is not None and bool(row[0])


def _restrict(connection: psycopg.Connection[Any], role: str, host_id: str) -> None:
    owner = connection.execute("SELECT current_user").fetchone()
    assert owner is not None  # noqa: S101 - a SELECT without FROM has one row
    name = sql.Identifier(role)
    connection.execute(sql.SQL("ALTER ROLE {} RESET role").format(name))
    if connection.execute("SELECT pg_has_role(%s, current_user, 'MEMBER')", [role]).fetchone() == (True,):
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(owner[0]), name))
    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(_group(connection)), name))
    connection.execute("DELETE FROM deployment_logs.host_roles WHERE host_id = %s OR role = %s", [host_id, role])
    connection.execute("INSERT INTO deployment_logs.host_roles (host_id, role) VALUES (%s, %s)", [host_id, role])


def _refuse_others_identity(connection: psycopg.Connection[Any], role: str, host_id: str, failed: str) -> None:
    """Refuse a host's id that another credential uses: what belongs to a host goes by its id."""
    row = connection.execute(
        "SELECT r.role FROM deployment_logs.host_roles r JOIN pg_roles p ON p.rolname = r.role "
        "WHERE r.host_id = %s AND r.role <> %s AND p.rolcanlogin",
        [host_id, role],
    ).fetchone()
    if row is not None:
        raise RoasError(
            f"{failed}: {host_id} is enrolled as {row[0]} already;", advice="run `roas leave` there, or revoke it."
        )
    in_contact = connection.execute(
        "SELECT 1 FROM deployment_logs.hosts h WHERE h.host_id = %s AND h.dismissed_at IS NULL "
        "AND h.last_contact > (clock_timestamp() AT TIME ZONE 'UTC') - %s "
        "AND NOT EXISTS (SELECT 1 FROM deployment_logs.host_roles r WHERE r.host_id = h.host_id)",
        [host_id, SILENT_AFTER],
    ).fetchone()
    if in_contact is not None:
        raise RoasError(
            f"{failed}: {host_id} is in contact by another credential;",
            advice="stop its agent, and enrol it again after a minute.",
        )


def _group(connection: psycopg.Connection[Any]) -> str:
    return group_of(connection.info.dbname)


@contextmanager
def _connect(settings: Settings, failed: str) -> Iterator[psycopg.Connection[Any]]:
    if settings.stores_url is None:
        raise RoasError(
            f"{failed}: the stores of this control plane are files;",
            advice="set ROAS_STORES_URL, then invite it again.",
        )
    try:
        url = sa.make_url(settings.stores_url)
        with connect(url, settings.stores_password_file, _SECONDS) as connection:
            connection.autocommit = True
            may = connection.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
            if may.fetchone() != (True,):
                raise psycopg.errors.InsufficientPrivilege
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise RoasError(
            f"{failed}: the stores' user may not do it;",
            advice="as the database's administrator: ALTER ROLE … CREATEROLE; "
            "GRANT pg_read_all_stats, pg_signal_backend TO ….",
        ) from error
    except psycopg.Error as error:
        raise RoasError(
            f"{failed}: {' '.join(str(error).split()) or type(error).__name__};",
            advice="does ROAS_STORES_URL reach it?",
        ) from error
