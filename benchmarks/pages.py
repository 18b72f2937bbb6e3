"""The report on two years as one HTML page: how long `roas report ENV --html FILE` takes, and how large the page is.

    python -m benchmarks.pages [--days 730] [--services 5] [--minutes 60] [--keep FILE]

The stores are made: starts every six hours, answers of every service's probe every so many minutes. Times are of the
whole command in a new process; processor time is the one to compare on a machine that does other work too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from adapters.stores import Stores
from benchmarks.measure import in_turns, report
from models.settings import Settings
from tests.integration.stores.year import Year, fill

_MOST_SECONDS = 3.0
_MOST_MIB = 2.0
_RUNS = 3


def _processor_seconds() -> float:
    """Of all commands that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument("--services", type=int, default=5)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="Keep the page in this file.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Stores.open(Settings(data_dir=folder / "data")) as stores:
            fill(
                stores,
                Year(now=datetime.now(UTC), days=given.days, services=given.services, minutes=given.minutes),
            )
        page = folder / "page.html"
        start = "from cli.main import main; main()"
        command = [sys.executable, "-c", start, "report", "prod", "--days", str(given.days), "--html", str(page)]
        places = {
            "ROAS_DATA_DIR": str(folder / "data"),
            "ROAS_ENVIRONMENTS_DIR": str(folder),
        }

        def run() -> None:
            subprocess.run(command, check=True, env=os.environ | places, stderr=subprocess.DEVNULL)

        taken = in_turns(_RUNS, {"report": run}, clocks=(time.perf_counter, _processor_seconds))["report"]
        shortest, least_work = (min(times) for times in zip(*taken, strict=True))
        if given.keep:
            shutil.copyfile(page, given.keep)
        kept = [
            report("shortest time of the command", shortest, "s", most=_MOST_SECONDS),
            report("its processor time", least_work, "s", most=_MOST_SECONDS),
            report("size of the page", page.stat().st_size / 1024**2, "MiB", most=_MOST_MIB),
        ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
