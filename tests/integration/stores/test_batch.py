"""A row the batch writer accepted is written once, whatever dies meanwhile."""

import math
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from adapters.stores import Stores, batch
from adapters.stores.batch import BatchWriter
from adapters.stores.write_behind import waiting_bytes
from models.failures import StoreConstraintError, StoreFullError
from models.health import ProbeResult
from models.metrics import Metric
from models.operations import OperationType
from models.settings import Settings
from models.tables.monitoring import ProbeRow
from tests.support.forked import OWN
from tests.support.store_rows import probe_rows, series

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
METRIC = Metric(environment="prod", service="bot", name="cpu", value=1.0, sampled_at=NOON)


@pytest.fixture
def writer(stores: Stores) -> Iterator[BatchWriter]:
    with BatchWriter(stores) as opened:
        yield opened


def probe(place: int, **changes: Any) -> ProbeResult:
    at = NOON + timedelta(seconds=place)
    answer = ProbeResult(
        service="bot", kind="http", target="t", ok=True, detail=str(place), checked_at=at, latency_ms=1.5
    )
    return replace(answer, **changes)


def put(writer: BatchWriter, *places: int) -> None:
    for place in places:
        writer.put_probes([probe(place)], "prod")


def journals(stores: Stores) -> list[Path]:
    return sorted(stores.rows_folder.glob("*"))


def details(stores: Stores) -> list[str]:
    return [one["detail"] for one in probe_rows(stores)]


def values(stores: Stores) -> list[float]:
    return [value for _, value in series(stores, "prod", "bot", "cpu", NOON)]


def numbers(count: int) -> list[str]:
    return [str(place) for place in range(count)]


def test_a_full_batch_is_written_at_once_and_the_rest_at_a_flush(stores: Stores, writer: BatchWriter) -> None:
    put(writer, *range(150))
    assert details(stores) == numbers(100)
    assert waiting_bytes(stores.rows_folder) > 0
    writer.flush()
    assert details(stores) == numbers(150)
    assert waiting_bytes(stores.rows_folder) == 0


def test_closing_writes_what_waits_and_leaves_no_journal(stores: Stores) -> None:
    with BatchWriter(stores) as writer:
        put(writer, 0)
    assert details(stores) == ["0"]
    assert journals(stores) == []


def test_what_is_stored_is_what_a_session_stores(stores: Stores, writer: BatchWriter) -> None:
    answer = probe(0, checked_at=NOON.astimezone(timezone(timedelta(hours=2))), latency_ms=0.25, detail="ä")
    writer.put_probes([answer], "prod")
    writer.flush()
    values = {name: value for name, value in asdict(answer).items() if name != "readings"}
    with stores.databases["monitoring"].write() as connection, Session(connection) as session:
        session.add(ProbeRow(environment="prod", **values))
        session.flush()
    with stores.databases["monitoring"].read() as connection:
        ours, theirs = connection.exec_driver_sql("SELECT * FROM probe_results").all()
    assert ours[1:] == theirs[1:]
    assert str(ours.checked_at).startswith("2026-07-01 12:00:00")


def test_what_is_stored_is_the_same_whether_rows_were_read_back_or_not(stores: Stores) -> None:
    odd = [None, 3, True, 2.5, math.inf, -math.inf, math.nan]
    rows = [probe(place, latency_ms=value, kind=OperationType.START) for place, value in enumerate(odd)]
    with BatchWriter(stores) as other, BatchWriter(stores) as writer:
        writer.put_probes(rows, "dev")
        writer.flush()
        other.put_probes(rows, "prod")
        writer.flush()
        with stores.databases["monitoring"].read() as connection:
            found = connection.exec_driver_sql("SELECT latency_ms, kind FROM probe_results ORDER BY id").all()
    assert str(found[: len(odd)]) == str(found[len(odd) :])
    assert len(found) == 2 * len(odd)


def test_a_row_with_a_key_of_its_own_replaces_the_one_before(stores: Stores, writer: BatchWriter) -> None:
    writer.put_metrics([replace(METRIC, value=value) for value in (1.0, 2.0)])
    writer.flush()
    assert values(stores) == [2.0]


