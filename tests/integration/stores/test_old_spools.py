"""Rows that versions up to 0.2 left in spools go in once, and the spools go."""

import fcntl
import json
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.integration.stores.test_batch import details, numbers
from tests.integration.stores.test_rows_of_other_stores import sample, values

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
COLUMNS = ("checked_at", "environment", "service", "kind", "target", "ok", "detail", "latency_ms")
HEAD = struct.Struct("<IIB")


def record(kind: int, body: bytes) -> bytes:
    return HEAD.pack(len(body), zlib.crc32(body), kind) + body


def statement(table: str, *columns: str) -> bytes:
    return record(0, json.dumps({"table": table, "columns": columns}).encode())


def rows(number: int, *values_of_rows: list[Any]) -> bytes:
    return record(1, number.to_bytes(2, "little") + json.dumps(values_of_rows).encode())


def probe_values(place: int) -> list[Any]:
    return [f"2026-07-01 12:00:{place:02}.000000", "prod", "bot", "http", "t", True, str(place), 1.5]


PROBES = statement("probe_results", *COLUMNS) + b"".join(rows(0, probe_values(place)) for place in range(37))


def spool_of(stores: Stores, content: bytes, *, of_any_stores: bool = False) -> Path:
    """A spool of a process that is gone."""
    folder = stores.folder / "spool"
    place = folder if of_any_stores else folder / stores.rows_folder.name
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "leader.lock").touch()
    spool = place / "monitoring-20260701T120000-1-aaaa-000001.spool"
    spool.write_bytes(content)
    return spool


def moved_before(stores: Stores, spool: Path, position: int) -> None:
    with stores.databases["monitoring"].write() as connection:
        connection.exec_driver_sql(f"INSERT INTO spool_positions VALUES ('{spool.name}', {position})")


def test_rows_that_an_earlier_version_left_go_in_once_and_the_folder_goes(stores: Stores) -> None:
    by_name = statement("metric_samples", "ts", "environment", "service", "metric", "value")
    at = int(NOON.timestamp() * 1000)
    spool_of(stores, PROBES + by_name + rows(1, [at, "mine", "web", "cpu", 1.0], [at + 1, "mine", "web", "cpu", 2.0]))
    for _ in range(2):
        stores.writer.flush()
        assert details(stores) == numbers(37)
        assert values(stores, "mine", "web") == [1.0, 2.0]
    assert not (stores.folder / "spool").exists()


def test_what_was_moved_before_is_not_moved_again(stores: Stores) -> None:
    spool = spool_of(stores, PROBES)
    moved_before(stores, spool, len(statement("probe_results", *COLUMNS) + rows(0, probe_values(0)) * 10))
    stores.writer.flush()
    assert details(stores) == numbers(37)[10:]
    with stores.databases["monitoring"].read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM spool_positions").scalar() == 0


def test_a_death_between_the_rows_and_the_end_of_the_spool_doubles_nothing(stores: Stores, monkeypatch) -> None:
    spool = spool_of(stores, PROBES)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stores.writer.flush()
    monkeypatch.undo()
    assert details(stores) == numbers(37)
    assert spool.exists()
    stores.writer.flush()
    assert details(stores) == numbers(37)
    assert not spool.exists()


def test_the_spool_of_a_process_that_lives_is_left_alone(stores: Stores) -> None:
    spool = spool_of(stores, PROBES)
    with spool.open("r+b") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        stores.writer.flush()
        assert details(stores) == []
        assert spool.exists()
    stores.writer.flush()
    assert details(stores) == numbers(37)


def test_a_record_the_killed_process_did_not_finish_was_never_accepted(stores: Stores) -> None:
    spool_of(stores, PROBES[:-3])
    stores.writer.flush()
    assert details(stores) == numbers(36)
    assert not (stores.folder / "spool").exists()


