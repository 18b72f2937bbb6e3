"""Probe of MariaDB and MySQL: log in, run a query in a read-only transaction, measure how far a replica is behind."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import pymysql
from pymysql.constants import CR, ER

from adapters.probes.addresses import Address
from adapters.probes.blocking import run_blocking
from adapters.probes.outcome import Outcome, ProbeFailed, brief, password_of
from adapters.probes.sql import as_text, judge_rows, lag_reading
from models.environments import MysqlProbe

# Names that both servers gave the columns, before and after they renamed them.
_LAG = ("Seconds_Behind_Source", "Seconds_Behind_Master")
_RECEIVES = ("Replica_IO_Running", "Slave_IO_Running")
_REPLAYS = ("Replica_SQL_Running", "Slave_SQL_Running")
# The second one is MariaDB's, for a user that does not exist.
_ACCESS_DENIED = frozenset({ER.ACCESS_DENIED_ERROR, 1698})
_NEEDS_TLS = 3159
_IN_READ_ONLY_TRANSACTION = 1792
_QUERY_TIMES_OUT = frozenset({3024, 1969})
_LOST = frozenset({CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST})


async def ask_mysql(probe: MysqlProbe, place: Address, secrets: Mapping[str, str]) -> Outcome:
    """Log in, run the query, and measure replication where the probe has a limit for it."""
    password = password_of(probe.password_secret, secrets)
    return await run_blocking(lambda line: _session(line, place, probe, password), place, probe.timeout_seconds)


def _session(line: socket.socket, place: Address, probe: MysqlProbe, password: str | None) -> Outcome:
    # A little more than the probe has, which ends first and says so.
    limit = probe.timeout_seconds + 1
    # TLS is used where the server offers it, without verifying its certificate.
    connection = pymysql.connections.Connection(
        host=place.host,
        port=place.port,
        user=probe.user,
        password=password or "",
        database=probe.database,
        charset="utf8mb4",
        read_timeout=limit,
        write_timeout=limit,
        program_name="roas probe",
        defer_connect=True,
    )
    try:
        _log_in(connection, line, probe, has_password=password is not None)
        return _ask(connection, probe)
    finally:
        if connection.open:
            connection.close()
        line.close()


def _log_in(
    connection: pymysql.connections.Connection[Any], line: socket.socket, probe: MysqlProbe, *, has_password: bool
) -> None:
    try:
        connection.connect(line)
    except (pymysql.err.MySQLError, OSError, struct.error, IndexError, ValueError, AssertionError) as error:
        raise ProbeFailed(_explain(error, probe, has_password=has_password)) from error


def _ask(connection: pymysql.connections.Connection[Any], probe: MysqlProbe) -> Outcome:
    with connection.cursor() as cursor:
        try:
            # Not of one transaction: a statement such as CREATE TABLE ends it, and would run in the next one.
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            # A server that works on the query ends it too when no client waits for it any more.
            if "mariadb" in str(connection.server_version).lower():
                cursor.execute(f"SET SESSION max_statement_time = {probe.timeout_seconds}")
            else:
                cursor.execute(f"SET SESSION max_execution_time = {max(1, int(probe.timeout_seconds * 1000))}")
            cursor.execute(probe.query)
            rows = cursor.fetchall() if cursor.description else ()
        except pymysql.err.MySQLError as error:
            raise ProbeFailed(_explain_query(error, probe)) from error
    detail = judge_rows(probe, rows)
    if probe.replication_lag_seconds is None:
        return detail, ()
    replicated = _replication(connection, probe)
    reading = lag_reading(max(map(_lag, replicated), default=0.0), probe.replication_lag_seconds)
    return f"{detail}, {reading.words if replicated else 'it is a primary'}", (reading,)


def _replication(connection: pymysql.connections.Connection[Any], probe: MysqlProbe) -> Sequence[Mapping[str, Any]]:
    """The state of each source that the server replicates; none on a primary."""
    statements = ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"]
    while True:
        try:
            with connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute(statements.pop(0))
                return tuple(cursor.fetchall())
        except pymysql.err.MySQLError as error:
            code, message = _code_and_words(error)
            if code == ER.PARSE_ERROR and statements:
                # A server before MySQL 8.0.22 or MariaDB 10.5.
                continue
            if code in (ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.ACCESS_DENIED_ERROR):
                advice = f"grant user {probe.user} REPLICATION CLIENT (MariaDB: REPLICA MONITOR)"
                raise ProbeFailed(f"the state of replication was refused: {message}; {advice}") from error
            raise ProbeFailed(f"the state of replication cannot be read: {message}") from error


def _lag(source: Mapping[str, Any]) -> float:
    receives, replays, lag = (_first(source, names) for names in (_RECEIVES, _REPLAYS, _LAG))
    if receives != "Yes":
        why = brief(as_text(source.get("Last_IO_Error") or "no error is reported"))
        raise ProbeFailed(
            f"it is a replica that has lost its primary: it receives nothing ({receives}): {why}."
            " Does the primary run, and may the replica's user log in there?"
        )
    if replays != "Yes":
        why = brief(as_text(source.get("Last_SQL_Error") or "no error is reported"))
        raise ProbeFailed(f"its replication has stopped: {why}. Repair the data it names, then START REPLICA")
    if lag is None:
        raise ProbeFailed("it is a replica whose lag is not known yet")
    return float(lag)


def _first(source: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((source[name] for name in names if name in source), None)


def _code_and_words(error: BaseException) -> tuple[int, str]:
    match error.args:
        case (int(code), words):
            return code, " ".join(as_text(words).split())
    return 0, " ".join(str(error).split()) or type(error).__name__


def _explain(error: BaseException, probe: MysqlProbe, *, has_password: bool) -> str:
    code, message = _code_and_words(error)
    who = f"login of user {probe.user}"
    match code:
        case _ if code in _ACCESS_DENIED:
            hint = f"compare user and secret {probe.password_secret} with the server's"
            return (
                f"{who} was refused: {message}; {hint if has_password else 'set password_secret if it has a password'}"
            )
        case ER.BAD_DB_ERROR:
            return f"{who} failed: {message}; set `database` to one that exists"
        case ER.DBACCESS_DENIED_ERROR:
            return f"{who} was refused at database {probe.database}: {message}; grant it that database"
        case ER.HOST_NOT_PRIVILEGED | ER.HOST_IS_BLOCKED:
            return f"{who} was refused: {message}; let the user in from this address"
        case ER.CON_COUNT_ERROR:
            return f"{who} failed: {message}; raise max_connections, or find what holds the connections"
        case 0:
            return f"port {probe.port} answers, but not as MariaDB or MySQL: {brief(message)}; is it the right port?"
        case _ if code in _LOST:
            return f"the server broke off the login: {message}; its log says why"
        case _ if code == _NEEDS_TLS:
            return f"{who} was refused: {message}; the server demands TLS and offers none"
    return f"{who} failed: {message}"


def _explain_query(error: pymysql.err.MySQLError, probe: MysqlProbe) -> str:
    code, message = _code_and_words(error)
    query = f"query {brief(probe.query)!r}"
    match code:
        case ER.NO_SUCH_TABLE | ER.BAD_FIELD_ERROR:
            return f"{query} failed: {message}; is the schema migrated, and is this its database?"
        case ER.NO_DB_ERROR:
            return f"{query} failed: {message}; set `database`"
        case ER.TABLEACCESS_DENIED_ERROR | ER.COLUMNACCESS_DENIED_ERROR | ER.SPECIFIC_ACCESS_DENIED_ERROR:
            return f"{query} was refused: {message}; grant user {probe.user} what it reads"
        case _ if code == _IN_READ_ONLY_TRANSACTION:
            return f"{query} would change data, and a probe only reads: {message}"
        case _ if code in _QUERY_TIMES_OUT:
            return f"{query} did not end within {probe.timeout_seconds:g} s: {message}"
    return f"{query} failed: {message}"
