"""A row the batch writer accepted is written once, whatever dies meanwhile."""

import math
import multiprocessing
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count

import pytest
from sqlmodel import Session

from adapters.stores import Stores, spools
from adapters.stores.batch import BatchWriter
from models.failures import StoreConstraintError, StoreFullError
from models.health import ProbeResult
from models.metrics import Metric
from models.operations import OperationType
from models.settings import Settings
from models.tables.deployment_logs import DeploymentOperation, ServiceStateChange
from models.tables.monitoring import DeploymentHealth, MetricSample, ProbeRow
from tests.support.forked import OWN
from tests.support.store_rows import probe_rows, series

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def writer(stores: Stores) -> Iterator[BatchWriter]:
    with BatchWriter(stores) as opened:
        yield opened


def probe(place: int) -> dict:
    return {
        "checked_at": NOON + timedelta(seconds=place),
        "environment": "prod",
        "service": "bot",
        "kind": "http",
        "target": "t",
        "ok": True,
        "detail": str(place),
        "latency_ms": 1.5,
    }


def details(stores: Stores) -> list[str]:
    return [one["detail"] for one in probe_rows(stores)]


def numbers(count: int) -> list[str]:
    return [str(place) for place in range(count)]


def test_a_full_batch_is_written_at_once_and_the_rest_at_a_flush(stores: Stores, writer: BatchWriter) -> None:
    for place in range(150):
        writer.put(ProbeRow, probe(place))
    assert details(stores) == numbers(100)
    assert writer._folder.waiting_bytes() > 0
    writer.flush()
    assert details(stores) == numbers(150)
    assert writer._folder.waiting_bytes() == 0


def test_closing_writes_what_waits_and_leaves_no_spool(stores: Stores, settings: Settings) -> None:
    with BatchWriter(stores) as writer:
        writer.put(ProbeRow, probe(0))
    assert details(stores) == ["0"]
    assert list((settings.data_dir / "spool").rglob("*.spool")) == []
    with stores.databases["monitoring"].read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM spool_positions").scalar() == 0


def test_what_is_stored_is_what_a_session_stores(stores: Stores, writer: BatchWriter) -> None:
    values = {
        "timestamp": NOON.astimezone(timezone(timedelta(hours=2))),
        "deployment_id": "prod-1",
        "overall_health": "healthy",
        "services_total": 3,
        "system_load_avg": 0.25,
        "report": {"services": [], "text": "ä"},
    }
    writer.put(DeploymentHealth, values)
    writer.flush()
    with stores.databases["monitoring"].write() as connection, Session(connection) as session:
        session.add(DeploymentHealth(**values))
        session.flush()
    with stores.databases["monitoring"].read() as connection:
        ours, theirs = connection.exec_driver_sql("SELECT * FROM deployment_health_history").all()
    assert ours[1:] == theirs[1:]
    assert str(ours.timestamp).startswith("2026-07-01 12:00:00")


def test_what_is_stored_is_the_same_whether_rows_were_read_back_or_not(stores: Stores) -> None:
    odd = [None, 3, True, 2.5, math.inf, -math.inf, math.nan, Decimal("1.5")]
    rows = [probe(place) | {"latency_ms": value, "detail": OperationType.START} for place, value in enumerate(odd)]
    with BatchWriter(stores) as other, BatchWriter(stores) as writer:
        writer.put_many(ProbeRow, rows)
        writer.flush()
        other.put_many(ProbeRow, rows)
        writer.flush()
    with stores.databases["monitoring"].read() as connection:
        found = connection.exec_driver_sql("SELECT latency_ms, detail FROM probe_results ORDER BY id").all()
    assert found[: len(odd)] == found[len(odd) :]
    assert len(found) == 2 * len(odd)


def test_columns_left_out_get_their_defaults(stores: Stores, writer: BatchWriter) -> None:
    operation = {"deployment_id": "d", "operation_type": "start", "environment": "prod", "status": "running"}
    writer.put(DeploymentOperation, operation)
    writer.flush()
    assert stores.operations.get("d").started_at is not None


def test_rows_of_one_table_may_each_have_other_columns(stores: Stores, writer: BatchWriter) -> None:
    # As many columns as the row before, but not the same.
    other = {name: given for name, given in probe(1).items() if name != "latency_ms"} | {"id": 7}
    for row in (probe(0), other, probe(2)):
        writer.put(ProbeRow, row)
    writer.flush()
    assert {one["detail"]: one["latency_ms"] for one in probe_rows(stores)} == {"0": 1.5, "1": None, "2": 1.5}


