"""Answer and retry recoveries in the Prefect UI, with a browser and the engine that `docker` talks to.

    python -m tests.e2e.browser [pytest's options]

It is no part of the gate: two failures are lived through, from the watch that hears of them to the end, in ten
processes one after the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main([str(Path(__file__).with_name("in_the_ui.py")), *sys.argv[1:]]))
