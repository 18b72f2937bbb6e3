"""Many threads and processes write at once, and every error of a file is reported in the terms of this program."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from adapters.stores import Stores
from adapters.stores.gate import Gate
from models.failures import BadInputError, StoreBusyError, StoreConstraintError, StoreCorruptError, StoreError
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from tests.support.forked import OWN
from tests.support.store_rows import series, set_aside

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def operation(name: str) -> Operation:
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.RUNNING,
        started_at=NOON,
    )


def write_many(settings: Settings, writer: str, count: int) -> None:
    with Stores.open(settings) as stores:
        for place in range(count):
            stores.operations.begin(operation(f"{writer}-{place}"))
            stores.heartbeats.beat(writer, NOON)


def write_as(stores: Stores, name: str) -> None:
    stores.operations.begin(operation(name))


def test_many_processes_and_threads_write_at_once(settings: Settings) -> None:
    processes = [OWN.Process(target=write_many, args=(settings, f"p{place}", 25)) for place in range(3)]
    threads = [threading.Thread(target=write_many, args=(settings, f"t{place}", 25)) for place in range(3)]
    for one in [*processes, *threads]:
        one.start()
    for one in [*processes, *threads]:
        one.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Stores.open(settings) as stores:
        assert len(stores.operations.history(limit=1000)) == 150
        assert len(stores.heartbeats.all()) == 6


def test_who_opens_the_stores_while_another_makes_them_misses_none(settings: Settings) -> None:
    opened: list[Stores] = []
    threads = [threading.Thread(target=lambda: opened.append(Stores.open(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    tickets = opened[0].tickets.find()

    for stores in opened:
        stores.close()
    assert (len(opened), tickets) == (4, [])


def test_a_forked_child_writes_through_connections_of_its_own(stores: Stores) -> None:
    stores.operations.begin(operation("parent-1"))
    child = multiprocessing.get_context("fork").Process(target=write_as, args=(stores, "child"))
    child.start()
    child.join()
    stores.operations.begin(operation("parent-2"))
    assert child.exitcode == 0
    assert {one.deployment_id for one in stores.operations.history()} == {"parent-1", "parent-2", "child"}


@pytest.mark.files
def test_a_child_forked_while_the_gate_is_held_does_not_keep_it(settings: Settings, stores: Stores) -> None:
    with stores.databases["deployment_logs"].gate.hold(1, "parent"):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(0)
    with Gate(stores.databases["deployment_logs"].gate.path).hold(1, "another"):
        pass
    os.write(writer, b"x")
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)


@pytest.mark.files
def test_a_writer_that_waited_too_long_says_so(settings: Settings, stores: Stores) -> None:
    with (
        Gate(stores.databases["deployment_logs"].gate.path).hold(1, "another"),
        pytest.raises(StoreBusyError, match=r"waited 0\.05 s"),
        stores.databases["deployment_logs"].gate.hold(0.05, "writer"),
    ):
        pass
    with stores.databases["deployment_logs"].gate.hold(1, "writer"):
        pass


@pytest.mark.files
def test_a_lock_that_comes_too_late_is_given_back(stores: Stores) -> None:
    other = Gate(stores.databases["deployment_logs"].gate.path)
    with (
        other.hold(1, "another"),
        pytest.raises(StoreBusyError),
        stores.databases["deployment_logs"].gate.hold(0.01, "writer"),
    ):
        pass
    with other.hold(5, "another"):
        pass


@pytest.mark.files
def test_stores_that_are_opened_twice_in_a_process_keep_their_locks(stores: Stores, settings: Settings) -> None:
    write_as(stores, "before")
    with Stores.open(settings) as second:
        write_as(second, "second")
    logs = stores.databases["deployment_logs"].path
    code = f"import sqlite3; print(sqlite3.connect({str(logs)!r}).execute('PRAGMA data_version').fetchone())"

    # Were it the last to have the file open, it would move the write-ahead log into it and take the log away.
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    assert logs.with_name(f"{logs.name}-wal").exists()
    write_as(stores, "after")
    assert {one.deployment_id for one in stores.operations.history()} == {"before", "second", "after"}


@pytest.mark.files
def test_the_gate_of_a_killed_holder_is_free(stores: Stores) -> None:
    gate = stores.databases["deployment_logs"].gate
    code = (
        "import sys; from pathlib import Path; from adapters.stores.gate import Gate\n"
        f"with Gate(Path({str(gate.path)!r})).hold(5, 'child'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "held\n"
        child.kill()
    write_as(stores, "after")


def test_a_reader_changes_nothing(stores: Stores) -> None:
    with stores.databases["errors"].read() as connection, pytest.raises(Exception, match=r"read-?only"):
        connection.exec_driver_sql("DELETE FROM error_patterns")


def test_a_reader_sees_one_moment(stores: Stores) -> None:
    with stores.databases["deployment_logs"].read() as connection:
        count = "SELECT count(*) FROM deployment_operations"
        assert connection.exec_driver_sql(count).scalar() == 0
        write_as(stores, "meanwhile")
        assert connection.exec_driver_sql(count).scalar() == 0


def test_what_fails_inside_a_transaction_is_undone(stores: Stores) -> None:
    def beat_then_fail() -> None:
        with stores.databases["monitoring"].write() as connection:
            connection.exec_driver_sql("INSERT INTO heartbeats VALUES ('x', '2026-07-01 12:00:00.000000')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        beat_then_fail()
    assert stores.heartbeats.all() == {}


def test_a_broken_rule_is_reported_with_the_store(stores: Stores) -> None:
    with (
        pytest.raises(StoreConstraintError, match=r"monitoring.*status_is_known"),
        stores.databases["monitoring"].write() as connection,
    ):
        connection.exec_driver_sql(
            "INSERT INTO service_dependencies (service_name, depends_on_service, dependency_type, health_impact, "
            "status) VALUES ('a', 'b', 'required', 'low', 'asleep')"
        )


@pytest.mark.files
@pytest.mark.parametrize("damage", ["not a database", "cut short"])
def test_a_damaged_store_is_set_aside_and_the_rest_goes_on(settings: Settings, damage: str) -> None:
    with Stores.open(settings) as stores:
        write_as(stores, "kept")
        stores.heartbeats.beat("x", NOON)
        with stores.databases["deployment_logs"].gate.hold(5, "test"):
            stores.databases["monitoring"].checkpoint()
    path = settings.store_path("monitoring")
    whole = path.read_bytes()
    broken = b"not a database at all" * 400 if damage == "not a database" else whole[: len(whole) // 2]
    path.write_bytes(broken)
    with Stores.open(settings) as stores:
        [aside] = set_aside(stores)
        assert aside.read_bytes() == broken
        assert stores.heartbeats.all() == {}
        stores.heartbeats.beat("y", NOON)
        assert stores.operations.get("kept")


@pytest.mark.files
def test_damage_found_while_running_leads_to_a_new_store_at_the_next_write(settings: Settings, stores: Stores) -> None:
    samples = [
        Metric(environment="prod", service="s", name="m", value=1.0, sampled_at=NOON + timedelta(seconds=place))
        for place in range(5000)
    ]
    stores.metrics.add(samples)
    with stores.databases["deployment_logs"].gate.hold(5, "test"):
        stores.databases["monitoring"].checkpoint()
    stores.databases["monitoring"].close()
    with settings.store_path("monitoring").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * (settings.store_path("monitoring").stat().st_size - 4096 * 3))
    with pytest.raises(StoreCorruptError, match="monitoring"):
        series(stores, "prod", "s", "m", NOON)
    stores.heartbeats.beat("x", NOON)
    assert len(set_aside(stores)) == 1
    assert stores.heartbeats.all() == {"x": NOON}


@pytest.mark.files
def test_a_store_deleted_under_the_running_system_is_an_error_not_an_empty_store(
    settings: Settings, stores: Stores
) -> None:
    settings.store_path("errors").unlink()
    with pytest.raises(StoreError, match="deleted while it was open"):
        stores.patterns.all()
    with pytest.raises(StoreError, match="deleted while it was open"):
        stores.patterns.count_match("x", NOON)
    assert not settings.store_path("errors").exists()


@pytest.mark.files
def test_a_data_folder_that_cannot_be_made_is_reported(settings: Settings) -> None:
    settings.data_dir.write_text("a file")
    with pytest.raises(BadInputError, match="set ROAS_DATA_DIR to a folder"):
        Stores.open(settings)


@pytest.mark.files
def test_a_program_that_holds_a_store_makes_a_writer_wait_then_give_up(settings: Settings) -> None:
    with Stores.open(settings, deadline_seconds=0.05) as stores:
        other = sqlite3.connect(settings.store_path("errors"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="errors"):
            stores.patterns.count_match("x", NOON)
        other.execute("ROLLBACK")
        other.close()
        stores.patterns.count_match("x", NOON)


@pytest.mark.files
def test_every_connection_has_the_settings_that_keep_data_safe(stores: Stores) -> None:
    wanted = {"journal_mode": "wal", "foreign_keys": 1, "mmap_size": 0}
    for name, database in stores.databases.items():
        with database.read() as reader, database.write() as writer:
            for connection in (reader, writer):
                found = {key: connection.exec_driver_sql(f"PRAGMA {key}").scalar() for key in wanted}
                assert found == wanted
                level = 2 if name == "deployment_logs" else 1
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