def test_a_row_that_breaks_a_rule_is_kept_apart_and_the_rest_is_written(stores: Stores, writer: BatchWriter) -> None:
    put(writer, *range(20))
    for place in range(40):
        value = math.nan if place in (7, 23) else float(place)
        writer.put_metrics([replace(METRIC, value=value, sampled_at=NOON + timedelta(seconds=place))])
    for _ in range(2):
        writer.flush()
        assert details(stores) == numbers(20)
        assert values(stores) == [float(place) for place in range(40) if place not in (7, 23)]
        with stores.databases["monitoring"].read() as connection:
            letters = connection.exec_driver_sql("SELECT target, reason, payload FROM dead_letters ORDER BY id").all()
        assert [letter.target for letter in letters] == ["metric_samples"] * 2
        assert "is nan" in letters[0].reason
        assert '"sampled_at":"2026-07-01T12:00:07Z"' in letters[0].payload
        # As after a death between the store's commit and the end of the journal.
        writer.put_metrics([replace(METRIC, value=math.nan, sampled_at=NOON + timedelta(seconds=7))])


def test_a_value_of_the_wrong_kind_is_refused_at_once(writer: BatchWriter) -> None:
    with pytest.raises(StoreConstraintError, match="no time zone"):
        writer.put_probes([probe(0, checked_at=datetime(2026, 1, 1))], "prod")  # noqa: DTZ001
    with pytest.raises(StoreConstraintError, match="detail"):
        writer.put_probes([probe(0, detail=None)], "prod")
    with pytest.raises(StoreConstraintError, match="surrogates"):
        writer.put_probes([probe(0, detail="\ud800")], "prod")


def put_and_die(settings: Settings) -> None:
    writer = BatchWriter(Stores.open(settings), batch_size=1000)
    put(writer, *range(37))
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
        assert journals(stores) == []


def test_a_line_the_killed_process_did_not_finish_was_never_accepted(stores: Stores, settings: Settings) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size - 3)
    with BatchWriter(stores) as writer:
        writer.flush()
        assert details(stores) == numbers(36)
    assert journals(stores) == []


