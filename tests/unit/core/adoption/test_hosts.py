"""Which variables name another service's host."""

from __future__ import annotations

import pytest

from core.adoption.hosts import hosts_named, machine_ports

SERVICES = {"db", "cache", "mq", "kafka-1", "kafka-2"}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("DATABASE_URL", "postgres://shop:p%40ss@db:5432/shop", ["db"]),
        ("DATABASE_URL", "postgresql+asyncpg://shop@db/shop?sslmode=off", ["db"]),
        ("CELERY_BROKER_URL", "amqp://guest:guest@mq//", ["mq"]),
        ("REDIS_HOST", "cache", ["cache"]),
        ("DB_HOSTNAME", "db", ["db"]),
        ("REDIS", "cache:6379", ["cache"]),
        ("MONGO_URL", "mongodb://db:27017,cache:27017/app", ["db", "cache"]),
        ("BOOTSTRAP_SERVERS", "kafka-1:9092,kafka-2:9092", ["kafka-1", "kafka-2"]),
        ("DSN", "host=db port=5432 user=shop", ["db"]),
        ("CONNECTION", "Server=tcp:db,1433;Database=shop", ["db"]),
        ("JDBC", "jdbc:postgresql://db:5432/shop", ["db"]),
        ("DB_NAME", "db", []),
        ("POSTGRES_DB", "db", []),
        ("PUBLIC_URL", "https://db.example.com/", []),
        ("MODE", "cache", []),
        ("NOTE", "the db is at 5", []),
    ],
)
def test_hosts_of_a_value(name: str, value: str, found: list[str]) -> None:
    assert list(hosts_named(name, value, SERVICES)) == found


@pytest.mark.parametrize(
    ("environment", "host_network", "found"),
    [
        ({"DATABASE_URL": "postgres://shop:pw@host.docker.internal:5432/shop"}, False, [5432]),
        ({"DB_HOST": "host.docker.internal", "DB_PORT": "3306"}, False, [3306]),
        ({"DB_HOST": "host.docker.internal"}, False, []),
        ({"DB_HOST": "host.docker.internal", "DB_PORT": "default"}, False, []),
        ({"BROKERS": "172.17.0.1:9092,db:9093"}, False, [9092]),
        ({"DSN": "shop@tcp(127.0.0.1:3306)/shop", "REDIS": "redis://localhost:6379/0"}, False, []),
        ({"REDIS": "redis://localhost:6379/0"}, True, [6379]),
        ({"NOT_IT": "my.host.docker.internal:5432", "TIME": "12:30"}, False, []),
    ],
)
def test_ports_of_the_machine_are_found_in_variables(
    environment: dict[str, str], host_network: bool, found: list[int]
) -> None:
    assert list(machine_ports(environment, host_network=host_network)) == found
