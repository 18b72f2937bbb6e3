"""A fleet of many hosts at one PostgreSQL and one Prefect server: what it costs by the number of environments.

    python -m benchmarks.fleet_scale --environments 100 500 1000 5000 --seconds 60

For each number it fills stores, lets the simulated agents of all hosts (50 environments each) read and write them at
the rates of real agents, and beside them the workers of all hosts ask a Prefect server. Meanwhile it takes `roas fleet`
and a scrape of the exporter. It prints what each of these took, what used the processor, and whether the agents could
follow. A number takes `--seconds` and the filling, half a minute for each thousand.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from adapters.prometheus.exporter import StoreCollector, metrics_server
from adapters.server.store_roles import make_role
from adapters.stores import Stores
from benchmarks.fleet_agents import EVERY_SECONDS, SimulatedHost, Took, run_agents, spread
from benchmarks.fleet_store import FLEET_WITHIN_SECONDS, ROOT, fill
from benchmarks.fleet_workers import run_workers
from benchmarks.measure import report, seconds
from models.settings import Settings
from tests.support.postgresql_server import PostgresqlForTests, postgresql

_SCRAPE_WITHIN_SECONDS = 2.0
_WRITE_WITHIN_MS = 100.0
_FOLLOWED_BY_SECONDS = 5.0
_ANSWERS_WITHIN_SECONDS = 60.0
_CONNECTIONS = 600
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure each number, and exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", nargs="+", type=int, default=[100, 500, 1000, 5000])
    parser.add_argument("--a-host", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--judgements", type=int, default=20, help="Of each environment, on record.")
    parser.add_argument("--poll-seconds", type=float, default=None, help="Between two questions of a worker.")
    parser.add_argument("--without-prefect", action="store_true")
    given = parser.parse_args()
    # Servers and folders go, too, where it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(
        f"{_processor_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB; load {os.getloadavg()[0]:.1f} before"
    )
    kept = True
    for count in given.environments:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".fleet-scale-") as folder:
            kept &= _measured(Path(folder), count, given)
    sys.exit(not kept)


def _measured(folder: Path, count: int, given: argparse.Namespace) -> bool:
    label = f"{count} environments"
    hosts = spread(count, given.a_host)
    with postgresql(connections=_CONNECTIONS) as server, server.database() as url:
        settings = Settings(data_dir=folder / "plane", stores_url=url, environments_dir=folder)
        with Stores.open(settings) as stores:
            fill(stores, count, given.judgements, given.a_host)
            agents = [_host(settings, url, number, names) for number, names in hosts.items()]
            watch = _Watch(server, url)
            with _prefect(folder, hosts, given) as workers, watch:
                reading = _Reads(settings, stores)
                thread = threading.Thread(target=reading.take)
                thread.start()
                took = run_agents(agents, folder, given.seconds)
                reading.end()
                thread.join()
    return _shown(label, count, took, reading, watch, workers, given)


def _shown(
    label: str,
    count: int,
    took: Took,
    reading: _Reads,
    watch: _Watch,
    workers: dict[str, Any],
    given: argparse.Namespace,
) -> bool:
    wanted = count / EVERY_SECONDS
    done = took.collections / given.seconds
    report(f"{label}: collections a second, wanted", wanted)
    report(f"{label}: collections a second, done", done)
    late = _high(took.late[-max(1, len(took.late) // 4) :])
    followed = report(f"{label}: work began late at the end, 95th percentile", late, "s", most=_FOLLOWED_BY_SECONDS)
    kept = report(f"{label}: a write, 95th percentile", _high(took.writes), "ms", most=_WRITE_WITHIN_MS)
    report(f"{label}: a write, median", statistics.median(took.writes), "ms")
    report(f"{label}: reads for a collection or a sweep, 95th percentile", _high(took.reads), "ms")
    report(f"{label}: reads for a collection or a sweep, median", statistics.median(took.reads), "ms")
    kept &= report(f"{label}: roas fleet", statistics.median(reading.fleet), "s", most=FLEET_WITHIN_SECONDS)
    kept &= report(f"{label}: a scrape", statistics.median(reading.scrapes), "s", most=_SCRAPE_WITHIN_SECONDS)
    report(f"{label}: size of a scrape", reading.bytes / 2**20, "MiB")
    for name, value, unit in watch.figures(given.seconds, took):
        report(f"{label}: {name}", value, unit)
    for name, value in workers.items():
        report(f"{label}: {name}", value)
    for trouble in sorted(set(took.troubles))[:5]:
        print(f"  {took.troubles.count(trouble)} times: {trouble}")
    return kept and followed


def _host(settings: Settings, url: str, number: int, names: list[str]) -> SimulatedHost:
    role = f"host-{number:06}"
    make_role(settings, role, f"h-{number:06}")
    return SimulatedHost(number=number, environments=names, stores_url=url.replace("roas@", f"{role}@"))


@contextmanager
def _prefect(folder: Path, hosts: dict[int, list[str]], given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if given.without_prefect:
        yield {}
        return
    with run_workers(folder / "prefect", hosts, given.poll_seconds) as figures:
        yield figures


class _Reads:
    """`roas fleet` and a scrape, again and again, until they shall end."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self.fleet: list[float] = []
        self.scrapes: list[float] = []
        self.bytes = 0
        self._settings = settings
        self._stores = stores
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def take(self) -> None:
        variables = {"ROAS_DATA_DIR": str(self._settings.data_dir), "ROAS_STORES_URL": self._settings.stores_url or ""}
        command = [sys.executable, "-c", "from cli.main import main; main()", "fleet", "--json"]

        def fleet() -> None:
            subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, check=True)

        collector = StoreCollector(self._stores, self._settings)
        with metrics_server(collector, "127.0.0.1", 0) as address:
            while not (self._ended.wait(5) and self.fleet and self.scrapes):
                self.fleet.append(seconds(fleet))
                began = time.perf_counter()
                try:
                    self.bytes = len(httpx.get(address, timeout=_ANSWERS_WITHIN_SECONDS).content)
                except httpx.HTTPError as error:
                    print(f"  a scrape: {type(error).__name__} after {time.perf_counter() - began:.1f} s")
                self.scrapes.append(time.perf_counter() - began)