@pytest.mark.parametrize(("what", "by"), [(b'"17"', b"#"), (b'17"', b"8")])
def test_of_a_damaged_spool_only_the_damaged_row_is_missing_and_the_file_is_kept(
    stores: Stores, settings: Settings, what: bytes, by: bytes
) -> None:
    damaged = PROBES.replace(what, by + what[1:])
    spool = spool_of(stores, damaged)
    stores.writer.flush()
    stores.writer.flush()
    assert details(stores) == [one for one in numbers(37) if one != "17"]
    [kept] = spool.parent.iterdir()
    assert kept.read_bytes() == damaged
    assert stores.kept_aside()["monitoring"] == [kept]
    if settings.stores_url is None:
        with Stores.open(settings) as opened:
            assert [kept.name in ticket.title for ticket in opened.tickets.find()] == [True]


def test_zeros_that_a_power_failure_left_hold_up_nothing(stores: Stores) -> None:
    spool = spool_of(stores, PROBES + bytes(3000))
    stores.writer.flush()
    assert details(stores) == numbers(37)
    assert [path.name for path in spool.parent.iterdir()] == [f"{spool.name}.damaged"]


def test_rows_whose_statement_a_power_failure_took_hold_up_nothing(stores: Stores) -> None:
    spool = spool_of(stores, PROBES.replace(b"latency_ms", b"#atency_ms"))
    moved_before(stores, spool, 500)
    stores.writer.flush()
    assert details(stores) == []
    assert len(list(spool.parent.glob("*.damaged"))) == 1


def test_a_row_that_cannot_be_stored_is_kept_apart_and_the_rest_goes_in(stores: Stores) -> None:
    broken = [*probe_values(7)[:-2], None, 1.5]
    other = statement("heartbeats", "name", "beat_at") + rows(1, ["x", "2026-07-01 12:00:00.000000"])
    spool_of(stores, PROBES + rows(0, broken) + other)
    stores.writer.flush()
    assert details(stores) == numbers(37)
    with stores.databases["monitoring"].read() as connection:
        letters = connection.exec_driver_sql("SELECT target FROM dead_letters ORDER BY id").scalars().all()
    assert letters == ["probe_results", "heartbeats"]


def test_what_is_no_spool_is_left_alone(stores: Stores) -> None:
    folder = spool_of(stores, PROBES).parent
    (folder / "monitoring-folder.spool").mkdir()
    (folder / "monitoring-link.spool").symlink_to("/dev/zero")
    (folder / "notes.txt").touch()
    stores.writer.flush()
    assert details(stores) == numbers(37)
    assert sorted(path.name for path in folder.iterdir()) == [
        "monitoring-folder.spool", "monitoring-link.spool", "notes.txt"
    ]  # fmt: skip


def by_id(number: int, value: float) -> bytes:
    return statement("metric_samples", "ts", "series", "value") + rows(0, [int(NOON.timestamp() * 1000), number, value])


def test_samples_by_the_id_of_a_series_go_in(stores: Stores) -> None:
    stores.metrics.add([sample("mine", "web", 1.0)])
    with stores.databases["monitoring"].read() as connection:
        number = connection.exec_driver_sql("SELECT id FROM metric_series").scalar_one()
    spool = spool_of(stores, by_id(number, 2.0), of_any_stores=True)
    stores.writer.flush()
    assert values(stores, "mine", "web") == [2.0]
    assert not spool.exists()


@pytest.mark.shared
def test_samples_by_the_id_of_a_series_are_kept_apart_where_the_host_has_two_stores(settings: Settings) -> None:
    Stores.open(settings.model_copy(update={"stores_url": None})).close()
    with Stores.open(settings) as stores:
        stores.metrics.add([sample("others", "db", 1.0)])
        with stores.databases["monitoring"].read() as connection:
            number = connection.exec_driver_sql("SELECT id FROM metric_series").scalar_one()
        spool_of(stores, by_id(number, 99.0), of_any_stores=True)
        stores.writer.flush()
        assert values(stores, "others", "db") == [1.0]
        with stores.databases["monitoring"].read() as connection:
            [payload] = connection.exec_driver_sql("SELECT payload FROM dead_letters").scalars()
        assert "99.0" in str(payload)


@pytest.mark.shared
def test_spools_for_the_files_of_a_host_do_not_go_to_its_control_plane(settings: Settings) -> None:
    with Stores.open(settings.model_copy(update={"stores_url": None})) as files:
        spool = spool_of(files, PROBES)
    with Stores.open(settings) as stores:
        stores.writer.flush()
        assert details(stores) == []
    assert spool.exists()
