"""What somebody else, or a power failure, does to the files that rows wait in."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores
from adapters.stores.batch import BatchWriter
from models.failures import StoreError
from models.settings import Settings
from models.tables.monitoring import ProbeRow
from tests.integration.stores.test_batch import details, numbers, probe, put_then_die
from tests.support.forked import OWN


@pytest.fixture
def writer(stores: Stores) -> Iterator[BatchWriter]:
    with BatchWriter(stores, batch_size=1000) as opened:
        yield opened


def spools(settings: Settings) -> list[Path]:
    return sorted((settings.data_dir / "spool").rglob("monitoring-*.spool"))


def put(writer: BatchWriter, *places: int) -> None:
    for place in places:
        writer.put(ProbeRow, probe(place))


def spoil(spool: Path, what: bytes) -> None:
    """Change one byte of the row that holds `what`."""
    with spool.open("r+b") as file:
        file.seek(spool.read_bytes().index(what))
        file.write(b"#")


def begin_of(spool: Path, what: bytes) -> int:
    """Where the record that holds `what` begins."""
    data, at = spool.read_bytes(), 0
    while what not in data[at : (end := at + 9 + int.from_bytes(data[at : at + 4], "little"))]:
        at = end
    return at


@pytest.mark.files
def test_zeros_that_a_power_failure_left_hold_up_nothing(stores: Stores, settings: Settings) -> None:
    put_then_die(settings)
    [spool] = spools(settings)
    with spool.open("ab") as file:
        file.write(bytes(3000))
    with BatchWriter(stores) as writer:
        put(writer, 37)
        writer.flush()
        assert details(stores) == numbers(38)


@pytest.mark.files
def test_of_a_damaged_spool_only_the_damaged_row_is_missing_and_the_file_is_kept(
    stores: Stores, settings: Settings
) -> None:
    put_then_die(settings)
    [spool] = spools(settings)
    spoil(spool, b'"17"')
    damaged = spool.read_bytes()
    with BatchWriter(stores) as writer:
        writer.flush()
        writer.flush()
        assert details(stores) == [one for one in numbers(37) if one != "17"]
    assert spools(settings) == []
    [kept] = spool.parent.glob("*.damaged")
    assert kept.read_bytes() == damaged


@pytest.mark.files
def test_rows_whose_statement_a_power_failure_took_hold_up_nothing(stores: Stores, settings: Settings) -> None:
    put_then_die(settings)
    [spool] = spools(settings)
    with stores.databases["monitoring"].write() as connection:
        connection.exec_driver_sql("INSERT INTO spool_positions VALUES (?, ?)", (spool.name, begin_of(spool, b'"17"')))
    spoil(spool, b"latency_ms")
    with BatchWriter(stores) as writer:
        put(writer, 37)
        writer.flush()
        assert details(stores) == ["37"]
    assert len(list(spool.parent.glob("*.damaged"))) == 1


@pytest.mark.files
def test_a_spool_damaged_while_its_owner_lives_loses_nothing_that_is_still_in_memory(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    [spool] = spools(settings)
    spoil(spool, b'"2"')
    writer.flush()
    put(writer, 5)
    writer.flush()
    assert details(stores) == numbers(6)


@pytest.mark.files
def test_a_spool_damaged_while_its_owner_lives_holds_up_nothing(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    [spool] = spools(settings)
    spoil(spool, b'"2"')
    with BatchWriter(stores) as another:
        another.flush()
    put(writer, 5)
    writer.flush()
    assert details(stores) == ["0", "1", "3", "4", "5"]
    assert len(list(spool.parent.glob("*.damaged"))) == 1


def test_a_spool_deleted_while_it_is_open_loses_nothing(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    writer.flush()
    put(writer, *range(5, 10))
    [spool] = spools(settings)
    spool.unlink()
    put(writer, 10)
    writer.flush()
    assert details(stores) == numbers(11)


def make_stores(settings: Settings) -> None:
    Stores.open(settings).close()


@pytest.mark.files
def test_rows_wait_while_the_data_folder_is_gone_and_go_into_the_next(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    shutil.rmtree(settings.data_dir)
    with pytest.raises(StoreError, match="deleted while it was open"):
        writer.flush()
    put(writer, 5)
    maker = OWN.Process(target=make_stores, args=(settings,))
    maker.start()
    maker.join()
    writer.flush()
    assert details(stores) == numbers(6)
