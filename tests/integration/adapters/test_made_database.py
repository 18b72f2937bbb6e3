"""The database of a new Prefect server is copied from the one that an earlier server made."""

from __future__ import annotations

import sqlite3
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
