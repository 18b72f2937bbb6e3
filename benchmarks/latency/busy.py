"""Processes that keep both cores busy while something is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_COUNT = 2
_LONGEST_SECONDS = 3600
# It ends with its parent, and at the latest after an hour.
_SPIN = f"""
import os, time
parent, until = os.getppid(), time.monotonic() + {_LONGEST_SECONDS}
while os.getppid() == parent and time.monotonic() < until:
    sum(range(100_000))
"""


@contextmanager
def busy() -> Iterator[None]:
    """Keep two processes busy during the block, at this process's priority."""
    print(f"{_COUNT} processes keep the machine busy:", flush=True)
    spinning = [subprocess.Popen([sys.executable, "-I", "-S", "-c", _SPIN]) for _ in range(_COUNT)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()
