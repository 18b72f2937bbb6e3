"""Which variables name another service's host."""

from __future__ import annotations

import pytest

from core.adoption.hosts import hosts_named

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
