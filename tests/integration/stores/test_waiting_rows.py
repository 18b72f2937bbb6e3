"""What somebody else, or a power failure, does to the journals that rows wait in."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.host.private_files import open_private
from adapters.stores import Stores, write_behind
from adapters.stores.backup import backup, restore
from adapters.stores.batch import BatchWriter
from models.failures import StoreError
from models.settings import Settings
from tests.integration.stores.test_batch import details, journals, numbers, put, put_then_die
from tests.support.forked import OWN

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def writer(stores: Stores) -> Iterator[BatchWriter]:
    with BatchWriter(stores, batch_size=1000) as opened:
        yield opened


def spoil(journal: Path, what: bytes, by: bytes = b"#") -> None:
    """Change one byte of the row that holds `what`."""
    with journal.open("r+b") as file:
        file.seek(journal.read_bytes().index(what))
        file.write(by)


@pytest.mark.files
def test_zeros_that_a_power_failure_left_hold_up_nothing(stores: Stores, settings: Settings) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    with journal.open("ab") as file:
        file.write(bytes(3000))
    with BatchWriter(stores) as writer:
        put(writer, 37)
        writer.flush()
        assert sorted(details(stores), key=int) == numbers(38)


@pytest.mark.files
@pytest.mark.parametrize(("what", "by"), [(b'"17"', b"#"), (b'17"', b"8"), (b"\n", b"x")])
def test_of_a_damaged_journal_only_the_damaged_lines_are_missing_and_that_is_reported(
    stores: Stores, settings: Settings, what: bytes, by: bytes
) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    spoil(journal, what, by)
    with BatchWriter(stores) as writer:
        writer.flush()
        writer.flush()
    missing = ("17",) if what != b"\n" else ("0", "1")
    assert details(stores) == [one for one in numbers(37) if one not in missing]
    [kept] = journals(stores)
    assert len(kept.read_bytes().splitlines()) == 1
    assert stores.kept_aside()["monitoring"] == [kept]
    with Stores.open(settings) as opened:
        assert [kept.name in ticket.title for ticket in opened.tickets.find()] == [True]


@pytest.mark.files
def test_a_damaged_line_stays_in_its_journal_while_the_disk_has_no_room_for_it(
    stores: Stores, settings: Settings, monkeypatch
) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    spoil(journal, b'"17"')
    damaged = journal.read_bytes()
    with BatchWriter(stores) as writer:
        monkeypatch.setattr("adapters.stores.write_behind.open_private", no_room)
        writer.flush()
        assert journal.read_bytes() == damaged
        monkeypatch.undo()
        writer.flush()
        assert details(stores) == [one for one in numbers(37) if one != "17"]


def no_room(*_: object) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.files
def test_a_journal_damaged_while_its_owner_lives_loses_nothing(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    [journal] = journals(stores)
    spoil(journal, b'"2"')
    with BatchWriter(stores) as another:
        another.flush()
        assert details(stores) == ["0", "1", "3", "4"]
    put(writer, 5)
    writer.flush()
    assert details(stores) == numbers(6)
    assert journals(stores) == []


def test_what_another_process_has_accepted_goes_in_with_a_flush(stores: Stores, writer: BatchWriter) -> None:
    put(writer, *range(5))
    with BatchWriter(stores) as another:
        another.flush()
        assert details(stores) == numbers(5)
    assert len(journals(stores)) == 1
    writer.flush()
    assert details(stores) == numbers(5)


def test_a_journal_deleted_while_it_is_open_loses_nothing(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    writer.flush()
    put(writer, *range(5, 10))
    [journal] = journals(stores)
    journal.unlink()
    put(writer, 10)
    [again] = journals(stores)
    assert len(again.read_bytes().splitlines()) == 6
    writer.flush()
    assert details(stores) == numbers(11)


@pytest.mark.files
def test_a_journal_that_its_dead_process_had_not_named_goes_in_and_that_of_a_living_one_stays(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    unnamed = journal.rename(journal.with_suffix(".new"))
    held = stores.rows_folder / "1-00000000.new"
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer.flush()
        assert held.exists()
        assert not unnamed.exists()
        assert details(stores) == numbers(37)
    writer.flush()
    assert journals(stores) == []


@pytest.mark.files
def test_a_process_whose_new_journal_another_takes_for_a_dead_ones_makes_one_more(
    stores: Stores, writer: BatchWriter, monkeypatch
) -> None:
    taken = iter([write_behind.journals_in, lambda _: (), lambda _: ()])

    def make_and_let_another_look(path: Path, flags: int) -> int:
        made = open_private(path, flags)
        for found in next(taken)(path.parent):
            found.clear(stores)
        return made

    monkeypatch.setattr(write_behind, "open_private", make_and_let_another_look)
    put(writer, *range(3))
    assert len(journals(stores)) == 1
    writer.flush()
    assert details(stores) == numbers(3)


@pytest.mark.files
def test_what_is_no_journal_holds_up_none(stores: Stores, settings: Settings, writer: BatchWriter) -> None:
    put_then_die(settings)
    folder = stores.rows_folder
    (folder / "0-folder.jsonl").mkdir()
    (folder / "0-link.jsonl").symlink_to("/dev/zero")
    os.mkfifo(folder / "0-fifo.jsonl")
    (folder / "0-foreign.jsonl").write_text("no line of ours\n")
    for name in ("folder", "link", "fifo", "foreign"):
        os.utime(folder / f"0-{name}.jsonl", (0, 0), follow_symlinks=False)
    writer.flush()
    assert details(stores) == numbers(37)
    assert [path.name for path in journals(stores) if path.name[0] != "m"] == [
        "0-fifo.jsonl", "0-folder.jsonl", "0-link.jsonl"
    ]  # fmt: skip


@pytest.mark.files
def test_rows_that_a_restored_store_lacks_go_in_again(stores: Stores, settings: Settings, tmp_path: Path) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    left = journal.read_bytes()
    backup(stores, tmp_path / "backup", NOON)
    assert details(stores) == numbers(37)
    put(stores.writer, 37)
    stores.close()
    restore(settings, tmp_path / "backup")
    # A journal that the backup has a part of.
    journal.write_bytes(left)
    with Stores.open(settings) as restored:
        assert details(restored) == numbers(37)
        put(restored.writer, 38)
        restored.writer.flush()
        assert details(restored) == [*numbers(37), "38"]


@pytest.mark.files
def test_a_line_without_a_checksum_is_read(stores: Stores, settings: Settings, writer: BatchWriter) -> None:
    put_then_die(settings)
    [journal] = journals(stores)
    lines = [b"{" + line.partition(b",")[2] for line in journal.read_bytes().splitlines()]
    journal.write_bytes(b"\n".join(lines) + b"\n")
    writer.flush()
    assert details(stores) == numbers(37)


def make_stores(settings: Settings) -> None:
    Stores.open(settings).close()


@pytest.mark.files
def test_rows_wait_while_the_data_folder_is_gone_and_go_into_the_next(
    stores: Stores, settings: Settings, writer: BatchWriter
) -> None:
    put(writer, *range(5))
    shutil.rmtree(settings.data_dir)
    with pytest.raises(StoreError, match="may this user write to the data folder"):
        writer.flush()
    put(writer, 5)
    maker = OWN.Process(target=make_stores, args=(settings,))
    maker.start()
    maker.join()
    writer.flush()
    assert details(stores) == numbers(6)