def test_owners_are_written_before_what_refers_to_them(stores: Stores, writer: BatchWriter) -> None:
    for place in range(10):
        writer.put(
            DeploymentOperation,
            {"deployment_id": f"d{place}", "operation_type": "start", "environment": "prod", "status": "running"},
        )
        writer.put(ServiceStateChange, {"deployment_id": f"d{place}", "service_name": "bot", "new_state": "up"})
    writer.flush()
    assert all(len(stores.progress.changes(f"d{place}")) == 1 for place in range(10))


def test_a_row_with_a_key_of_its_own_replaces_the_one_before(stores: Stores, writer: BatchWriter) -> None:
    for value in (1.0, 2.0):
        writer.put(MetricSample, {"ts": 5, "series": 1, "value": value})
    writer.flush()
    with stores.databases["monitoring"].read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM metric_samples").scalars().all() == [2.0]


def test_a_row_that_breaks_a_rule_is_kept_apart_and_the_rest_is_written(stores: Stores, writer: BatchWriter) -> None:
    for place in range(40):
        writer.put(ProbeRow, probe(place) | ({"detail": None} if place in (7, 23) else {}))
    writer.flush()
    assert details(stores) == [one for one in numbers(40) if one not in ("7", "23")]
    with stores.databases["monitoring"].read() as connection:
        letters = connection.exec_driver_sql("SELECT target, reason, payload FROM dead_letters").all()
    assert [letter.target for letter in letters] == ["probe_results"] * 2
    assert re.search("(?i)not.null constraint", letters[0].reason)
    assert "prod" not in letters[0].reason
    assert '"checked_at":"2026-07-01 12:00:07.000000"' in letters[0].payload


def test_a_value_of_the_wrong_kind_is_refused_at_once(writer: BatchWriter) -> None:
    with pytest.raises(StoreConstraintError, match="no time zone"):
        writer.put(ProbeRow, probe(0) | {"checked_at": datetime(2026, 1, 1)})  # noqa: DTZ001
    with pytest.raises(StoreConstraintError, match="no column 'colour'"):
        writer.put(ProbeRow, probe(0) | {"colour": "red"})


def put_and_die(settings: Settings) -> None:
    writer = BatchWriter(Stores.open(settings), batch_size=1000)
    for place in range(37):
        writer.put(ProbeRow, probe(place))
    os.kill(os.getpid(), signal.SIGKILL)


def put_then_die(settings: Settings) -> None:
    dying = OWN.Process(target=put_and_die, args=(settings,))
    dying.start()
    dying.join()
    assert dying.exitcode == -9


def test_rows_of_a_killed_process_are_written_by_the_next(stores: Stores, settings: Settings) -> None:
    put_then_die(settings)
    with BatchWriter(stores) as writer:
        writer.flush()
        assert details(stores) == numbers(37)
        assert list((settings.data_dir / "spool").rglob("*.spool")) == []


def test_a_record_the_killed_process_did_not_finish_was_never_accepted(stores: Stores, settings: Settings) -> None:
    put_then_die(settings)
    [spool] = stores.spool_folder.glob("monitoring-*.spool")
    with spool.open("r+b") as file:
        file.truncate(spool.stat().st_size - 3)
    with BatchWriter(stores) as writer:
        writer.flush()
        assert details(stores) == numbers(36)
    assert not spool.exists()


