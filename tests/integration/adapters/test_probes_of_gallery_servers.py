"""Probes of MariaDB, its replica, and RabbitMQ in containers of the gallery's image."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pika
import pytest

from adapters.docker.engine import DockerEngine
from models.analysis import Level
from models.environments import AmqpProbe, MysqlProbe
from models.health import ProbeResult
from tests.integration.adapters.conftest import ComposeProject, projects
from tests.support.probed import ask, falling_silent

pytestmark = [pytest.mark.engine]
PASSWORD, WRONG = "s3cret-of-the-servers", "not-the-s3cret-at-all"
SERVERS = f"""\
services:
  db:
    image: roas/gallery:local
    command: [start-mariadb, --log-bin, --server-id=1]
    environment: {{MARIADB_USER: shop, MARIADB_DATABASE: shop, MARIADB_PASSWORD: {PASSWORD}}}
  replica:
    image: roas/gallery:local
    command: [start-mariadb, --server-id=2, --skip-ssl]
    environment: {{MARIADB_USER: shop, MARIADB_DATABASE: shop, MARIADB_PASSWORD: {PASSWORD}}}
  broker:
    image: roas/gallery:local
    command: [rabbitmq-server]
    hostname: broker
"""
BUILD = Path(__file__).parents[2] / "e2e" / "gallery" / "image" / "build.sh"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, engine: DockerEngine) -> Iterator[ComposeProject]:
    subprocess.run([BUILD], check=True, capture_output=True)
    with projects(tmp_path_factory.mktemp("servers"), engine) as make:
        project = make(SERVERS)
        project.started()
        yield project


def inside(project: ComposeProject, service: str, *command: str) -> str:
    """Run a command in a container until it succeeds, which it does once the server is up."""
    for _ in range(60):
        code, printed = project.engine.containers.exec(
            project.one(service).container_id, list(command), timedelta(seconds=60)
        )
        if code == 0:
            return printed
    raise AssertionError(f"{service}: {printed}")


def sql(project: ComposeProject, service: str, statements: str) -> str:
    return inside(project, service, "mariadb", "--skip-ssl", "--batch", "--skip-column-names", "-e", statements)


@pytest.fixture(scope="module")
def database(servers: ComposeProject) -> ComposeProject:
    for service in ("db", "replica"):
        sql(servers, service, "select 1 from mysql.user where user = 'shop'")
    return servers


def mysql(**fields: object) -> MysqlProbe:
    login = {"user": "shop", "database": "shop", "password_secret": "PW"}
    return MysqlProbe.model_validate({"kind": "mysql"} | login | fields)


async def asked(
    project: ComposeProject, probe: MysqlProbe | AmqpProbe, service: str = "db", password: str = PASSWORD
) -> ProbeResult:
    result = await ask(project, probe, service, PW=password)
    assert PASSWORD not in result.detail
    assert WRONG not in result.detail
    return result


@pytest.mark.parametrize(
    ("fields", "ok", "detail"),
    [
        ({}, True, "query 'select 1' returned 1 row"),
        ({"query": "select database()", "value": "shop"}, True, "returned 1 row"),
        ({"query": "select 'x' from dual where false", "rows": 0}, True, "returned 0 rows"),
        ({"value": "7"}, False, "query 'select 1' returned '1', not '7'"),
        ({"query": "select * from orders"}, False, "is the schema migrated"),
        ({"query": "create table orders (n int)"}, False, "would change data, and a probe only reads"),
        ({"query": "selec 1"}, False, "error in your SQL syntax"),
        ({"query": "select sleep(60)", "timeout_seconds": 0.5}, False, "0.5 s"),
        ({"database": "other"}, False, "was refused at database other"),
        ({"user": "nobody"}, False, "compare user and secret PW with the server's"),
        ({"password_secret": None}, False, "set password_secret if it has a password"),
        ({"replication_lag_seconds": 1}, False, "grant user shop REPLICATION CLIENT"),
    ],
)
async def test_a_database_is_judged_by_its_answer(database: ComposeProject, fields, ok, detail) -> None:
    result = await asked(database, mysql(**fields))
    assert result.ok is ok, result.detail
    assert detail in result.detail


async def test_a_database_refuses_a_wrong_password(database: ComposeProject) -> None:
    result = await asked(database, mysql(), password=WRONG)
    assert not result.ok
    assert "was refused: Access denied for user 'shop'" in result.detail


async def test_a_database_that_falls_silent_in_a_query_ends_at_the_time_limit(
    database: ComposeProject, on_the_host: ComposeProject
) -> None:
    # The replica has no TLS, so that the relay can read along.
    address = next(iter(database.one("replica").addresses.values()))
    async with falling_silent(3306, b"select 4711", address) as port:
        result = await asked(on_the_host, mysql(port=port, query="select 4711", timeout_seconds=0.5), "it")
    assert (result.ok, result.detail) == (False, "no answer within 0.5 s")


async def test_a_replica_follows_lags_and_loses_its_primary(database: ComposeProject) -> None:
    sql(database, "db", f"create or replace user copy identified by '{PASSWORD}'; grant all on *.* to copy")
    sql(
        database,
        "replica",
        f"create or replace user copy identified by '{PASSWORD}'; grant all on *.* to copy;"
        f"change master to master_host='db', master_user='copy', master_password='{PASSWORD}',"
        "master_use_gtid=no, master_connect_retry=1; start replica",
    )
    probe = mysql(user="copy", replication_lag_seconds=0.5)
    primary = await asked(database, probe)
    assert "it is a primary" in primary.detail
    following = await until(database, probe, "it is 0.0 s behind its primary")
    assert following.ok

    sql(database, "replica", "stop replica; change master to master_delay=600; start replica")
    sql(database, "db", "create or replace table shop.later (n int)")
    behind = await until(database, probe, "more than 0.5 s")
    assert behind.ok
    assert (behind.readings[0].concern, behind.readings[0].degrades) == (Level.WARNING, True)

    sql(database, "replica", "stop replica sql_thread")
    assert not (await until(database, probe, "its replication has stopped")).ok
    sql(database, "replica", "start replica")
    database.engine.containers.stop(database.one("db").container_id, timedelta(seconds=10))
    try:
        assert not (await until(database, probe, "has lost its primary: it receives nothing")).ok
    finally:
        database.engine.containers.start(database.one("db").container_id)


async def until(project: ComposeProject, probe: MysqlProbe, what: str) -> ProbeResult:
    """Ask the replica until the answer has these words."""
    for _ in range(200):
        result = await asked(project, probe, "replica")
        said = [result.detail, *(one.words for one in result.readings)]
        if any(what in one for one in said):
            return result
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what!r} was never said, but {said}")


@pytest.fixture(scope="module")
def broker(servers: ComposeProject) -> ComposeProject:
    inside(servers, "broker", "rabbitmqctl", "await_startup", "--timeout", "60")
    inside(servers, "broker", "rabbitmqctl", "add_user", "shop", PASSWORD)
    inside(servers, "broker", "rabbitmqctl", "add_vhost", "closed")
    inside(servers, "broker", "rabbitmqctl", "set_permissions", "shop", ".*", ".*", ".*")
    host = next(iter(servers.one("broker").addresses.values()))
    login = pika.PlainCredentials("shop", PASSWORD)
    with pika.BlockingConnection(pika.ConnectionParameters(host=host, credentials=login)) as connection:
        channel = connection.channel()
        channel.queue_declare("orders")
        for _ in range(3):
            channel.basic_publish("", "orders", b"one")
        channel.queue_declare("orders", passive=True)
    return servers


def amqp(**fields: object) -> AmqpProbe:
    return AmqpProbe.model_validate({"kind": "amqp", "user": "shop", "password_secret": "PW"} | fields)


@pytest.mark.parametrize(
    ("fields", "ok", "detail"),
    [
        ({}, True, "the broker opens a channel"),
        ({"queue": "orders"}, True, "queue orders has 3 messages ready and 0 consumers"),
        ({"queue": "orders", "max_messages": 3}, True, "3 messages ready"),
        ({"queue": "gone"}, False, "queue gone is missing: 404 NOT_FOUND"),
        ({"virtual_host": "nowhere"}, False, "does this virtual host exist"),
        ({"virtual_host": "closed"}, False, "has the user permissions in it"),
        ({"user": "nobody"}, False, "compare user and secret PW with the broker's"),
        ({"user": "guest", "password_secret": None}, False, "guest may log in from the broker's own machine only"),
    ],
)
async def test_a_broker_is_judged_by_its_answer(broker: ComposeProject, fields, ok, detail) -> None:
    result = await asked(broker, amqp(**fields), "broker")
    assert result.ok is ok, result.detail
    assert detail in result.detail


async def test_a_broker_refuses_a_wrong_password(broker: ComposeProject) -> None:
    result = await asked(broker, amqp(), "broker", WRONG)
    assert not result.ok
    assert "was refused" in result.detail
    assert "ACCESS_REFUSED" in result.detail


async def test_a_queue_that_grows_too_long_degrades_its_broker(broker: ComposeProject) -> None:
    result = await asked(broker, amqp(queue="orders", max_messages=2), "broker")
    assert result.ok
    (reading,) = result.readings
    assert (reading.metric, reading.value, reading.threshold, reading.degrades) == ("queue_messages", 3, 2, True)
    assert "more than 2 messages" in reading.words


async def test_a_broker_that_falls_silent_ends_at_the_time_limit(
    broker: ComposeProject, on_the_host: ComposeProject
) -> None:
    address = next(iter(broker.one("broker").addresses.values()))
    async with falling_silent(5672, b"orders", address) as port:
        result = await asked(on_the_host, amqp(port=port, queue="orders", timeout_seconds=0.5), "it")
    assert (result.ok, result.detail) == (False, "no answer within 0.5 s")