def test_a_flusher_that_died_before_its_commit_loses_nothing(stores: Stores, settings: Settings, monkeypatch) -> None:
    put_then_die(settings)
    with BatchWriter(stores) as writer:
        monkeypatch.setattr("adapters.stores.repositories.health.HealthHistory.put_probes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.flush()
        monkeypatch.undo()
        assert details(stores) == []
        writer.flush()
        writer.flush()
        assert details(stores) == numbers(37)


def test_a_flusher_that_died_after_its_commit_doubles_nothing(stores: Stores, settings: Settings, monkeypatch) -> None:
    put_then_die(settings)
    with BatchWriter(stores) as writer:
        monkeypatch.setattr("adapters.stores.write_behind.Journal.clear", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.flush()
        monkeypatch.undo()
        assert details(stores) == numbers(37)
        assert len(journals(stores)) == 1
        writer.flush()
        assert details(stores) == numbers(37)
        assert journals(stores) == []


def test_rows_of_batches_before_the_last_flush_of_a_killed_process_are_there_once(
    stores: Stores, settings: Settings
) -> None:
    dying = OWN.Process(target=fill_batches_and_die, args=(settings,))
    dying.start()
    dying.join()
    assert details(stores) == numbers(30)
    assert len(journals(stores)) == 1
    with BatchWriter(stores) as writer:
        put(writer, *range(28, 40))
        writer.flush()
        assert sorted(details(stores), key=int) == numbers(40)
        assert journals(stores) == []


def fill_batches_and_die(settings: Settings) -> None:
    writer = BatchWriter(Stores.open(settings), batch_size=10)
    put(writer, *range(37))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.files
def test_a_long_journal_goes_once_its_rows_are_in_the_store(stores: Stores, monkeypatch) -> None:
    monkeypatch.setattr(batch, "_TURN_BYTES", 8000)
    with BatchWriter(stores, batch_size=10) as writer:
        put(writer, *range(400))
        assert waiting_bytes(stores.rows_folder) < 8000
        assert len(details(stores)) == 400
    assert details(stores) == numbers(400)


@pytest.mark.files
def test_answers_of_one_moment_are_stored_once_each_among_those_that_are_there(stores: Stores) -> None:
    at_once = [probe(0), probe(0, service="web"), probe(0, ok=False), probe(0)]
    for _ in range(2):
        stores.writer.put_probes(at_once, "prod")
        stores.writer.flush()
    stores.writer.put_probes([probe(1), probe(0, detail="other")], "prod")
    stores.writer.flush()
    assert details(stores) == ["0", "0", "0", "other", "1"]


def put_many(settings: Settings, name: str, count: int) -> None:
    with Stores.open(settings) as stores, BatchWriter(stores, batch_size=10) as writer:
        for place in range(count):
            writer.put_probes([probe(place, service=name)], "prod")


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
    put(writer, 1)
    writer.flush()


def test_a_forked_child_has_a_journal_of_its_own(stores: Stores, writer: BatchWriter) -> None:
    put(writer, 0)
    child = multiprocessing.get_context("fork").Process(target=put_in_child, args=(writer,))
    child.start()
    child.join()
    assert child.exitcode == 0
    writer.flush()
    assert sorted(details(stores)) == ["0", "1"]


def test_more_than_may_wait_is_refused_not_dropped(stores: Stores, monkeypatch) -> None:
    monkeypatch.setattr(batch, "_TURN_BYTES", 1000)
    with BatchWriter(stores, batch_size=10**9, limit_bytes=3000) as writer:
        put(writer, *range(10))
        with pytest.raises(StoreFullError, match="waits"):
            put(writer, *range(10, 100))
        accepted = sum(len(journal.read_bytes().splitlines()) for journal in journals(stores))
        assert 10 < accepted < 100
        writer.flush()
        put(writer, accepted)
    assert details(stores) == numbers(accepted + 1)


@pytest.mark.files
def test_while_the_store_cannot_be_written_rows_wait_and_go_in_afterwards(stores: Stores, settings: Settings) -> None:
    hidden = settings.store_path("monitoring").with_name("hidden")
    with BatchWriter(stores, batch_size=5) as writer:
        settings.store_path("monitoring").rename(hidden)
        put(writer, *range(12))
        assert "deleted while it was open" in (writer.trouble or "")
        hidden.rename(settings.store_path("monitoring"))
        writer.flush()
        assert writer.trouble is None
        assert details(stores) == numbers(12)


def test_the_timer_writes_what_no_full_batch_would(stores: Stores) -> None:
    with BatchWriter(stores, flush_seconds=0.01) as writer:
        put(writer, 0)
        while waiting_bytes(stores.rows_folder):
            os.sched_yield()
        assert details(stores) == ["0"]


def test_samples_and_probes_go_in_together_and_a_new_metric_is_named_once(stores: Stores) -> None:
    for place in range(3):
        later = NOON + timedelta(seconds=place)
        stores.writer.put_metrics([replace(METRIC, value=float(place), sampled_at=later)])
        stores.writer.put_probes([probe(place)], "prod")
    assert details(stores) == []
    stores.writer.flush()
    assert details(stores) == numbers(3)
    assert values(stores) == [0.0, 1.0, 2.0]


def test_closing_the_stores_writes_what_their_writer_holds(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        put(stores.writer, 0)
    with Stores.open(settings) as stores:
        assert details(stores) == ["0"]


@pytest.mark.files
def test_rows_go_into_the_file_that_took_the_place_of_another(stores: Stores, settings: Settings) -> None:
    path = settings.store_path("monitoring")
    with BatchWriter(stores) as writer:
        put(writer, 0)
        writer.flush()
        copy = path.with_name("copy.db")
        with closing(sqlite3.connect(path)) as file:
            file.execute("VACUUM INTO ?", (str(copy),))
        with closing(sqlite3.connect(copy)) as file:
            file.execute("PRAGMA journal_mode=WAL").fetchall()
        stores.databases["monitoring"].close()
        copy.rename(path)
        put(writer, 1)
        writer.flush()
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("SELECT detail FROM probe_results ORDER BY id").fetchall() == [("0",), ("1",)]
