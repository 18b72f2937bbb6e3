"""The hash of a build context: it changes with what a build can read, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.docker.build_context import context_hash


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / ".dockerignore").write_text("# not for the image\n*.log\nbuild\n!build/kept\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print(1)\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "kept").write_text("kept")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("app/main.py", True),
        ("app/new.py", True),
        ("Dockerfile", True),
        ("build/kept", True),
        ("build/output", False),
        ("debug.log", False),
    ],
)
def test_only_what_dockerignore_leaves_in_counts(context: Path, name: str, *, counts: bool) -> None:
    before = context_hash(str(context), "Dockerfile")
    (context / name).write_text("changed")
    assert (context_hash(str(context), "Dockerfile") != before) is counts


def test_times_do_not_count_and_permissions_do(context: Path) -> None:
    before, file = context_hash(str(context), "Dockerfile"), context / "app" / "main.py"
    os.utime(file, (1, 1))
    assert context_hash(str(context), "Dockerfile") == before
    file.chmod(0o755)
    assert context_hash(str(context), "Dockerfile") != before


def test_the_patterns_of_a_dockerfile_replace_the_general_ones(context: Path) -> None:
    (context / "Dockerfile.dockerignore").write_text("app\n")
    before = context_hash(str(context), "Dockerfile")
    (context / "app" / "main.py").write_text("changed")
    assert context_hash(str(context), "Dockerfile") == before
    (context / "debug.log").write_text("changed")
    assert context_hash(str(context), "Dockerfile") != before


def test_a_context_elsewhere_cannot_be_hashed() -> None:
    with pytest.raises(OSError, match="is no folder of this machine"):
        context_hash("https://example.org/repository.git", "Dockerfile")
