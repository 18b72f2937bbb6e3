"""What a collection costs: against `docker stats` of the same containers, and over a day of fifty services.

    python -m benchmarks.collection [--containers 30 100] [--rounds 5] [--day-rounds 5760]

- containers: the work of a collection inside its flow, warm (look at the host, at every container and its use of
  resources, read what is remembered, judge, store the round), in turns with `docker stats --no-stream` of the same
  containers; medians. Beside it the same as a recorded flow run on a temporary server, whose difference is what
  the engine adds.
- day: rounds of 50 services at 15 s, with simulated samples, through the real judging into real stores; processor
  time of this process as a share of one core, and the size of monitoring.db before and after the roll-up.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.stores.lifecycle import compress_monitoring, vacuum
from core.collected import Seen, judge_seen
from core.health import judge_environment
from core.judging import judge_all
from flows.judging import dependencies_of
from models.environments import Environment
from models.retention import RetentionPolicy
from tasks.doors import find_environment
from tasks.monitoring import load_of_host, read_memory, sample_services, sample_system, store_round
from tasks.services import look_at_application, read_outline
from tasks.stores import open_stores
from tests.monitoring.simulated import simulated

IMAGE = "debian:trixie-slim"
EVERY = timedelta(seconds=15)
NAMES = tuple(f"service-{place:02}" for place in range(50))
CORE_SHARE = 0.05
GROWTH_BYTES = 40 * 1024 * 1024
TIMES_FASTER = {30: 10.0, 100: 15.0}


async def work(environment: Environment) -> None:
    """All that a collection does between the first and the last line of its flow, recoveries aside."""
    now = datetime.now(UTC)
    application, system, samples, sightings, memory = await asyncio.gather(
        read_outline.fn(environment),
        sample_system.fn(),
        sample_services.fn(environment),
        look_at_application.fn(environment),
        read_memory.fn(environment.name, now),
    )
    needs = dependencies_of(environment, application)
    health = judge_environment(
        environment.name,
        judge_all(environment, application, sightings, {}),
        now=now,
        dependencies=needs,
        system_load=load_of_host(),
    )
    seen = Seen(
        at=now, application=application, system=system, samples=samples, sightings=sightings, health=health, needs=needs
    )  # fmt: skip
    await store_round.fn(environment.name, judge_seen(environment, seen, memory))


async def compare(environment: Environment, count: int, rounds: int) -> tuple[float, float]:
    """Median seconds of our work and of docker stats for the same containers, measured in turns."""
    ids = _docker("ps", "-q", "--filter", f"label=com.docker.compose.project={environment.project}").split()
    assert len(ids) == count
    for _ in range(2):
        await work(environment)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(await _timed(lambda: work(environment)))
        theirs.append(await _timed(lambda: asyncio.to_thread(_docker, "stats", "--no-stream", *ids)))
    return statistics.median(ours), statistics.median(theirs)


async def with_engine(environment: Environment, rounds: int) -> float:
    """Median seconds of a recorded flow run of the same, on a server that is there already."""
    from flows.collection import collection

    await collection(environment.name, act=False)
    return statistics.median([await _timed(lambda: collection(environment.name, act=False)) for _ in range(rounds)])


async def live_a_day(folder: Path, rounds: int) -> bool:
    """Live through so many rounds of fifty services."""
    environment = Environment.model_validate(
        {"name": "day", "project": "day", "compose_files": [folder / "c.yaml"], "collect_every_seconds": 15}
    )
    chance, begin = random.Random(3), datetime.now(UTC) - rounds * EVERY
    began, read, judged_in, kept = time.process_time(), 0.0, 0.0, 0.0
    for number in range(rounds):
        at = begin + number * EVERY
        seen = simulated(at, number, chance, NAMES)
        start = time.process_time()
        memory = await read_memory.fn("day", at)
        looked = time.process_time()
        judged = judge_seen(environment, seen, memory)
        thought = time.process_time()
        await store_round.fn("day", judged)
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
    old = datetime.now(UTC) + RetentionPolicy().monitoring + timedelta(days=2)
    compress_monitoring(stores, old)
    vacuum(stores, old)
    after = _size(folder) + sum(one.stat().st_size for one in (folder / "data").rglob("*.parquet"))
    print(f"  monitoring.db {before / 2**20:.1f} MiB, {after / 2**20:.1f} after the roll-up (at most 40)")
    return share <= CORE_SHARE and after <= GROWTH_BYTES


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
    """Measure what was asked for, print it, and end with 1 where a goal is missed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--containers", type=int, nargs="*", default=[30, 100])
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--day-rounds", type=int, default=5760)
    words.add_argument("--no-flow", action="store_true", help="Leave the recorded flow run out.")
    asked = words.parse_args()
    logging.disable(logging.WARNING)
    well = True
    with tempfile.TemporaryDirectory(prefix="roas-benchmark-") as name:
        folder = Path(name)
        os.environ |= {"ROAS_DATA_DIR": f"{name}/data", "ROAS_ENVIRONMENTS_DIR": name}
        for count in asked.containers:
            with _containers(folder, count) as environment:
                ours, theirs = asyncio.run(compare(environment, count, asked.rounds))
                goal = TIMES_FASTER.get(count)
                well &= goal is None or theirs / ours >= goal
                wanted = f" (at least {goal:.0f})" if goal else ""
                print(f"{count} containers: {ours:.3f} s, {1000 * ours / count:.1f} ms each; ", end="")
                print(f"docker stats {theirs:.2f} s: {theirs / ours:.1f} times faster{wanted}", flush=True)
                if not asked.no_flow:
                    from prefect.testing.utilities import prefect_test_harness

                    with prefect_test_harness(server_startup_timeout=120):
                        recorded = asyncio.run(with_engine(environment, asked.rounds))
                    print(
                        f"  as a recorded flow run {recorded:.3f} s: the engine adds {recorded - ours:.3f} s",
                        flush=True,
                    )
        if asked.day_rounds:
            well &= asyncio.run(live_a_day(folder, asked.day_rounds))
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
