"""A collection as a scheduled run of its own each minute, against rounds in one long run."""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.latency.runs import run_one_by_one
from benchmarks.latency.serving import UiServer, served
from benchmarks.measure import checked, report, stack

_A_DAY = 24 * 60
_SECONDS = 60.0
_OFTEN, _SELDOM = 5, 3600
_RUNS = 30
_MOST_PERCENT = 2.0
_MOST_MB = 30.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What has been spent so far."""

    at: float
    by_runs: float
    """Processor seconds of the runs and the warm process."""
    by_others: float
    """Processor seconds of the Prefect server and of `roas serve`."""
    stored: float
    """Bytes in Prefect's database."""

    def per_second(self, before: Spent) -> Spent:
        """What one second has cost since an earlier moment."""
        took = self.at - before.at
        values = (self.by_runs - before.by_runs, self.by_others - before.by_others, self.stored - before.stored)
        return Spent(1.0, *(value / took for value in values))

    def each(self, before: Spent, idle: Spent, count: int) -> Spent:
        """What each of so many has cost since an earlier moment, above what was spent anyway."""
        spent, took = self.per_second(before), self.at - before.at
        pairs = ((spent.by_runs, idle.by_runs), (spent.by_others, idle.by_others), (spent.stored, idle.stored))
        return Spent(took, *((whole - anyway) * took / count for whole, anyway in pairs))


def collections(folder: Path, _chosen: argparse.Namespace) -> None:
    """Processor time of all processes and growth of Prefect's database, above those of a monitoring that waits."""
    service = checked(interval="5s", timeout="3s", retries=3)
    with stack(folder, "latency", {"one": service, "two": service}, collect_every_seconds=_OFTEN) as made:
        made.compose("up", "--detach", "--wait")
        with served(folder, 1) as (server, process):
            family = psutil.Process(process.pid)
            # The first rounds read and compile what later ones have.
            time.sleep(_SECONDS)
            before, rounds = _spent(server, family), _rounds(server)
            time.sleep(_SECONDS)
            often, rounds = _spent(server, family), _rounds(server) - rounds
            _collect_seldom(folder / "latency.yaml")
            time.sleep(2 * _OFTEN)
            waiting = _spent(server, family)
            time.sleep(_SECONDS)
            waited = _spent(server, family)
            found = run_one_by_one(server, "collection/latency", _RUNS)
            scheduled = _spent(server, family)
    idle = waited.per_second(waiting)
    lost = [one for one in found if one.state != "Completed"]
    report("scheduled collections that were not completed", len(lost), most=0)
    report("all of it while nothing is collected", 100 * (idle.by_runs + idle.by_others), "% core")
    _say("a round of the long run", often.each(before, idle, rounds))
    # One more is asked for first.
    _say("a scheduled run", scheduled.each(waited, idle, _RUNS + 1))


def _say(what: str, spent: Spent) -> None:
    report(f"{what}: processor of the run", 1000 * spent.by_runs, "ms")
    report("  of server and runner", 1000 * spent.by_others, "ms")
    report("  once a minute", 100 * (spent.by_runs + spent.by_others) / 60, "% core", most=_MOST_PERCENT)
    report("  Prefect's database, once a minute", spent.stored * _A_DAY / 1e6, "MB/day", most=_MOST_MB)


def _spent(server: UiServer, family: psutil.Process) -> Spent:
    whole = [family, *family.children(recursive=True)]
    others = [one for one in whole if one == family or "server_process" in " ".join(one.cmdline())]
    by_others = sum(map(_used, others))
    return Spent(time.monotonic(), sum(map(_used, whole)) - by_others, by_others, _database_bytes(server))


def _collect_seldom(environment: Path) -> None:
    declared = json.loads(environment.read_text())
    environment.write_text(json.dumps(declared | {"collect_every_seconds": _SELDOM}))


def _rounds(server: UiServer) -> int:
    assert server.data is not None
    with closing(sqlite3.connect(f"file:{server.data}/monitoring.db?mode=ro", uri=True)) as store:
        (count,) = store.execute("SELECT count(DISTINCT ts) FROM metric_samples").fetchone()
    return int(count)


def _database_bytes(server: UiServer) -> float:
    """What Prefect's database uses of its file, with what is not yet moved there."""
    assert server.data is not None
    with closing(sqlite3.connect(f"file:{server.data}/prefect/prefect.db?mode=ro", uri=True)) as store:
        pages, free, size = (store.execute(f"PRAGMA {one}").fetchone()[0] for one in _PRAGMAS)
    return float((pages - free) * size)


_PRAGMAS = ("page_count", "freelist_count", "page_size")


def _used(process: psutil.Process) -> float:
    """Processor seconds of a process and of its children that have ended."""
    return sum(process.cpu_times()[:4])
