"""The programs that dump and load databases."""

from __future__ import annotations

import pytest

from core.storage.dumps import (
    counts_in,
    dump_command,
    load_of,
    question_command,
    ready_command,
    redis_facts,
    redis_files,
    rows_command,
)
from models.snapshots import DatabaseData, MariadbData, PostgresqlData, RedisData, SqliteData

POSTGRESQL = PostgresqlData(kind="postgresql", service="db", user="shop", password_secret="SHOP_PASSWORD")
MARIADB = MariadbData(kind="mariadb", service="db", database="shop")
REDIS = RedisData(kind="redis", service="cache", password_secret="SHOP_PASSWORD")
SQLITE = SqliteData(kind="sqlite", service="app", file="/srv/it's.db")


@pytest.mark.parametrize("data", [POSTGRESQL, MARIADB, REDIS])
def test_no_argument_asks_for_a_password(data: PostgresqlData | MariadbData | RedisData) -> None:
    words = [*dump_command(data), *question_command(data), *ready_command(data)]
    without = [word.replace("--no-password", "").replace("--no-role-passwords", "") for word in words]
    assert not [word for word in without if "assw" in word]


def test_a_load_of_postgresql_ends_only_with_its_last_words() -> None:
    load = load_of(POSTGRESQL)
    assert "--single-transaction" not in load.command
    assert "BEGIN;" in load.before
    assert "COMMIT" not in load.before
    assert load.after.strip() == "COMMIT;"


def test_names_reach_programs_as_arguments() -> None:
    def last(data: DatabaseData) -> str:
        return dump_command(data)[-1]

    assert last(SQLITE) == "/srv/it's.db"
    assert last(MARIADB.model_copy(update={"database": "a b; drop"})) == "a b; drop"
    assert "`odd``name`" in rows_command(MARIADB, ("odd`name",))[-1]


def test_redis_says_where_its_files_are() -> None:
    facts = redis_facts("dir\n/data\ndbfilename\ndump.rdb\nappendonly\nno\n")
    assert redis_files(facts).path == "/data/dump.rdb"
    assert redis_files(redis_facts("NOPERM this user has no permissions\n")).path == "/data/dump.rdb"


def test_redis_with_an_append_only_log_loads_a_dump_from_its_manifest() -> None:
    facts = {"dir": "/var/lib/redis", "appendonly": "yes", "appenddirname": "aof", "appendfilename": "log.aof"}
    files = redis_files(facts)
    assert files.path == "/var/lib/redis/aof/log.aof.1.base.rdb"
    assert (files.remove, files.manifest) == (("/var/lib/redis/aof",), "/var/lib/redis/aof/log.aof.manifest")
    assert files.manifest_text == "file log.aof.1.base.rdb seq 1 type b"


def test_counts_are_read_from_lines() -> None:
    assert counts_in("public.a b\t12\npublic.c\t0\n\nwarning: x\n") == {"public.a b": 12, "public.c": 0}
