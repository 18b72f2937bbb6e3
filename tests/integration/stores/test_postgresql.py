"""Many hosts, one history: what is PostgreSQL's own about the stores."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from adapters.stores import Stores
from adapters.stores.backup import backup, restore
from adapters.stores.batch import BatchWriter
from adapters.stores.check import check
from adapters.stores.lifecycle.steps import compress_monitoring, optimise, vacuum
from models.failures import (
    BadInputError,
    StoreBusyError,
    StoreConstraintError,
    StoreError,
    StoreFullError,
    StoreUnreachableError,
)
from models.settings import Settings
from models.storage import RetentionPolicy
from tests.integration.stores.test_batch import details, numbers, put
from tests.integration.stores.test_connections import operation
from tests.integration.stores.test_lifecycle import NOW, samples
from tests.integration.stores.test_transactions import contents, failed_start
from tests.integration.stores.values import ERROR
from tests.support.postgresql_server import PostgresqlForTests
from tests.support.store_rows import all_or_none, series

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse"


@pytest.fixture
def url(server: PostgresqlForTests) -> Iterator[str]:
    with server.database() as made:
        yield made


@pytest.fixture
def hosts(url: str, tmp_path: Path) -> Iterator[tuple[Stores, Stores]]:
    """The stores as two hosts see them, each with a folder of its own."""
    here, there = (Settings(data_dir=tmp_path / name, stores_url=url) for name in ("here", "there"))
    with Stores.open(here) as one, Stores.open(there, deadline_seconds=0.3) as other:
        yield one, other


def test_what_one_host_records_another_reads(hosts: tuple[Stores, Stores]) -> None:
    here, there = hosts
    all_or_none(here, failed_start(1))
    assert contents(there) == (1, 1, 1)


def test_hosts_that_want_one_environment_at_once_do_not_both_get_it(hosts: tuple[Stores, Stores]) -> None:
    together = threading.Barrier(2)
    taken: list[bool] = []

    def take(stores: Stores, owner: str) -> None:
        for place in range(20):
            together.wait()
            taken.append(stores.leases.acquire(f"e{place}", owner, "start", NOON, timedelta(1)).acquired)

    threads = [threading.Thread(target=take, args=(one, str(id(one)))) for one in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 20 + [True] * 20


def test_one_cause_seen_by_two_hosts_at_once_is_one_error(hosts: tuple[Stores, Stores]) -> None:
    def record(stores: Stores, name: str) -> None:
        for place in range(20):
            stores.errors.record(replace(ERROR, error_id=f"{name}-{place}"))

    threads = [threading.Thread(target=record, args=(one, str(id(one)))) for one in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [error] = hosts[0].errors.latest()
    assert error.count == 40


def test_a_writer_waits_for_the_other_host_then_gives_up_and_the_wait_is_counted(hosts: tuple[Stores, Stores]) -> None:
    here, there = hosts
    with here.databases["errors"].write(), pytest.raises(StoreBusyError, match="errors"):
        there.patterns.count_match("x", NOON)
    waits, seconds = there.waits.total()
    assert waits == 1
    assert seconds >= 0.3
    there.patterns.count_match("x", NOON)
    with here.databases["errors"].write():
        there.heartbeats.beat("another store", NOON)


def test_the_turn_of_a_host_that_died_is_free(hosts: tuple[Stores, Stores], server: PostgresqlForTests) -> None:
    here, there = hosts

    def die_in_a_transaction() -> None:
        with here.databases["errors"].write() as connection:
            process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            server.run(f"SELECT pg_terminate_backend({process}, 5000)")
            there.errors.record(ERROR)
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(StoreUnreachableError):
        die_in_a_transaction()
    assert there.errors.get("e1") == ERROR


def test_connections_lost_in_a_restart_of_the_server_are_made_anew(
    hosts: tuple[Stores, Stores], server: PostgresqlForTests
) -> None:
    here, _ = hosts
    here.operations.begin(operation("before"))
    server.control("restart", "-m", "fast")
    here.operations.begin(operation("after"))
    assert {one.deployment_id for one in here.operations.history()} == {"before", "after"}


def test_what_was_committed_is_there_after_a_crash_of_the_server(
    hosts: tuple[Stores, Stores], server: PostgresqlForTests
) -> None:
    here, _ = hosts
    for place in range(5):
        all_or_none(here, failed_start(place))
    server.control("restart", "-m", "immediate")
    assert contents(here) == (5, 5, 5)


def test_while_the_server_is_down_rows_wait_and_go_in_once(
    hosts: tuple[Stores, Stores], server: PostgresqlForTests
) -> None:
    here, _ = hosts
    with BatchWriter(here, batch_size=5) as writer:
        server.control("stop", "-m", "immediate")
        try:
            put(writer, *range(12))
            assert "is the server up" in (writer.trouble or "")
            with pytest.raises(StoreUnreachableError, match="monitoring"):
                here.heartbeats.all()
        finally:
            server.control("start")
        writer.flush()
        assert details(here) == numbers(12)


def test_rows_of_several_hosts_meet_in_one_store(hosts: tuple[Stores, Stores]) -> None:
    here, there = hosts
    with BatchWriter(here) as one, BatchWriter(there) as other:
        put(one, 0)
        put(other, 1)
    assert details(here) == numbers(2)


def test_the_same_key_twice_in_a_batch_leaves_the_last_value(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    old = [replace(one, value=1.0) for one in samples("bot", NOON, 1)]
    here.metrics.add([*old, *samples("bot", NOON, 1)])
    found = series(here, "prod", "bot", "cpu_percent", NOON)
    assert [value for _, value in found] == [float(minute) for minute in range(60)]


def test_zero_bytes_in_what_a_container_said_do_not_stop_the_record(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    here.errors.record(replace(ERROR, text="before\0after", evidence={"logs": "a\0b"}))
    [error] = here.errors.latest()
    assert error.text == "before\N{REPLACEMENT CHARACTER}after"
    assert error.evidence == {"logs": "a\0b"}


def test_a_broken_rule_is_reported_without_the_row(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    statement = (
        "INSERT INTO deployment_operations (deployment_id, operation_type, environment, status) "
        "VALUES ('very private', 'start', 'prod', 'asleep')"
    )
    with (
        pytest.raises(StoreConstraintError, match="status_is_known") as reported,
        here.databases["deployment_logs"].write() as connection,
    ):
        connection.exec_driver_sql(statement)
    assert "very private" not in str(reported.value)


def test_a_full_disk_is_reported_as_such(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    with pytest.raises(StoreFullError, match="free room"), here.databases["errors"].write() as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '53100'; END $$")


def test_a_password_comes_from_its_file_and_is_never_shown(
    server: PostgresqlForTests, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = server.folder / "cluster" / "pg_hba.conf"
    before = rules.read_text()
    with server.database() as url:
        database = url.split("@/")[1].split("?")[0]
        server.run(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
        server.run(f"ALTER DATABASE {database} OWNER TO guarded")
        for schema in ("deployment_logs", "monitoring", "errors"):
            server.run(f"GRANT ALL ON SCHEMA {schema} TO guarded", database)
            server.run(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO guarded", database)
        rules.write_text(f"local all guarded scram-sha-256\n{before}")
        server.run("SELECT pg_reload_conf()")
        try:
            file = tmp_path / "password"
            file.write_text(f"{PASSWORD}\n")
            guarded = server.url(database, user="guarded")
            settings = Settings(data_dir=tmp_path / "data", stores_url=guarded, stores_password_file=file)
            with Stores.open(settings) as stores:
                stores.heartbeats.beat("x", NOON)
                shown = " ".join(database.place for database in stores.databases.values())
            file.write_text("wrong")
            with pytest.raises(StoreUnreachableError, match="password authentication failed") as reported:
                Stores.open(settings)
        finally:
            rules.write_text(before)
            server.run("SELECT pg_reload_conf()")
            server.run("REASSIGN OWNED BY guarded TO roas; DROP OWNED BY guarded", database)
            server.run(f"ALTER DATABASE {database} OWNER TO roas; DROP ROLE guarded")
    assert PASSWORD not in shown + str(reported.value) + caplog.text + repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"postgresql://roas:{PASSWORD}@db/roas", "carries a password"),
        (f"postgresql://db/roas?password={PASSWORD}", "carries a password"),
        (f"roas {PASSWORD}", "cannot be read"),
        ("mysql://roas@db/roas", "names mysql"),
        ("postgresql://roas@db", "postgresql://user@host/database"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said) as reported:
        Stores.open(Settings(data_dir=tmp_path, stores_url=text))
    assert PASSWORD not in str(reported.value)


def test_a_password_file_that_cannot_be_read_is_reported(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ROAS_STORES_PASSWORD_FILE"):
        Stores.open(Settings(data_dir=tmp_path, stores_url=url, stores_password_file=tmp_path / "none"))


def test_a_password_file_that_is_a_fifo_is_refused_and_nothing_waits(url: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="no regular file"):
        Stores.open(Settings(data_dir=tmp_path, stores_url=url, stores_password_file=tmp_path / "fifo"))


def test_a_server_that_is_not_there_is_reported_with_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError, match="ROAS_STORES_URL"):
        Stores.open(Settings(data_dir=tmp_path, stores_url=f"postgresql://roas@/roas?host={tmp_path}"))


def test_a_user_who_may_not_make_schemas_is_reported(server: PostgresqlForTests, tmp_path: Path) -> None:
    server.run("CREATE ROLE weak LOGIN")
    server.run("CREATE DATABASE bare")
    try:
        with pytest.raises(StoreError, match="CREATE on the database"):
            Stores.open(Settings(data_dir=tmp_path, stores_url=server.url("bare", user="weak")))
    finally:
        server.run("DROP DATABASE bare WITH (FORCE)")
        server.run("DROP ROLE weak")


def test_schemas_are_made_once_by_hosts_that_come_at_once(server: PostgresqlForTests, tmp_path: Path) -> None:
    server.run("CREATE DATABASE fresh")
    failed: list[StoreError] = []

    def come(name: str) -> None:
        try:
            with Stores.open(Settings(data_dir=tmp_path / name, stores_url=server.url("fresh"))) as stores:
                stores.heartbeats.beat(name, NOON)
        except StoreError as error:
            failed.append(error)

    try:
        threads = [threading.Thread(target=come, args=(f"host{place}",)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        with psycopg.connect(server.url("fresh")) as connection:
            assert connection.execute("SELECT count(*) FROM monitoring.heartbeats").fetchone() == (4,)
    finally:
        server.run("DROP DATABASE fresh WITH (FORCE)")


def test_what_copies_files_says_how_postgresql_is_copied(
    hosts: tuple[Stores, Stores], url: str, tmp_path: Path
) -> None:
    here, _ = hosts
    with pytest.raises(BadInputError, match="pg_dump"):
        backup(here, tmp_path / "b", NOON)
    assert not (tmp_path / "b").exists()
    with pytest.raises(BadInputError, match="pg_restore"):
        restore(Settings(data_dir=tmp_path / "here", stores_url=url), tmp_path / "b")


def test_a_check_finds_an_index_that_does_not_hold(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    assert not any(report.faults for report in check(here, NOON))
    with here.databases["errors"].write() as connection:
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_deployment_errors_last_seen'::regclass"
        )
    faults = {report.store: report.faults for report in check(here, NOON)}
    assert any("idx_deployment_errors_last_seen is not valid" in fault for fault in faults["errors"])


def test_the_room_of_deleted_samples_is_used_again(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    here.metrics.add(samples("bot", NOW - timedelta(days=95), 96))
    compress_monitoring(here, NOW)
    optimise(here, NOW)
    with here.databases["monitoring"].write() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    step = vacuum(here, NOW, RetentionPolicy(vacuum_share=0.1))
    assert step.notes == ("monitoring: PostgreSQL keeps freed room for new rows",)
    assert vacuum(here, NOW, RetentionPolicy(vacuum_share=0.1)).notes == ()


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(hosts: tuple[Stores, Stores]) -> None:
    here, _ = hosts
    here.heartbeats.beat("parent", NOON)
    child = os.fork()
    if child == 0:
        here.heartbeats.beat("child", NOON)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    here.heartbeats.beat("parent again", NOON)
    assert set(here.heartbeats.all()) == {"parent", "child", "parent again"}


def test_a_server_that_does_not_answer_is_away_as_one_that_refuses(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://roas@127.0.0.1:{silent.getsockname()[1]}/roas"
        with (
            pytest.raises(StoreUnreachableError, match="connection timeout expired"),
            Stores.open(Settings(data_dir=tmp_path, stores_url=url)),
        ):
            pass
