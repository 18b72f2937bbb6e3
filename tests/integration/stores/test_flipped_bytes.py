"""Bytes of a store's file that a disk or a memory flipped: it is set aside, and the stores go on."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.stores import Stores
from adapters.stores.migrate import HEADS, file_revision
from adapters.stores.recovery_writes import read_records
from models.failures import StoreCorruptError
from models.settings import Settings
from tests.integration.stores.values import ERROR, TICKET

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def made(folder: Path) -> Path:
    """Stores with a row or two, in files without a log beside them."""
    with Stores.open(Settings(data_dir=folder)) as stores:
        stores.errors.record(ERROR)
        stores.tickets.open(TICKET)
    for name in HEADS:
        with closing(sqlite3.connect(folder / f"{name}.db")) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def read_all(folder: Path) -> list[str]:
    """Read what an agent reads as it starts; return the names of the files that were set aside."""
    with Stores.open(Settings(data_dir=folder)) as stores:
        read_records(stores, "prod", NOON, NOON)
        stores.errors.latest()
        stores.tickets.find()
        return [name for name, files in stores.kept_aside().items() if files]


def test_a_file_with_flipped_bytes_ends_nobody_and_is_set_aside_by_the_next_opening_at_the_latest(
    tmp_path: Path,
) -> None:
    whole = made(tmp_path / "whole")
    for seed in range(24):
        drawn, folder = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(whole, folder)
        path = folder / f"{drawn.choice(sorted(HEADS))}.db"
        content = bytearray(path.read_bytes())
        for _ in range(20):
            content[drawn.randrange(100, 8192)] ^= drawn.randrange(1, 256)
        path.write_bytes(content)
        file_revision(path)
        try:
            read_all(folder)
        except StoreCorruptError:
            read_all(folder)
        read_all(folder)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("deployment_errors", "text", "CAST(x'ff41' AS TEXT)"),
        ("deployment_errors", "first_seen", "'2026-x7-01 12:00:00'"),
        ("deployment_errors", "evidence", "'{\"a\": '"),
    ],
)
def test_a_value_that_cannot_be_read_sets_its_file_aside(tmp_path: Path, table: str, column: str, value: str) -> None:
    folder = made(tmp_path / "data")
    _change(folder, f"UPDATE {table} SET {column} = {value}")

    with pytest.raises(StoreCorruptError):
        read_all(folder)

    assert read_all(folder) == ["errors"]


def test_a_revision_that_no_version_could_have_written_is_damage_and_no_newer_program(tmp_path: Path) -> None:
    folder = made(tmp_path / "data")
    _change(folder, "UPDATE alembic_version SET version_num = 'r00' || char(1) || '2'")

    assert read_all(folder) == ["errors"]


def _change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "errors.db")) as file:
        file.execute("PRAGMA ignore_check_constraints=ON")
        file.execute(statement)
        file.commit()