@dataclass
class _Watch:
    """What PostgreSQL uses while the body runs: processor, connections, log."""

    server: PostgresqlForTests
    url: str
    most: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> _Watch:
        self.before = self._now()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.after = self._now()

    def _count(self) -> None:
        while not self._ended.wait(1):
            with psycopg.connect(self.url) as connection:
                found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                self.most = max(self.most, found.fetchall()[0][0])

    def _now(self) -> dict[str, float]:
        with psycopg.connect(self.url) as connection:
            row = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, xact_commit::float8 "
                "FROM pg_stat_database WHERE datname = current_database()"
            ).fetchall()[0]
        postmaster = int((self.server.folder / "cluster/postmaster.pid").read_text().split()[0])
        return {"wal": row[0], "transactions": row[1], "processor": processor_of_tree(postmaster), "at": time.time()}

    def figures(self, spent: float, took: Took) -> list[tuple[str, float, str]]:
        """What was used, by second or by collection."""
        over = {name: self.after[name] - self.before[name] for name in self.after}
        each = max(1, took.collections)
        return [
            ("transactions a second", over["transactions"] / over["at"], ""),
            ("processor of PostgreSQL", 100 * over["processor"] / over["at"], "%"),
            ("processor of the simulated agents", 100 * took.processor / spent, "%"),
            ("PostgreSQL, a collection with its sweep", 1000 * over["processor"] / each, "ms"),
            ("agent, a collection with its sweep", 1000 * took.processor / each, "ms"),
            ("log of PostgreSQL", over["wal"] / over["at"] / 2**20, "MiB/s"),
            ("connections, at most", float(self.most), ""),
        ]


def processor_of_tree(process: int) -> float:
    """Processor seconds of a process, its children that live, and all that ended."""
    total = 0.0
    for one in (process, *_children(process)):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, fields[11:15] if one == process else fields[11:13])) / _TICKS
    return total


def _children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _high(values: list[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))] if values else float("nan")


def _processor_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    main()