def test_a_flusher_that_died_before_its_commit_doubles_nothing(stores: Stores, settings: Settings, monkeypatch) -> None:
    put_then_die(settings)
    with BatchWriter(stores) as writer:
        monkeypatch.setattr("adapters.stores.batch.rows_of", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.flush()
        monkeypatch.undo()
        assert details(stores) == []
        writer.flush()
        writer.flush()
        assert details(stores) == numbers(37)


def put_many(settings: Settings, name: str, count: int) -> None:
    with Stores.open(settings) as stores, BatchWriter(stores, batch_size=10) as writer:
        for place in range(count):
            writer.put(ProbeRow, probe(place) | {"service": name})


def test_many_processes_write_at_once_and_each_keeps_its_order(stores: Stores, settings: Settings) -> None:
    processes = [OWN.Process(target=put_many, args=(settings, f"p{place}", 200)) for place in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for place in range(3):
        found = [one for one in probe_rows(stores) if one["service"] == f"p{place}"]
        assert [one["detail"] for one in found] == numbers(200)


def put_in_child(writer: BatchWriter) -> None:
    writer.put(ProbeRow, probe(1))
    writer.flush()


def test_a_forked_child_has_a_spool_of_its_own(stores: Stores, writer: BatchWriter) -> None:
    writer.put(ProbeRow, probe(0))
    child = multiprocessing.get_context("fork").Process(target=put_in_child, args=(writer,))
    child.start()
    child.join()
    assert child.exitcode == 0
    writer.flush()
    assert sorted(details(stores)) == ["0", "1"]


def test_more_than_may_wait_is_refused_not_dropped(stores: Stores, settings: Settings) -> None:
    with BatchWriter(stores, batch_size=10**9, spool_bytes=0) as writer, pytest.raises(StoreFullError, match="waits"):
        writer.put(ProbeRow, probe(0))


@pytest.mark.files
def test_while_the_store_cannot_be_written_rows_wait_and_go_in_afterwards(stores: Stores, settings: Settings) -> None:
    hidden = settings.store_path("monitoring").with_name("hidden")
    with BatchWriter(stores, batch_size=5) as writer:
        settings.store_path("monitoring").rename(hidden)
        for place in range(12):
            writer.put(ProbeRow, probe(place))
        assert "deleted while it was open" in (writer.trouble or "")
        hidden.rename(settings.store_path("monitoring"))
        writer.flush()
        assert writer.trouble is None
        assert details(stores) == numbers(12)


def test_the_timer_writes_what_no_full_batch_would(stores: Stores) -> None:
    with BatchWriter(stores, flush_seconds=0.01) as writer:
        writer.put(ProbeRow, probe(0))
        while writer._folder.waiting_bytes():
            os.sched_yield()
        assert details(stores) == ["0"]


def test_samples_and_probes_go_in_together_and_a_new_metric_is_named_once(stores: Stores) -> None:
    metric = Metric(environment="prod", service="bot", name="cpu", value=1.0, sampled_at=NOON)
    answer = ProbeResult(service="bot", kind="http", target="t", ok=True, detail="0", checked_at=NOON)
    for place in range(3):
        later = NOON + timedelta(seconds=place)
        stores.writer.put_metrics([replace(metric, value=float(place), sampled_at=later)])
        stores.writer.put_probes([replace(answer, detail=str(place), checked_at=later)], "prod")
    assert details(stores) == []
    stores.writer.flush()
    assert details(stores) == numbers(3)
    assert [value for _, value in series(stores, "prod", "bot", "cpu", NOON)] == [0.0, 1.0, 2.0]


def test_closing_the_stores_writes_what_their_writer_holds(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        stores.writer.put(ProbeRow, probe(0))
    with Stores.open(settings) as stores:
        assert details(stores) == ["0"]


def test_a_clock_set_back_does_not_put_what_refers_before_its_owner(stores: Stores, monkeypatch) -> None:
    hours = count(0, -1)

    class SetBack(datetime):
        @classmethod
        def now(cls, tz=None) -> datetime:
            return NOON + timedelta(hours=next(hours))

    monkeypatch.setattr(spools, "datetime", SetBack)
    monkeypatch.setattr(spools, "_TURN_BYTES", 0)
    with BatchWriter(stores) as writer:
        operation = {"deployment_id": "d", "operation_type": "start", "environment": "prod", "status": "running"}
        writer.put(DeploymentOperation, operation)
        for place in range(5):
            change = {"deployment_id": "d", "service_name": "bot", "new_state": str(place), "change_time": NOON}
            writer.put(ServiceStateChange, change)
        writer.flush()
        assert [change.new_state for change in stores.progress.changes("d")] == list("01234")


@pytest.mark.files
def test_rows_go_into_the_file_that_took_the_place_of_another(stores: Stores, settings: Settings) -> None:
    path = settings.store_path("monitoring")
    with BatchWriter(stores) as writer:
        writer.put(ProbeRow, probe(0))
        writer.flush()
        copy = path.with_name("copy.db")
        with closing(sqlite3.connect(path)) as file:
            file.execute("VACUUM INTO ?", (str(copy),))
        with closing(sqlite3.connect(copy)) as file:
            file.execute("PRAGMA journal_mode=WAL").fetchall()
        stores.databases["monitoring"].close()
        copy.rename(path)
        writer.put(ProbeRow, probe(1))
        writer.flush()
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("SELECT detail FROM probe_results ORDER BY id").fetchall() == [("0",), ("1",)]
