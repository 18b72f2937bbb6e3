"""A failure, its answer and a recovery are on record wholly or not at all, whenever the process is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgresql_server import postgresql


def live_and_kill(folder: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.integration.tasks.killed_operations", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_no_record_is_reported_in_part(tmp_path: Path) -> None:
    code, said = live_and_kill(tmp_path, "--every", "9")
    assert (code, "0 told in part" in said) == (0, True), said


@pytest.mark.campaign
def test_the_harness_finds_what_one_store_after_another_tells_in_part(tmp_path: Path) -> None:
    code, said = live_and_kill(tmp_path, "--every", "20", "--naive")
    assert code == 1
    assert "a failure without its" in said


def test_no_record_is_reported_in_part_in_postgresql(tmp_path: Path) -> None:
    with postgresql() as server, server.database() as url:
        code, said = live_and_kill(tmp_path, "--every", "20", "--url", url)
    assert (code, "0 told in part" in said) == (0, True), said
