"""What was written since a snapshot, in figures that a person understands."""

from __future__ import annotations

import pytest

from core.storage.changes import counters_in, describe_later_writes, files_since
from core.storage.dumps import counters_command
from models.snapshots import MariadbData, PostgresqlData, RedisData, SqliteData

POSTGRESQL = PostgresqlData(kind="postgresql", service="db")
MARIADB = MariadbData(kind="mariadb", service="db", database="shop")
REDIS = RedisData(kind="redis", service="cache")
THEN = counters_in(POSTGRESQL, "public.goods\t16400\t10\t2\t1\t9\npublic.old\t16401\t4\t0\t0\t4\n")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("public.goods\t16400\t10\t2\t1\t9\npublic.old\t16401\t4\t0\t0\t4\n", "no row was written"),
        (
            "public.goods\t16400\t1210\t5\t2\t1208\npublic.old\t16401\t4\t0\t0\t4\n",
            "public.goods: rows 1,200 added, 3 changed, 1 deleted",
        ),
        ("public.goods\t16400\t10\t2\t1\t9\n", "public.old was dropped"),
        (
            "public.goods\t16500\t1\t0\t0\t1\npublic.old\t16401\t4\t0\t0\t0\npublic.new\t9\t2\t0\t0\t2\n",
            (
                "public.old was emptied of 4 rows; public.new was made, with 2 rows; "
                "public.goods was made anew, with 1 row"
            ),
        ),
        ("public.goods\t16400\t3\t0\t0\t3\n", "not counted: the server's statistics began anew"),
    ],
)
def test_rows_of_postgresql_are_counted_by_the_server(now: str, said: str) -> None:
    assert describe_later_writes(POSTGRESQL, THEN, counters_in(POSTGRESQL, now)) == said


def test_tables_beyond_the_first_are_only_counted() -> None:
    now = {f"public.t{number}": [number, 1, 0, 0, 1] for number in range(1, 9)}
    assert describe_later_writes(POSTGRESQL, {}, now).endswith("; 3 more tables")


def test_other_servers_say_sizes_and_keys() -> None:
    sizes = (counters_in(MARIADB, "1048576\n"), counters_in(MARIADB, "3145728\n"))
    assert describe_later_writes(MARIADB, *sizes) == "1.0 MiB then, 3.0 MiB now"
    assert describe_later_writes(REDIS, {"keys": 3}, counters_in(REDIS, "1200\n")) == "3 keys then, 1,200 now"


def test_a_snapshot_without_figures_says_so() -> None:
    assert describe_later_writes(REDIS, None, {"keys": 1}) == "not counted: the snapshot has no figures of then"
    assert counters_command(SqliteData(kind="sqlite", service="app", file="/a")) == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (0, "no file was written; 5 files then, 4 now"),
        (1, "1 file (2.0 KiB) added or changed; 5 files then, 4 now"),
        (2, "2 files (2.0 KiB) added or changed; 5 files then, 4 now"),
    ],
)
def test_files_are_counted_by_their_time_of_change(changed: int, said: str) -> None:
    assert files_since(changed, 2048, 4, 5) == said


def test_one_file_is_one() -> None:
    assert files_since(0, 0, 1, 1) == "no file was written; 1 file then, 1 now"
