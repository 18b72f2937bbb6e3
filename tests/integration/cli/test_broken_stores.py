"""Commands on damaged stores: one line with the fault and advice, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.stores import Stores
from adapters.stores.batch import BatchWriter
from models.health import ProbeResult
from models.settings import Settings
from tests.support.commands import run_roas_text

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Stores with some rows."""
    probe = ProbeResult(service="bot", kind="tcp", target="t", ok=True, detail="", checked_at=NOON)
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores, BatchWriter(stores) as writer:
        writer.put_probes([replace(probe, detail=str(place)) for place in range(500)], "prod")
    return tmp_path / "data"


def roas(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    places = {"ROAS_DATA_DIR": str(data), "ROAS_ENVIRONMENTS_DIR": str(data.parent)}
    # Modes bind everybody but a root that has all of its powers.
    done = run_roas_text(*words, cwd=Path.cwd(), env=os.environ | places, without_powers=True)
    assert "Traceback" not in done.stderr
    return done


def newer(data: Path) -> None:
    with closing(sqlite3.connect(data / "errors.db")) as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
        file.commit()


def folder_in_place(data: Path) -> None:
    (data / "errors.db").unlink()
    (data / "errors.db").mkdir()


def read_only(data: Path) -> None:
    for path in [data, *data.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)


def not_to_enter(data: Path) -> None:
    data.chmod(0)


def file_in_place(data: Path) -> None:
    shutil.rmtree(data)
    data.write_text("not a folder")


@pytest.mark.parametrize(
    ("break_it", "said", "code"),
    [
        (newer, "install the later version", 1),
        (folder_in_place, "errors.db) cannot be made: Is a directory", 1),
        (read_only, "may this user write to the data folder", 1),
        (not_to_enter, "may this user write to the data folder", 1),
        (file_in_place, "set ROAS_DATA_DIR", 2),
    ],
)
def test_what_keeps_the_stores_from_being_opened_is_one_line_and_an_exit_code(
    data: Path, break_it: Callable[[Path], None], said: str, code: int
) -> None:
    break_it(data)
    try:
        done = roas(data, "tickets")
    finally:
        data.chmod(0o755)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_damaged_store_is_set_aside_and_a_person_is_reported_until_it_is_settled(data: Path) -> None:
    path = data / "monitoring.db"
    os.truncate(path, path.stat().st_size // 2)
    assert "a new one begins" in roas(data, "status").stderr
    [kept] = [path for path in data.glob("monitoring.db.corrupt-*") if path.name[-4:] not in ("-wal", "-shm")]
    for words in (("status",), ("db", "check")):
        done = roas(data, *words)
        assert kept.name in done.stdout + done.stderr
    assert done.returncode == 1
    [ticket] = json.loads(roas(data, "tickets", "--json").stdout)
    assert kept.name in ticket["title"]

    kept.unlink()
    assert roas(data, "resolve", ticket["ticket_id"], "--note", "looked at").returncode == 0
    assert roas(data, "db", "check").returncode == 0
    assert json.loads(roas(data, "tickets", "--json").stdout) == []


def test_a_page_overwritten_in_the_middle_is_found_and_the_others_are_reported_on(data: Path) -> None:
    path = data / "monitoring.db"
    with closing(sqlite3.connect(path)) as file:
        [root] = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'probe_results'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(os.urandom(4096))
    done = roas(data, "db", "check")
    assert done.returncode == 1
    assert "monitoring faulty" in done.stdout
    assert "errors intact" in done.stdout
    # The next writer creates a new one.
    assert roas(data, "pause", "bot", "--reason", "x").returncode == 0
    assert len(json.loads(roas(data, "tickets", "--json").stdout)) == 1


def test_a_store_that_is_gone_from_among_the_others_is_reported(data: Path) -> None:
    (data / "monitoring.db").unlink()
    assert "was missing and begins empty" in roas(data, "status").stderr
    [ticket] = json.loads(roas(data, "tickets", "--json").stdout)
    assert "roas restore" in " ".join(ticket["steps"])
