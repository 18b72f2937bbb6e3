"""The database of a new Prefect server is copied from the one that an earlier server made."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from adapters.server.made_database import new_database


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where databases are kept, with the one that a first server made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    started = new_database(served(tmp_path / "first"))
    assert not (tmp_path / "cache").exists()
    make(tmp_path / "first")
    started()
    (folder,) = (tmp_path / "cache" / "roas").iterdir()
    return folder


def make(home: Path) -> None:
    """Make what a server makes as it starts."""
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        database.executescript("PRAGMA journal_mode = wal; CREATE TABLE flow (name); INSERT INTO flow VALUES ('a');")
    (home / "memo_store.toml").write_text("blocks = 1\n")


def served(folder: Path) -> Path:
    folder.mkdir()
    return folder


def names(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return [name for (name,) in database.execute("SELECT name FROM flow")]


def test_a_second_server_gets_a_copy_and_keeps_nothing_anew(kept: Path, tmp_path: Path) -> None:
    home = served(tmp_path / "second")
    started = new_database(home)
    assert names(home) == ["a"]
    assert (home / "memo_store.toml").read_text() == "blocks = 1\n"
    before = (kept / "prefect.db").read_bytes()
    started()
    assert (kept / "prefect.db").read_bytes() == before
    assert sorted(one.name for one in home.iterdir()) == ["memo_store.toml", "prefect.db"]


def test_a_database_that_is_there_stays(kept: Path, tmp_path: Path) -> None:
    home = served(tmp_path / "second")
    (home / "prefect.db").write_bytes(b"of a person")
    new_database(home)()
    assert (home / "prefect.db").read_bytes() == b"of a person"


def test_a_damaged_one_is_removed_and_another_is_kept(kept: Path, tmp_path: Path) -> None:
    (kept / "prefect.db").write_bytes(b"cut off")
    home = served(tmp_path / "second")
    started = new_database(home)
    assert [*home.iterdir()] == []
    assert not kept.exists()
    make(home)
    started()
    another = served(tmp_path / "third")
    new_database(another)
    assert names(another) == ["a"]


def test_what_another_user_may_have_put_there_is_not_used(kept: Path, tmp_path: Path) -> None:
    for folder in (kept, kept.parent):
        folder.chmod(0o777)
        home = served(tmp_path / folder.name.replace("prefect", "home"))
        new_database(home)()
        assert [*home.iterdir()] == []
        folder.chmod(0o700)


def test_a_server_with_its_database_elsewhere_gets_none(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")
    home = served(tmp_path / "second")
    new_database(home)()
    assert [*home.iterdir()] == []


def unfinished(folder: Path, name: str, *, hours: float = 2) -> Path:
    made = folder / name
    (made / "made").mkdir(parents=True)
    (made / "made" / "prefect.db").write_bytes(b"half")
    then = time.time() - hours * 3600
    os.utime(made, (then, then))
    return made


def test_what_a_killed_server_left_half_made_is_removed_and_nothing_else(kept: Path, tmp_path: Path) -> None:
    folder = kept.parent
    left = unfinished(folder, ".made-ab12_xyz")
    others = [unfinished(folder, name) for name in (".made-by-ann", ".made-toolong12", "made-ab12_xyz")]
    young = unfinished(folder, ".made-ab12_new", hours=0)
    held = unfinished(folder, ".made-ab12_was")
    elsewhere = unfinished(tmp_path, ".made-elsewher")
    (folder / ".made-linked_1").symlink_to(elsewhere)
    (folder / ".made-afile_12").write_text("of a person")
    handle = os.open(held, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)

    new_database(served(tmp_path / "second"))
    assert not left.exists()
    assert all((one / "made" / "prefect.db").exists() for one in (*others, young, held, elsewhere))
    assert (folder / ".made-linked_1").is_symlink()
    assert (folder / ".made-afile_12").read_text() == "of a person"

    os.close(handle)
    new_database(served(tmp_path / "third"))
    assert not held.exists()
    assert kept.exists()


def test_a_process_that_is_killed_while_it_keeps_one_leaves_it_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = served(tmp_path / "first")
    killed = (
        "import os, shutil, signal, sys, pathlib\n"
        "from adapters.server.made_database import new_database\n"
        "started = new_database(pathlib.Path(sys.argv[1]))\n"
        "from tests.integration.adapters.test_made_database import make\n"
        "make(pathlib.Path(sys.argv[1]))\n"
        "shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "started()\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(home)], check=False)
    (left,) = (tmp_path / "cache" / "roas").iterdir()
    assert done.returncode == -9
    then = time.time() - 7200
    os.utime(left, (then, then))

    another = served(tmp_path / "second")
    started = new_database(another)
    assert not left.exists()
    make(another)
    started()
    assert [one.name.partition("-")[0] for one in (tmp_path / "cache" / "roas").iterdir()] == ["prefect"]
