"""24 hours of collection on a clock of their own, with everything away once: python -m tests.e2e.monitoring.

Each look really asks an engine, which is restarted; a real Redis is stopped, and a real disk is full for a while.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.e2e.monitoring.day import live_on_small_disk
from tests.support.engines import engine_for_a_while

A_DAY = 24 * 240


def main() -> int:
    """Run the day; 1 where anything was not as expected."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="roas-day-") as name,
        pytest.MonkeyPatch.context() as patch,
        engine_for_a_while() as engine,
    ):
        day = asyncio.run(live_on_small_disk(Path(name), patch, rounds=A_DAY, own_engine=engine))
    print(f"{A_DAY} rounds in {time.monotonic() - began:.0f} s, {len(day.lost)} of them lost to the full disk")
    print(f"alerts told: {day.opened}; not as expected: {day.complaints or 'nothing'}")
    return 1 if day.complaints else 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(main())
