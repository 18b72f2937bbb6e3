"""24 hours of collection on a clock of their own, with everything away once: python -m tests.monitoring."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import pytest

from tests.monitoring.day import live_on_small_disk

A_DAY = 24 * 240

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="roas-day-") as name, pytest.MonkeyPatch.context() as patch:
        day = asyncio.run(live_on_small_disk(Path(name), patch, rounds=A_DAY))
    print(f"{A_DAY} rounds, {len(day.lost)} of them lost to the full disk; not as it must be: {day.complaints}")
    sys.exit(1 if day.complaints else 0)
