"""Commands that tests run in forks have what they would have in a process of their own."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import run_roas, shared_roas
from tests.support.ports import free_port


def variables(folder: Path) -> dict[str, str]:
    return os.environ | {"ROAS_DATA_DIR": str(folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(folder)}


def test_bytes_go_in_and_out_and_the_umask_is_the_given_one(tmp_path: Path) -> None:
    done = run_roas("classify", b"\xff", cwd=tmp_path, env=variables(tmp_path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is not UTF-8 text" in done.stderr
    said = run_roas("init", cwd=tmp_path, env=variables(tmp_path), said=b"\xff", umask=0o077)
    assert b"Traceback" not in said.stderr
    assert run_roas("backup", "copy", cwd=tmp_path, env=variables(tmp_path), umask=0).returncode == 0
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_command_that_does_not_end_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    request = {"words": ["metrics", "--port", str(free_port())], "variables": variables(tmp_path)}
    with pytest.raises(subprocess.TimeoutExpired):
        shared_roas().run({**request, "folder": str(tmp_path)}, seconds=0.1)
    assert run_roas("history", cwd=tmp_path, env=variables(tmp_path)).returncode == 0
