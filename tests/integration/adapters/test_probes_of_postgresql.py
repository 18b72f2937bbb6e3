"""Probes of real PostgreSQL servers: a primary, and its replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from models.analysis import Level
from models.environments import PostgresqlProbe
from models.health import ProbeResult
from tests.integration.adapters.conftest import ComposeProject
from tests.support.ports import free_port
from tests.support.probed import ask, chattering, falling_silent
from tests.support.replicated_postgresql import PASSWORD, Cluster, primary_and_replica

pytestmark = pytest.mark.engine
WRONG = "not-the-s3cret-at-all"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Cluster, Cluster]]:
    with primary_and_replica() as both:
        yield both


@pytest.fixture
def primary(servers: tuple[Cluster, Cluster]) -> Cluster:
    return servers[0]


@pytest.fixture
def replica(servers: tuple[Cluster, Cluster]) -> Cluster:
    return servers[1]


def probe(port: int, **fields: object) -> PostgresqlProbe:
    login = {"user": "roas", "database": "postgres", "password_secret": "PW"}
    return PostgresqlProbe.model_validate({"kind": "postgresql", "port": port} | login | fields)


async def asked(project: ComposeProject, port: int, password: str = PASSWORD, **fields: object) -> ProbeResult:
    result = await ask(project, probe(port, **fields), PW=password)
    assert PASSWORD not in result.detail
    assert WRONG not in result.detail
    return result


async def test_logs_in_and_runs_the_query(on_the_host: ComposeProject, primary: Cluster) -> None:
    result = await asked(on_the_host, primary.port)
    assert (result.ok, result.detail) == (True, "query 'select 1' returned 1 row")
    assert result.latency_ms is not None


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"query": "select 1 where false", "rows": 0}, "returned 0 rows"),
        ({"query": "values (1), (2)", "rows": 2, "value": "1"}, "returned 2 rows"),
        ({"query": "select true", "value": "true"}, "returned 1 row"),
        ({"query": "select null", "value": "NULL"}, "returned 1 row"),
        ({"query": "show server_encoding", "value": "UTF8"}, "returned 1 row"),
    ],
)
async def test_an_expected_answer_is_healthy(on_the_host: ComposeProject, primary: Cluster, fields, detail) -> None:
    result = await asked(on_the_host, primary.port, **fields)
    assert result.ok, result.detail
    assert detail in result.detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"rows": 2}, "query 'select 1' returned 1 row, not 2"),
        ({"value": "7"}, "query 'select 1' returned '1', not '7'"),
        ({"query": "select 1 where false", "value": "7"}, "returned no row, so no value '7'"),
        ({"query": "select * from orders"}, 'relation "orders" does not exist'),
        ({"query": "create table orders ()"}, "would change data, and a probe only reads"),
        ({"query": "selec 1"}, "syntax error"),
        ({"database": "shop"}, 'database "shop" does not exist; set `database` to one that exists'),
        ({"user": "shop"}, "compare user and secret PW with the server's"),
        ({"password_secret": None}, "it asks for a password: set password_secret"),
        ({"query": "select pg_sleep(60)", "timeout_seconds": 0.5}, "0.5 s"),
    ],
)
async def test_a_failure_says_what_failed_and_what_to_try(
    on_the_host: ComposeProject, primary: Cluster, fields, detail
) -> None:
    result = await asked(on_the_host, primary.port, **fields)
    assert not result.ok
    assert detail in result.detail


async def test_a_wrong_password_is_refused_and_never_shown(on_the_host: ComposeProject, primary: Cluster) -> None:
    result = await asked(on_the_host, primary.port, WRONG)
    assert not result.ok
    assert 'was refused: FATAL: password authentication failed for user "roas"' in result.detail
    assert "compare user and secret PW" in result.detail


async def test_nothing_of_the_user_who_runs_it_logs_in(
    on_the_host: ComposeProject, primary: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert not (await asked(on_the_host, primary.port, password_secret=None)).ok


async def test_another_server_at_the_port_is_named_as_such(on_the_host: ComposeProject) -> None:
    async with chattering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        result = await asked(on_the_host, port)
    assert not result.ok
    assert "answers, but not as PostgreSQL" in result.detail
    assert "nothing listens" in (await asked(on_the_host, free_port())).detail


async def test_a_server_that_falls_silent_in_a_query_ends_at_the_time_limit(
    on_the_host: ComposeProject, primary: Cluster
) -> None:
    async with falling_silent(primary.port, b"select 4711") as port:
        result = await asked(on_the_host, port, query="select 4711", timeout_seconds=0.5)
    assert (result.ok, result.detail) == (False, "no answer within 0.5 s")


async def test_a_primary_has_no_lag(on_the_host: ComposeProject, primary: Cluster) -> None:
    result = await asked(on_the_host, primary.port, replication_lag_seconds=0)
    assert result.ok
    assert "it is a primary" in result.detail
    (reading,) = result.readings
    assert (reading.metric, reading.value, reading.degrades) == ("replication_lag_seconds", 0, False)


async def until(project: ComposeProject, port: int, what: str, **fields: object) -> ProbeResult:
    """Ask until the answer has these words."""
    for _ in range(150):
        result = await asked(project, port, replication_lag_seconds=0.2, **fields)
        said = [result.detail, *(one.words for one in result.readings)]
        if any(what in one for one in said):
            return result
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what!r} was never said, but {said}")


async def test_a_replica_follows_lags_and_loses_its_primary(
    on_the_host: ComposeProject, primary: Cluster, replica: Cluster
) -> None:
    primary.run("create table follows (n int)")
    arrived = {"query": "select to_regclass('follows')", "value": "follows"}
    following = await until(on_the_host, replica.port, "it is 0.0 s behind its primary", **arrived)
    assert following.ok
    assert not following.readings[0].degrades

    replica.run("select pg_wal_replay_pause()")
    primary.run("insert into follows values (1)")
    behind = await until(on_the_host, replica.port, "more than 0.2 s")
    assert behind.ok
    (reading,) = behind.readings
    assert reading.value > 0.2
    assert (reading.concern, reading.threshold, reading.degrades) == (Level.WARNING, 0.2, True)

    replica.run("select pg_wal_replay_resume()")
    await until(on_the_host, replica.port, "it is 0.0 s behind its primary")
    primary.control("stop", "-m", "fast")
    alone = await until(on_the_host, replica.port, "has lost its primary")
    assert not alone.ok
    assert "no WAL receiver streams" in alone.detail
    plain = await asked(on_the_host, replica.port)
    assert plain.ok
    primary.control("start")
    assert (await until(on_the_host, replica.port, "it is 0.0 s behind its primary")).ok


async def test_a_replica_that_has_replayed_nothing_yet_lags_since_its_start(
    on_the_host: ComposeProject, primary: Cluster, replica: Cluster
) -> None:
    await until(on_the_host, replica.port, "it is 0.0 s behind its primary")
    replica.run("select pg_wal_replay_pause()")
    replica.control("restart", "-m", "fast")
    replica.run("select pg_wal_replay_pause()")
    primary.run("create table later ()")
    assert (await until(on_the_host, replica.port, "more than 0.2 s")).ok
    replica.run("select pg_wal_replay_resume()")


async def test_a_user_without_rights_measures_replication(
    on_the_host: ComposeProject, primary: Cluster, replica: Cluster
) -> None:
    primary.run(f"create role reader login password '{PASSWORD}'")
    result = await until(on_the_host, replica.port, "it is 0.0 s behind its primary", user="reader")
    assert result.ok
