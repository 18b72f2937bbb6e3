"""Processes whose clock is wrong, as on a host without time synchronisation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


def with_wrong_clock(seconds: int) -> dict[str, str]:
    """Variables that put the clock of a process so far ahead, or with a negative number behind (Debian's faketime)."""
    library = next((one for one in _LIBRARIES if Path(one).exists()), None)
    if library is None:
        pytest.skip("Debian's package faketime is not installed")
    return {"LD_PRELOAD": library, "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def python_with_wrong_clock(seconds: int, program: str, environment: Mapping[str, str]) -> str:
    """What a Python program prints whose clock is wrong by so many seconds."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(os.environ) | dict(environment) | with_wrong_clock(seconds),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
