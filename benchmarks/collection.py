"""What a collection costs: against `docker stats` of the same containers, in hours of it, and in its store.

    python -m benchmarks.collection [--containers 10 30 60 100] [--rounds 5] [--cadence 40] [--day-rounds 5760]

- containers: one evaluation as monitoring does it, warm, in turns with `docker stats --no-stream` of the same
  containers; medians, and the line through them.
- cadence: evaluations at 15 s with 50 services on the real engine, as the agent makes them: processor time of their
  process, in percent of one core.
- day: simulated evaluations of 50 services at 15 s into real stores: processor time, and the size of monitoring.db by
  table, before and after the roll-up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import sqlite3
import statistics
import tempfile
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.stores.lifecycle.steps import compress_monitoring, vacuum
from benchmarks.measure import Stack, in_turns, medians, report, run_docker, stack
from core.monitoring.assess import assess
from flows.monitoring.collection import collect
from flows.monitoring.continuous import EnvironmentMonitor, leave_alone_what_is_loaded
from flows.monitoring.failures import CollectionFeed
from models.environments import Environment
from models.storage import MIB, RetentionPolicy
from tasks.monitoring.collect import read_memory, store_round
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.store_access import StoreAccess, outliving_stores
from tasks.runtime.stores import open_stores
from tests.e2e.monitoring.simulated import simulated

EVERY = timedelta(seconds=15)
NAMES = tuple(f"service-{place:02}" for place in range(50))
CORE_PERCENT = 5
GROWTH_MIB = 40
TIMES_FASTER = {30: 10.0, 100: 15.0}


def sleeping(folder: Path, count: int) -> AbstractContextManager[Stack]:
    """An application of so many sleeping services."""
    service = {"command": ["sleep", "infinity"], "network_mode": "none"}
    return stack(folder, f"sleep{count}", {f"s{place:03}": service for place in range(count)}, collect_every_seconds=15)


def compare(folder: Path, count: int, rounds: int) -> tuple[float, bool]:
    """Median seconds of an evaluation of so many containers, and whether the goal against docker stats is met."""
    with sleeping(folder, count) as made, without_task_runs(), asyncio.Runner() as runner:
        made.compose("up", "-d", "--quiet-pull")
        ids = run_docker("ps", "-q", "--filter", f"label=com.docker.compose.project={made.project}").split()
        assert len(ids) == count

        def work() -> None:
            runner.run(collect(made.name, ()))

        work()
        work()
        leave_alone_what_is_loaded()
        works = {"ours": work, "theirs": lambda: run_docker("stats", "--no-stream", *ids)}
        taken = medians(in_turns(rounds, works))
    report(f"{count} containers: an evaluation", 1000 * taken["ours"], "ms")
    least = TIMES_FASTER.get(count)
    return taken["ours"], report("  times faster than docker stats", taken["theirs"] / taken["ours"], least=least)


async def at_cadence(name: str, rounds: int) -> bool:
    """Measure evaluations one after the other; it leaves out the first of them."""
    monitor = EnvironmentMonitor(name, CollectionFeed(files=(), act=False))
    with without_task_runs(), outliving_stores(StoreAccess(name)):
        # Imports and compilation happen once and say nothing about hours of work.
        await collect(name, ())
        leave_alone_what_is_loaded()
        await asyncio.sleep(EVERY.total_seconds())
        ours, began = time.process_time(), time.monotonic()
        for number in range(rounds):
            await asyncio.sleep(max(0.0, began + number * EVERY.total_seconds() - time.monotonic()))
            await monitor.collect(EVERY)
        await monitor.end()
    used = 100 * (time.process_time() - ours) / (rounds * EVERY.total_seconds())
    assert not monitor.failed
    return report(f"{monitor.kept} evaluations of {len(NAMES)} services at 15 s", used, "% core", most=CORE_PERCENT)


async def live_a_day(folder: Path, rounds: int) -> bool:
    """Run so many evaluations of fifty services."""
    os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": str(folder)}
    environment = Environment.model_validate(
        {"name": "day", "project": "day", "compose_files": [folder / "c.yaml"], "collect_every_seconds": 15}
    )
    chance, begin = random.Random(3), datetime.now(UTC) - rounds * EVERY
    began = time.process_time()
    for number in range(rounds):
        at = begin + number * EVERY
        memory = await read_memory("day", at)
        evaluated = assess(environment, simulated(at, number, chance, NAMES), memory)
        await store_round("day", evaluated, memory.collected_at)
    percent = 100 * (time.process_time() - began) / (rounds * EVERY.total_seconds())
    kept = report(f"{rounds} simulated evaluations at 15 s", percent, "% core", most=CORE_PERCENT)
    stores = open_stores()
    stores.writer.flush()
    database = folder / "data" / "monitoring.db"
    report("  monitoring.db", database.stat().st_size / MIB, "MiB")
    print(f"  {_by_table(database)}", flush=True)
    old = datetime.now(UTC) + RetentionPolicy().monitoring + timedelta(days=2)
    compress_monitoring(stores, old)
    vacuum(stores, old)
    files = [database, *(folder / "data").rglob("*.parquet")]
    after = sum(file.stat().st_size for file in files) / MIB
    kept &= report("  after the roll-up, with archives", after, "MiB", most=GROWTH_MIB)
    print(f"  {_by_table(database)}")
    return kept


def _by_table(database: Path) -> str:
    """The largest tables with their indexes, in MiB."""
    with contextlib.closing(sqlite3.connect(database)) as store:
        sizes = store.execute(
            "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
    return ", ".join(f"{name} {size / MIB:.1f}" for name, size in sizes[:6])


def main() -> None:
    """Measure the requested figures, and end with 1 where a goal is missed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--containers", type=int, nargs="*", default=[10, 30, 60, 100])
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--cadence", type=int, default=40, help="Evaluations at 15 s; 0 leaves them out.")
    words.add_argument("--day-rounds", type=int, default=5760, help="Simulated evaluations; 0 leaves them out.")
    asked = words.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="roas-benchmark-") as name:
        folder = Path(name)
        measured = [compare(folder, count, asked.rounds) for count in asked.containers]
        kept = all(good for _, good in measured)
        if len(measured) > 2:
            counts, took = asked.containers, [one for one, _ in measured]
            each, once = statistics.linear_regression(counts, took)
            report("a container more", 1000 * each, "ms")
            report("an evaluation without containers", 1000 * once, "ms")
            report("R2 of that line", statistics.correlation(counts, took) ** 2)
        if asked.cadence:
            with sleeping(folder, len(NAMES)) as made:
                made.compose("up", "-d", "--quiet-pull")
                kept &= asyncio.run(at_cadence(made.name, asked.cadence))
        if asked.day_rounds:
            kept &= asyncio.run(live_a_day(folder, asked.day_rounds))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
