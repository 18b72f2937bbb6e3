"""Probe of PostgreSQL: log in, run a query in a read-only transaction, measure how far a replica is behind."""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
from collections.abc import Mapping

import psycopg

from adapters.probes.addresses import Address
from adapters.probes.blocking import finish_or_break
from adapters.probes.outcome import Outcome, ProbeFailed, brief, password_of
from adapters.probes.sql import judge_rows, lag_reading
from models.environments import PostgresqlProbe

_BEFORE_REASON = re.compile(
    r"^.*(?:connection to server at \"[^\"]*\"(?: \([^)]*\))?, port \d+ failed|failed): ", re.DOTALL
)

_REPLICATION = """\
select pg_is_in_recovery(),
    exists (select from pg_stat_wal_receiver),
    case when pg_is_in_recovery() then pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() end,
    extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
    extract(epoch from clock_timestamp() - pg_postmaster_start_time())::float8
"""


async def ask_postgresql(probe: PostgresqlProbe, place: Address, secrets: Mapping[str, str]) -> Outcome:
    """Log in, run the query, and measure replication where the probe has a limit for it."""
    password = password_of(probe.password_secret, secrets)
    try:
        connection = await psycopg.AsyncConnection.connect(
            host=place.host,
            port=place.port,
            user=probe.user,
            password=password or "",
            dbname=probe.database or probe.user,
            connect_timeout=math.ceil(probe.timeout_seconds) + 1,
            application_name="roas probe",
            sslmode="prefer",
            gssencmode="disable",
            # Nothing but this probe says how to log in: no file or variable of the user who runs it.
            passfile="/nonexistent",
            options="",
        )
    except psycopg.OperationalError as error:
        raise ProbeFailed(_explain(_words_of(error), probe, has_password=password is not None)) from error
    except psycopg.Error as error:
        raise ProbeFailed(f"login as {probe.user} failed: {_words_of(error)}") from error
    try:
        # psycopg tells a server whose query it gives up, and waits for that one too: a silent server would hold it.
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as handle:
            return await finish_or_break(asyncio.create_task(_ask(connection, probe)), handle)
    except psycopg.Error as error:
        raise ProbeFailed(_explain_query(error, probe)) from error
    finally:
        await connection.close()


async def _ask(connection: psycopg.AsyncConnection, probe: PostgresqlProbe) -> Outcome:
    await connection.set_read_only(True)
    # A server that works on the query ends it too when no client waits for it any more.
    limit = max(1, int(probe.timeout_seconds * 1000))
    await connection.execute(f"set local statement_timeout = {limit}".encode())
    cursor = await connection.execute(probe.query.encode())
    rows = await cursor.fetchall() if cursor.description else []
    detail = judge_rows(probe, rows)
    if probe.replication_lag_seconds is None:
        return detail, ()
    standing = await (await connection.execute(_REPLICATION)).fetchone()
    reading = lag_reading(_lag(standing), probe.replication_lag_seconds)
    is_replica = standing is not None and standing[0]
    return f"{detail}, {reading.words if is_replica else 'it is a primary'}", (reading,)


def _lag(standing: tuple[object, ...] | None) -> float:
    """Seconds behind the primary; 0 on a primary and where all that was received is replayed.

    Raises:
        ProbeFailed: It is a replica that receives nothing.
    """
    match standing:
        case (True, False, _, since_replay, _):
            last = f"; its newest transaction is {since_replay:.0f} s old" if isinstance(since_replay, float) else ""
            raise ProbeFailed(
                f"it is a replica that has lost its primary: no WAL receiver streams{last}. Does the primary run, and"
                " do primary_conninfo and pg_hba.conf let the replica in?"
            )
        case (True, True, False, since_replay, since_start):
            # A replica that has replayed no transaction yet is behind since it started.
            behind = since_start if since_replay is None else since_replay
            return max(0.0, behind) if isinstance(behind, float) else 0.0
    return 0.0


def _words_of(error: psycopg.Error) -> str:
    """The server's own words, without the addresses that libpq puts before them."""
    if error.diag.message_primary:
        return f"{error.diag.severity}: {' '.join(error.diag.message_primary.split())}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # With sslmode=prefer libpq tries twice, and the last try is the one without TLS.
    failures = [line for line in lines if "failed: " in line] or lines
    message = _BEFORE_REASON.sub("", failures[-1]) if failures else type(error).__name__
    return " ".join(message.split())


def _explain(message: str, probe: PostgresqlProbe, *, has_password: bool) -> str:
    database = probe.database or probe.user
    who = f"login of user {probe.user} at database {database}"
    if "password authentication failed" in message or 'role "' in message:
        advice = (
            f"compare user and secret {probe.password_secret} with the server's" if has_password else _WITHOUT_LOGIN
        )
        return f"{who} was refused: {message}; {advice}"
    if "no password supplied" in message or "password required" in message:
        return f"{who} was refused: {message}; {_WITHOUT_LOGIN}"
    if "no pg_hba.conf entry" in message:
        return f"{who} was refused: {message}; add a line for it to the server's pg_hba.conf"
    if 'database "' in message and "does not exist" in message:
        return f"{who} failed: {message}; set `database` to one that exists"
    if "too many clients" in message or "remaining connection slots" in message:
        return f"{who} failed: {message}; raise max_connections, or find what holds the connections"
    if "starting up" in message or "shutting down" in message or "recovery" in message:
        return f"the server takes no logins yet: {message}"
    if "closed the connection unexpectedly" in message or "invalid response to SSL" in message or "protocol" in message:
        return f"port {probe.port} answers, but not as PostgreSQL: {message}; is it the right port?"
    return f"{who} failed: {message}"


_WITHOUT_LOGIN = "it asks for a password: set password_secret"


def _explain_query(error: psycopg.Error, probe: PostgresqlProbe) -> str:
    query, message = f"query {brief(probe.query)!r}", _words_of(error)
    match error:
        case psycopg.errors.QueryCanceled():
            return f"{query} did not end within {probe.timeout_seconds:g} s: {message}"
        case psycopg.errors.ReadOnlySqlTransaction():
            return f"{query} would change data, and a probe only reads: {message}"
        case psycopg.errors.InsufficientPrivilege():
            return f"{query} was refused: {message}; grant user {probe.user} what it reads"
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn() | psycopg.errors.UndefinedFunction():
            return f"{query} failed: {message}; is the schema migrated, and is this its database?"
    return f"{query} failed: {message}"
