"""Commands that read records wait for nothing that they do not use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_RUN = "import sys; from cli.exit_codes import run_command; from cli.main import roas; code = run_command(roas)"
_SLOW = ("prefect", "numpy", "scipy", "pyarrow", "redis", "docker")


@pytest.mark.parametrize(
    "words", [["history"], ["status"], ["why"], ["tickets"], ["alerts"], ["show", "x"], ["--help"]]
)
def test_command_that_reads_imports_no_slow_library(tmp_path: Path, words: list[str]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
    folders = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", f"{_RUN}; print('imported', *sys.modules)", *words],
        env=kept | folders, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = found.stdout.rpartition("imported ")[2].split()
    assert "click" in imported
    assert not {name.partition(".")[0] for name in imported} & set(_SLOW)
