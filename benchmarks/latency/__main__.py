"""How soon a command answers and a run begins, with and without the warm process, beside Docker's own commands.

    python -m benchmarks.latency [reading starting runs ...] [--rounds 9] [--busy]
    python -m benchmarks.latency runs --api URL --deployment health-check/prod [--data FOLDER]

Whole processes, measured in turns within one run: wall time, and the processor time of the command with the warm
process and the Prefect server that work for it. Figures are medians; a warm start works for a Prefect server that an
earlier command has left, a cold one (ROAS_WARM=0) for one of its own.

- reading: commands that read records, beside `docker ps`.
- starting: `roas start` of what runs already, beside `docker compose up --detach --wait`.
- nothing: a start of the sample application from nothing, beside Compose's.
- runs: runs asked of `roas serve`, or with --api of a server and worker that run already (PREFECT_API_AUTH_STRING has
  its password, and --data names its data folder): how soon each begins, and whether one is lost or runs twice.
- memory: what runs always for one environment under `roas serve`, with the warm process and without; --earlier names a
  checkout of an earlier version to compare with as well.
- collections: a collection as a scheduled run of its own each minute, against rounds in one long run; only by name.
- forks: many warm commands one after the other: what the warm process holds before and after.

--busy keeps two processes busy at normal priority meanwhile.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from benchmarks.latency import collections, commands, memory, runs
from benchmarks.latency.busy import busy

Work = Callable[[Path, argparse.Namespace], None]
WORKS: dict[str, Work] = {
    "reading": commands.reading,
    "starting": commands.starting,
    "nothing": commands.nothing,
    "memory": memory.memory,
    "runs": runs.runs,
    "forks": commands.forks,
    "collections": collections.collections,
}
_ONLY_BY_NAME = ("collections",)


def main() -> None:
    """Measure the requested figures and print them."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", nargs="*", choices=[*WORKS, []], help="by default all but collections")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--busy", action="store_true", help="keep two processes busy meanwhile")
    arguments.add_argument("--runs", type=int, default=200, help="how many are asked for one after the other")
    arguments.add_argument("--api", help="measure runs of this server instead of one of `roas serve`")
    arguments.add_argument("--deployment", default="", help="with --api: the deployment that is asked for")
    arguments.add_argument("--data", type=Path, help="with --api: the data folder, to count operation records")
    arguments.add_argument("--earlier", type=Path, help="memory: a checkout of an earlier version")
    chosen = arguments.parse_args()
    if bool(chosen.api) != bool(chosen.deployment):
        arguments.error("--api and --deployment belong together")
    os.environ.pop("ROAS_WARM", None)
    with busy() if chosen.busy else nullcontext():
        for one in chosen.what or [one for one in WORKS if one not in _ONLY_BY_NAME]:
            # Each has folders of its own; the path of a socket in them has to be short.
            with tempfile.TemporaryDirectory(prefix="roas-latency-") as name:
                WORKS[one](Path(name), chosen)


if __name__ == "__main__":
    main()
