"""What an update costs, what a client sees of it, and whether it is always proven or back.

    python -m benchmarks.update [ten outage proxies bad killed spoilt killed-data hundred] [--rounds 5] [--seed 7]

The applications are small web services of Debian's image, whose versions come from Debian's docker-registry on
loopback. Figures against Compose are ratios of medians of one run, measured in turns. Commands run as a user's do: in
processes of their own, for the server and the warm process that an earlier command has left.

- ten: an update of ten services of which one changed, beside `docker compose pull` and `docker compose up --wait`.
- outage: one of three services is replaced stop-first while a client asks all the time, beside Compose's.
- proxies: a service behind a proxy is replaced start-first while a client asks 20 times a second.
- bad: updates to versions that crash, crash later, become unhealthy, never become healthy, or answer wrongly, and
  to some that fail a smoke test or their migration.
- killed: the process that updates is killed at each recorded step and at random moments, and its work is taken up.
- spoilt: updates after which the data of PostgreSQL and a volume is wrong, and a rollback with data.
- killed-data: the process that rolls back with data is killed at each recorded step, and its work is taken up.
- hundred: updates by a deployment's runs, from a tag that moves at random; every third version is bad.

Each prints its figures and the goals that they must meet; the exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.updates.bad import bad
from benchmarks.updates.costs import outage, proxies, ten
from benchmarks.updates.data import killed_with_data, spoilt
from benchmarks.updates.killed import killed
from benchmarks.updates.scheduled import hundred

PARTS: dict[str, Callable[[Path, argparse.Namespace], bool]] = {
    "ten": lambda folder, chosen: ten(folder, chosen.rounds),
    "outage": lambda folder, chosen: outage(folder, chosen.rounds),
    "proxies": lambda folder, chosen: proxies(folder, chosen.requests),
    "bad": lambda folder, chosen: bad(folder, chosen.rounds),
    "killed": lambda folder, chosen: killed(folder, chosen.rounds, chosen.seed),
    "spoilt": lambda folder, chosen: spoilt(folder, chosen.rounds),
    "killed-data": lambda folder, chosen: killed_with_data(folder, chosen.rounds, chosen.seed),
    "hundred": lambda folder, chosen: hundred(folder, chosen.updates, chosen.seed),
}


def main() -> None:
    """Measure the requested parts, and end with 1 where a goal is missed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    arguments.add_argument("--rounds", type=int, default=5, help="repetitions of each measurement, or of each kind")
    arguments.add_argument("--requests", type=int, default=2000, help="proxies: so many for each")
    arguments.add_argument("--updates", type=int, default=100, help="hundred: so many")
    arguments.add_argument("--seed", type=int, default=7, help="of what is random")
    chosen = arguments.parse_args()
    # A terminated run cleans up after itself as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kept = True
    for part in chosen.parts or PARTS:
        # Each has folders of its own; the path of a socket in them has to be short.
        with tempfile.TemporaryDirectory(prefix="roas-update-", ignore_cleanup_errors=True) as folder:
            kept = PARTS[part](Path(folder), chosen) and kept
    sys.exit(not kept)


if __name__ == "__main__":
    main()
