"""What golden tests share: commands on fixed stores, and the comparison with the texts in expected/."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ForkedRoas, shared_roas

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
STORES = HERE / "stores"
NOW = "2026-11-26T12:00:00+00:00"
"""The moment at which commands read the fixed stores."""

WRITE = os.environ.get("ROAS_GOLDEN") == "write"


def golden(name: str, text: str) -> None:
    """Compare a text with the one in expected/NAME, or write it there with ROAS_GOLDEN=write."""
    text = text.rstrip() + "\n"
    file = EXPECTED / name
    if WRITE:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return
    before = file.read_text() if file.exists() else ""
    if text != before:
        lines = difflib.unified_diff(before.splitlines(), text.splitlines(), f"expected/{name}", "now", lineterm="")
        pytest.fail("\n".join(["The interface has changed (tests/golden/README.md says what to do):", *lines]), False)


def plain(text: str, folder: Path) -> str:
    """Replace what differs from one checkout, machine or terminal to another."""
    text = text.replace(str(folder), "FOLDER").replace(str(HERE.parents[1]), "CHECKOUT")
    return "\n".join(line.rstrip() for line in text.splitlines())


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def transcript(self) -> str:
        """The command, what it printed, and its exit code."""
        said = "".join(f"{line}\n" for line in self.err.splitlines())
        return f"$ roas {' '.join(quoted(one) for one in self.words)}\n{self.out}{said}exit code {self.code}\n"


def quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w./:=@%+-]+", word) else "'" + word.replace("\n", "\\n") + "'"


@dataclass(frozen=True, slots=True)
class RoasCommand:
    """The `roas` command in a folder of its own, with its stores in FOLDER/data."""

    runner: ForkedRoas
    folder: Path
    now: str | None = NOW
    variables: dict[str, str] = field(default_factory=dict)

    def request(self, *words: str, **variables: str) -> dict[str, Any]:
        settings = {"ROAS_DATA_DIR": str(self.folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(self.folder)}
        return {
            "words": words,
            "variables": self.runner.variables | settings | self.variables | variables,
            "folder": str(self.folder),
            "now": self.now,
        }

    def __call__(self, *words: str, said: str = "", **variables: str) -> CommandOutput:
        done = self.runner.run(self.request(*words, **variables), said.encode())
        out, err = (plain(one.decode(), self.folder) for one in (done.stdout, done.stderr))
        out, err = (f"{one}\n" if one else "" for one in (out, err))
        return CommandOutput(
            tuple(word.replace(str(self.folder), "FOLDER") for word in words), done.returncode, out, err
        )


@pytest.fixture(scope="session")
def runner() -> ForkedRoas:
    return shared_roas()


@pytest.fixture(scope="session")
def recorded_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder made of the recorded stores."""
    data = tmp_path_factory.mktemp("recorded") / "data"
    data.mkdir(mode=0o700)
    for dump in sorted(STORES.glob("*.sql")):
        path = data / f"{dump.stem}.db"
        with sqlite3.connect(path) as store:
            store.executescript(dump.read_text())
        store.close()
        path.chmod(0o600)
    return data


@pytest.fixture
def in_folder(tmp_path: Path, runner: ForkedRoas) -> Callable[..., RoasCommand]:
    """Make a folder with the environment `shop`, and with the recorded stores if asked for."""

    def make(data: Path | None = None, **options: Any) -> RoasCommand:
        shutil.copytree(HERE / "shop", tmp_path, dirs_exist_ok=True)
        if data is not None:
            shutil.copytree(data, tmp_path / "data")
        return RoasCommand(runner, tmp_path, **options)

    return make


@pytest.fixture
def recorded(in_folder: Callable[..., RoasCommand], recorded_data: Path) -> RoasCommand:
    """`roas` on the recorded stores, at a fixed moment."""
    return in_folder(recorded_data)


@pytest.fixture
def empty(in_folder: Callable[..., RoasCommand]) -> RoasCommand:
    """`roas` where nothing was recorded yet."""
    return in_folder()
