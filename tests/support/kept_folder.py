"""The folder that tests/golden/kept/make.py made with an earlier version of the program, under other names."""

from __future__ import annotations

import json
import secrets
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.projects import remove_project

KEPT = Path(__file__).parents[1] / "golden/kept"
MADE_AT, PREFIX = "/srv/kept", "roaskept"
IMAGE = "debian:trixie-slim"


def unpack(folder: Path, name: str = "kept") -> None:
    """Unpack the archive of this name as it was made."""
    with tarfile.open(KEPT / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in (folder / "data", *(folder / "data").rglob("*")):
        # The filter leaves the modes of folders to the umask.
        path.chmod(0o700 if path.is_dir() else 0o600)


@dataclass
class KeptFolder:
    """It in another folder, with project names of its own, and with containers as they were when it was made."""

    folder: Path
    prefix: str = field(default_factory=lambda: f"kept{secrets.token_hex(2)}")
    """As long as the one that it was made with."""

    def bring_back(self, name: str) -> None:
        """Make the containers of an environment again, and let the record mean them."""
        recorded = json.loads((self.folder / "containers.json").read_text())
        meant = {MADE_AT: str(self.folder), PREFIX: self.prefix}
        meant[recorded["image"]] = _docker("image", "inspect", "-f", "{{.Id}}", IMAGE).strip()
        self._replace(meant)
        made = {row["id"]: self._make(name, row) for row in recorded["containers"][name]}
        self._replace({before: after for before, after in made.items() if before})

    def project(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def remove(self, name: str) -> None:
        """Take an environment off the engine."""
        remove_project(self.project(name))
        subprocess.run(
            ["docker", "volume", "rm", "-f", f"{self.project(name)}_files"], capture_output=True, check=False
        )

    def _make(self, name: str, row: dict[str, str]) -> str:
        files = (self.folder / name / file for file in ("compose.yaml", "before.yaml"))
        file = next(file for file in files if f"version: '{row['version']}'" in file.read_text())
        project, service = self.project(name), row["service"]
        words = ["compose", "-p", project, "--project-directory", str(self.folder / name), "-f", str(file)]
        _docker(*words, "up", "-d", "--no-deps", "--wait" if row["running"] else "--no-start", service)
        return _docker("inspect", "-f", "{{.Id}}", f"{project}-{service}-1").strip()

    def _replace(self, meant: dict[str, str]) -> None:
        """Put words in the place of others, in the stores and in all files of text."""
        for path in self.folder.rglob("*"):
            if path.suffix == ".db":
                _replace_in_store(path, meant)
            elif path.is_file() and "snapshots" not in path.parts:
                try:
                    text = path.read_text()
                except UnicodeDecodeError:
                    continue
                for before, after in meant.items():
                    text = text.replace(before, after)
                path.write_text(text)


def _replace_in_store(path: Path, meant: dict[str, str]) -> None:
    with closing(sqlite3.connect(path)) as store, store:
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in store.execute(f'PRAGMA table_info("{table}")')]
            for column in columns:
                for before, after in meant.items():
                    store.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                        f'WHERE typeof("{column}") = \'text\' AND instr("{column}", ?)',
                        (before, after, before),
                    )


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
