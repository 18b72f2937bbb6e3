"""What a collection costs: against `docker stats` of the same containers, in hours of it, and in its store.

    python -m benchmarks.collection [--containers 10 30 60 100] [--rounds 5] [--cadence 40] [--day-rounds 5760]

- containers: one round as monitoring does it, warm (look at the host, at every container and its use of resources,
  read the stored state, judge, store), in turns with `docker stats --no-stream` of the same containers; medians,
  and the line through them. Beside it the same as a recorded flow run of its own on a server that is there, whose
  difference is what the engine adds.
- cadence: so many rounds of a monitoring run at 15 s with 50 services on the real engine: processor time of its process
  and of the Prefect server as shares of one core.
- day: made rounds of 50 services at 15 s through the real judging into real stores; processor time, and the size of
  monitoring.db by table, before and after the roll-up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import secrets
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from prefect.testing.utilities import prefect_test_harness

from adapters.stores.lifecycle.steps import compress_monitoring, vacuum
from core.monitoring.assess import assess
from flows.monitoring.collection import collect, collection
from flows.monitoring.continuous import leave_alone_what_is_loaded, monitoring
from models.environments import Environment
from models.retention import MIB, RetentionPolicy
from tasks.monitoring.collect import read_memory, store_round
from tasks.runtime.clients import find_environment
from tasks.runtime.stores import open_stores
from tests.e2e.monitoring.simulated import simulated

IMAGE = "debian:trixie-slim"
EVERY = timedelta(seconds=15)
NAMES = tuple(f"service-{place:02}" for place in range(50))
CORE_SHARE = 0.05
GROWTH_BYTES = 40 * 1024 * 1024
TIMES_FASTER = {30: 10.0, 100: 15.0}


async def work(environment: Environment) -> None:
    """One round, as monitoring does it."""
    await collect(environment.name, ())


async def compare(environment: Environment, count: int, rounds: int) -> tuple[float, float]:
    """Median seconds of our work and of docker stats for the same containers, measured in turns."""
    ids = _docker("ps", "-q", "--filter", f"label=com.docker.compose.project={environment.project}").split()
    assert len(ids) == count
    for _ in range(2):
        await work(environment)
    leave_alone_what_is_loaded()
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(await _timed(lambda: work(environment)))
        theirs.append(await _timed(lambda: asyncio.to_thread(_docker, "stats", "--no-stream", *ids)))
    return statistics.median(ours), statistics.median(theirs)


async def with_engine(environment: Environment, rounds: int) -> float:
    """Median seconds of a recorded flow run of the same, on a server that is there already."""
    await collection(environment.name, act=False)
    return statistics.median([await _timed(lambda: collection(environment.name, act=False)) for _ in range(rounds)])


async def at_cadence(environment: Environment, rounds: int) -> tuple[float, float, int]:
    """Processor time of a monitoring run and of the server it is recorded on, as shares of one core, and its rounds.

    The first of them is left out by monitoring, since the one before it was a moment ago.
    """
    # Imports and compilation happen once and say nothing about hours of work.
    await collection(environment.name, act=False)
    server = psutil.Process().children(recursive=True)
    ours, theirs, began = time.process_time(), _used(server), time.monotonic()
    report = await monitoring(environment.name, act=False, hours=rounds * EVERY / timedelta(hours=1))
    passed = time.monotonic() - began
    assert not report.failed
    return (time.process_time() - ours) / passed, (_used(server) - theirs) / passed, report.collections


async def live_a_day(folder: Path, rounds: int) -> bool:
    """Run so many collections of fifty services."""
    environment = Environment.model_validate(
        {"name": "day", "project": "day", "compose_files": [folder / "c.yaml"], "collect_every_seconds": 15}
    )
    chance, begin = random.Random(3), datetime.now(UTC) - rounds * EVERY
    began, read, judged_in, kept = time.process_time(), 0.0, 0.0, 0.0
    for number in range(rounds):
        at = begin + number * EVERY
        seen = simulated(at, number, chance, NAMES)
        start = time.process_time()
        memory = await read_memory("day", at)
        looked = time.process_time()
        judged = assess(environment, seen, memory)
        thought = time.process_time()
        await store_round("day", judged, memory.collected_at)
        read, judged_in, kept = (
            read + looked - start,
            judged_in + thought - looked,
            kept + time.process_time() - thought,
        )
    used = time.process_time() - began
    stores = open_stores()
    stores.writer.flush()
    before = _size(folder)
    share = used / (rounds * EVERY.total_seconds())
    print(f"day: {rounds} rounds of {len(NAMES)} services, {len(judged.metrics)} metrics a round: ", end="")
    print(
        f"{1000 * used / rounds:.0f} ms of processor a round ({1000 * read / rounds:.0f} to read what is remembered, "
    )
    print(f"  {1000 * judged_in / rounds:.0f} to judge, {1000 * kept / rounds:.0f} to store): ", end="")
    print(f"{100 * share:.2f} % of one core (at most {100 * CORE_SHARE:.0f})")
    print(f"  monitoring.db {before / MIB:.1f} MiB: {_by_table(folder)}", flush=True)
    old = datetime.now(UTC) + RetentionPolicy().monitoring + timedelta(days=2)
    compress_monitoring(stores, old)
    vacuum(stores, old)
    archives = sum(one.stat().st_size for one in (folder / "data").rglob("*.parquet"))
    after = _size(folder) + archives
    print(f"  after the roll-up {after / MIB:.1f} MiB (at most 40), {archives / MIB:.1f} of it archives: ", end="")
    print(_by_table(folder))
    return share <= CORE_SHARE and after <= GROWTH_BYTES


def _by_table(folder: Path) -> str:
    """The largest tables with their indexes, in MiB."""
    with contextlib.closing(sqlite3.connect(folder / "data" / "monitoring.db")) as store:
        sizes = store.execute(
            "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
    return ", ".join(f"{name} {size / MIB:.1f}" for name, size in sizes[:6])


def _used(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in processes)


@contextmanager
def _containers(folder: Path, count: int) -> Iterator[Environment]:
    """So many sleeping services of a project of their own."""
    name = f"roas-benchmark-{secrets.token_hex(4)}"
    body = "".join(
        f"  s{place:03}: {{image: {IMAGE}, init: true, command: [sleep, infinity], network_mode: none}}\n"
        for place in range(count)
    )
    (folder / f"{name}-compose.yaml").write_text(f"services:\n{body}")
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\nproject: {name}\ncompose_files: [{name}-compose.yaml]\ncollect_every_seconds: 15\n"
    )
    compose = ("compose", "-p", name, "-f", str(folder / f"{name}-compose.yaml"))
    try:
        _docker(*compose, "up", "-d", "--quiet-pull")
        yield find_environment(name)
    finally:
        _docker(*compose, "down", "-t", "0")


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


async def _timed(doing: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await doing()
    return time.perf_counter() - began


def _size(folder: Path) -> int:
    return (folder / "data" / "monitoring.db").stat().st_size


def main() -> None:
    """Measure the requested figures, print it, and end with 1 where a goal is missed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--containers", type=int, nargs="*", default=[10, 30, 60, 100])
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--cadence", type=int, default=40, help="Rounds at 15 s; 0 leaves them out.")
    words.add_argument("--day-rounds", type=int, default=5760, help="Made rounds; 0 leaves them out.")
    words.add_argument("--no-flow", action="store_true", help="Leave the recorded flow run out.")
    asked = words.parse_args()
    logging.disable(logging.WARNING)
    well, took = True, {}
    with tempfile.TemporaryDirectory(prefix="roas-benchmark-") as name:
        folder = Path(name)
        os.environ |= {"ROAS_DATA_DIR": f"{name}/data", "ROAS_ENVIRONMENTS_DIR": name}
        for count in asked.containers:
            with _containers(folder, count) as environment:
                ours, theirs = asyncio.run(compare(environment, count, asked.rounds))
                took[count] = ours
                goal = TIMES_FASTER.get(count)
                well &= goal is None or theirs / ours >= goal
                wanted = f" (at least {goal:.0f})" if goal else ""
                print(f"{count} containers: {ours:.3f} s, {1000 * ours / count:.1f} ms each; ", end="")
                print(f"docker stats {theirs:.2f} s: {theirs / ours:.1f} times faster{wanted}", flush=True)
                if not asked.no_flow:
                    with prefect_test_harness(server_startup_timeout=120):
                        recorded = asyncio.run(with_engine(environment, asked.rounds))
                    print(f"  as a recorded flow run {recorded:.3f} s: the engine adds {recorded - ours:.3f} s")
        if len(took) > 2:
            counts, seconds = list(took), list(took.values())
            each, once = statistics.linear_regression(counts, seconds)
            fit = statistics.correlation(counts, seconds) ** 2
            print(f"one round takes {1000 * once:.0f} ms and {1000 * each:.2f} ms a container: R2 {fit:.3f}")
        if asked.cadence:
            count = len(NAMES)
            with _containers(folder, count) as environment, prefect_test_harness(server_startup_timeout=120):
                mine, servers, kept = asyncio.run(at_cadence(environment, asked.cadence))
            print(
                f"{kept} rounds of {len(NAMES)} services at 15 s on the engine: {100 * mine:.2f} % of one ",
                end="",
            )
            print(f"core (at most {100 * CORE_SHARE:.0f}), the Prefect server {100 * servers:.2f} %", flush=True)
            well &= mine <= CORE_SHARE
        if asked.day_rounds:
            well &= asyncio.run(live_a_day(folder, asked.day_rounds))
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
