"""A collection as a scheduled run of its own each minute, against rounds in one long run."""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psutil

from benchmarks.latency.runs import run_one_by_one
from benchmarks.latency.serving import Server, served
from benchmarks.measure import checked, report, stack

_A_DAY = 24 * 60
_SECONDS = 60.0
_OFTEN, _SELDOM = 5, 3600
_RUNS = 30
_MOST_PERCENT = 2.0
_MOST_MB = 30.0


def collections(folder: Path, _chosen: argparse.Namespace) -> None:
    """Processor time of all processes and growth of Prefect's database, above those of a monitoring that waits."""
    service = checked(interval="5s", timeout="3s", retries=3)
    with stack(folder, "latency", {"one": service, "two": service}, collect_every_seconds=_OFTEN) as made:
        made.compose("up", "--detach", "--wait")
        with served(folder, 1) as (server, process):
            family = psutil.Process(process.pid)
            time.sleep(_SECONDS)
            rounds, often, often_bytes = _during_rounds(server, family)
            _collect_seldom(folder / "latency.yaml")
            time.sleep(2 * _OFTEN)
            before, size = _used(family), _database_bytes(server)
            time.sleep(_SECONDS)
            idle = (_used(family) - before) / _SECONDS
            idle_bytes = (_database_bytes(server) - size) / _SECONDS
            before, size, began = _used(family), _database_bytes(server), time.monotonic()
            found = run_one_by_one(server, "collection/latency", _RUNS)
            took = time.monotonic() - began
            of_runs = (_used(family) - before - idle * took) / _RUNS
            run_bytes = (_database_bytes(server) - size - idle_bytes * took) / _RUNS
    lost = [one for one in found if one.state != "Completed"]
    report("scheduled collections that were not completed", len(lost), most=0)
    report("all of it while nothing is collected", 100 * idle, "% core")
    _say("a round of the long run", (often - idle * _SECONDS) / rounds, (often_bytes - idle_bytes * _SECONDS) / rounds)
    _say("a scheduled run", of_runs, run_bytes)


def _say(what: str, seconds: float, grown: float) -> None:
    report(f"{what}: processor", 1000 * seconds, "ms")
    report("  once a minute", 100 * seconds / 60, "% core", most=_MOST_PERCENT)
    report("  Prefect's database, once a minute", grown * _A_DAY / 1e6, "MB/day", most=_MOST_MB)


def _during_rounds(server: Server, family: psutil.Process) -> tuple[int, float, float]:
    """Rounds in a while, and the processor seconds and bytes of it."""
    before, size, rounds = _used(family), _database_bytes(server), _rounds(server)
    time.sleep(_SECONDS)
    return _rounds(server) - rounds, _used(family) - before, _database_bytes(server) - size


def _collect_seldom(environment: Path) -> None:
    declared = json.loads(environment.read_text())
    environment.write_text(json.dumps(declared | {"collect_every_seconds": _SELDOM}))


def _rounds(server: Server) -> int:
    assert server.data is not None
    with closing(sqlite3.connect(f"file:{server.data}/monitoring.db?mode=ro", uri=True)) as store:
        (count,) = store.execute("SELECT count(DISTINCT ts) FROM metric_samples").fetchone()
    return int(count)


def _database_bytes(server: Server) -> float:
    """What Prefect's database uses of its file, with what is not yet moved there."""
    assert server.data is not None
    with closing(sqlite3.connect(f"file:{server.data}/prefect/prefect.db?mode=ro", uri=True)) as store:
        pages, free, size = (store.execute(f"PRAGMA {one}").fetchone()[0] for one in _PRAGMAS)
    return float((pages - free) * size)


_PRAGMAS = ("page_count", "freelist_count", "page_size")


def _used(family: psutil.Process) -> float:
    """Processor seconds of a process and all that it started, those that have ended included."""
    return sum(sum(one.cpu_times()[:4]) for one in (family, *family.children(recursive=True)))
