"""Subjects of commits between two revisions of a real repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from adapters.host.git_log import subjects_between


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.com", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, list[str]]:
    git(tmp_path, "init", "-q")
    revisions = []
    for number in range(3):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", f"Change {number}\n\nmore")
        revisions.append(git(tmp_path, "rev-parse", "HEAD"))
    return tmp_path, revisions


def test_the_subjects_after_a_revision_come_newest_first(repository: tuple[Path, list[str]]) -> None:
    folder, (first, _, last) = repository
    (folder / "below").mkdir()
    assert subjects_between(folder / "below", first[:10], last) == ("Change 2", "Change 1")


def test_what_no_repository_knows_has_no_subjects(repository: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, (first, _, last) = repository
    assert subjects_between(folder, first, "f" * 40) == ()
    assert subjects_between(folder, last, first) == ()
    assert subjects_between(tmp_path / "missing", first, last) == ()
    assert subjects_between(Path("/"), first, last) == ()


def test_a_repository_runs_no_program_of_its_own(repository: tuple[Path, list[str]]) -> None:
    folder, (first, _, last) = repository
    trap = folder / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {folder}/sprung\n")
    trap.chmod(0o755)
    for name in ("gpg.program", "core.fsmonitor", "core.pager", "pager.log", "diff.external", "core.sshCommand"):
        git(folder, "config", name, str(trap))
    git(folder, "config", "log.showSignature", "true")
    git(folder, "config", "alias.log", f"!{trap}")

    assert subjects_between(folder, first, last) == ("Change 2", "Change 1")
    assert not (folder / "sprung").exists()
