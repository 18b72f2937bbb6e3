"""Measure the stores of a fleet: how long `roas fleet` and single writes take with many environments on record.

python -m benchmarks.fleet_store [sqlite postgresql] [--environments 500 5000] [--judgements 100] [--writes 200]

It fills stores of its own, each environment with operations, judgements of its health, heartbeats, and some with alerts
and tickets. In PostgreSQL the writes are measured as the stores' owner and as an enrolled host, whose rows are checked.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.stores import Stores
from adapters.stores.sql import table, tables_of
from benchmarks.measure import in_turns, report, seconds
from models.health import Health, HealthReport
from models.hosts import HostIdentity
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from models.tables.deployment_logs import DeploymentOperation, EnvironmentHost, HostRow
from models.tables.monitoring import AlertRow, DeploymentHealth, Heartbeat, MetricSample, MetricSeries
from tests.support.postgresql_server import postgresql

ROOT = Path(__file__).parents[1]
FLEET_WITHIN_SECONDS = 2.0
ENVIRONMENTS_A_HOST = 10
HOST = 0
"""The one whose writes are measured."""
OPERATIONS = 20
SERVICES = tuple(f"s{number}" for number in range(5))
SAMPLED = ("cpu_usage", "memory_usage", "memory_bytes", "processes")
SAMPLED_MINUTES = 15
_ROWS = 5_000
_RUNS = 5


def main() -> None:
    """Measure, and exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="*", default=["sqlite", "postgresql"])
    parser.add_argument("--environments", nargs="+", type=int, default=[500, 5000])
    parser.add_argument("--judgements", type=int, default=100, help="Of each environment.")
    parser.add_argument("--writes", type=int, default=200)
    given = parser.parse_args()
    kept = True
    for database, count in itertools.product(given.databases, given.environments):
        with opened(database) as (stores, settings):
            took = seconds(lambda: fill(stores, count, given.judgements))  # noqa: B023 - it is called at once
            report(f"{database}, {count} environments: filling", took, "s")
            label = f"{database}, {count} environments"
            kept &= measure(stores, settings, label, count)
            with ExitStack() as stack:
                writers = {label: stores}
                if settings.stores_url is not None:
                    writers[f"{label}, as a host"] = stack.enter_context(as_host(settings, HOST))
                measure_writes(writers, environments_of(HOST, count), given.writes)
    sys.exit(not kept)


@contextmanager
def opened(database: str) -> Iterator[tuple[Stores, Settings]]:
    """Empty stores, in files or on a PostgreSQL server of this run."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".fleet-store-")))
        url = None
        if database == "postgresql":
            url = stack.enter_context(stack.enter_context(postgresql()).database())
        settings = Settings(data_dir=folder / "data", stores_url=url)
        yield stack.enter_context(Stores.open(settings)), settings


def fill(stores: Stores, count: int, judgements: int, environments_a_host: int = ENVIRONMENTS_A_HOST) -> None:
    """Rows of so many environments, as months of use leave them."""
    now, names = datetime.now(UTC), [f"env-{place:05}" for place in range(count)]
    hosts = [f"h-{place:06}" for place in range(max(1, count // environments_a_host))]
    put(stores, HostRow, (_host(one, now) for one in hosts))
    bound = zip(names, itertools.cycle(hosts), strict=False)
    put(stores, EnvironmentHost, ({"environment": name, "host_id": host, "since": now} for name, host in bound))
    put(stores, DeploymentOperation, (_operation(name, turn, now) for turn in range(OPERATIONS) for name in names))
    put(stores, DeploymentHealth, (_judgement(name, turn, now) for turn in range(judgements) for name in names))
    put(stores, AlertRow, (_alert(name, turn, now) for turn in range(20) for name in names))
    put(stores, Heartbeat, ({"name": f"watch/{name}", "beat_at": now} for name in names))
    every = itertools.product(names, SERVICES, SAMPLED)
    put(stores, MetricSeries, ({"environment": one, "service": of, "metric": name} for one, of, name in every))
    with stores.databases["monitoring"].write() as connection:
        series = connection.scalars(sa.select(table(MetricSeries).c.id)).all()
    last = round(now.timestamp() * 1000)
    times = [last - 60_000 * minute for minute in reversed(range(SAMPLED_MINUTES))]
    put(stores, MetricSample, ({"ts": ts, "series": one, "value": 1.0} for ts in times for one in series))
    for database in stores.databases.values():
        database.analyse()


def measure(stores: Stores, settings: Settings, label: str, count: int) -> bool:
    """Time the reads of a fleet, and report them."""
    variables = {"ROAS_DATA_DIR": str(settings.data_dir), "ROAS_STORES_URL": settings.stores_url or ""}
    os.environ |= variables
    command = [sys.executable, "-c", "from cli.main import main; main()", "fleet", "--json"]

    def run() -> None:
        subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, check=True)

    used = _processor_seconds()
    took = [seconds(run) for _ in range(_RUNS)]
    kept = report(f"{label}: roas fleet --json", statistics.median(took), "s", most=FLEET_WITHIN_SECONDS)
    # What else runs on the machine does not count here.
    report(f"{label}: of that, processor time", (_processor_seconds() - used) / _RUNS, "s")
    from tasks.reporting.fleet import read_fleet

    assert len(read_fleet().environments) == count
    report(f"{label}: reading the fleet, in a process", statistics.median(seconds(read_fleet) for _ in range(10)), "s")
    return kept


def measure_writes(writers: Mapping[str, Stores], environments: Sequence[str], count: int) -> None:
    """Time single writes about environments of the first host by each of several ways, in turns, and report them."""
    writes = {label: _writes(stores, environments, label) for label, stores in writers.items()}
    for name in next(iter(writes.values())):
        works = {label: partial(_in_turn, its[name], itertools.count()) for label, its in writes.items()}
        for label, taken in in_turns(count, works).items():
            times = sorted(one * 1000 for (one,) in taken)
            report(f"{label}: {name}, median", statistics.median(times), "ms")
            report(f"{label}: {name}, 95th percentile", times[round(0.95 * (count - 1))], "ms")


def _in_turn(write: Callable[[int], object], places: Iterator[int]) -> None:
    write(next(places))


def environments_of(host: int, count: int) -> list[str]:
    """The environments of a host by its number, of so many in the fleet."""
    return [f"env-{place:05}" for place in range(host, count, max(1, count // ENVIRONMENTS_A_HOST))]


@contextmanager
def as_host(settings: Settings, host: int) -> Iterator[Stores]:
    """The stores by the role of an enrolled host."""
    from adapters.server.store_roles import make_role

    role = f"host-{host:06}"
    make_role(settings, role, f"h-{host:06}")
    assert settings.stores_url is not None
    url = settings.stores_url.replace("roas@", f"{role}@")
    with Stores.open(Settings(data_dir=settings.data_dir / role, stores_url=url)) as stores:
        assert stores.is_restricted
        yield stores


def put(stores: Stores, row: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Insert many rows."""
    name = next(one for one in stores.databases if table(row).name in tables_of(one))
    source = iter(rows)
    while part := list(itertools.islice(source, _ROWS)):
        with stores.databases[name].write() as connection:
            connection.execute(sa.insert(table(row)), part)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _writes(stores: Stores, names: Sequence[str], label: str) -> dict[str, Callable[[int], object]]:
    mark = f"{time.time_ns():x}-{len(label)}"

    def operation(place: int) -> None:
        name = f"bench-{mark}-{place}"
        began = datetime.now(UTC)
        stores.operations.begin(
            Operation(
                deployment_id=name,
                operation_type=OperationType.START,
                environment=names[place % len(names)],
                status=OperationStatus.RUNNING,
                started_at=began,
            )
        )

    def lease(place: int) -> None:
        stores.leases.acquire(names[place % len(names)], f"o-{place}", "start", datetime.now(UTC), timedelta(minutes=1))

    def judged(place: int) -> None:
        stores.health.record(
            HealthReport(
                environment=names[place % len(names)],
                overall=Health.HEALTHY,
                checked_at=datetime.now(UTC),
                services=(),
            )
        )

    def contact(place: int) -> None:
        host = HostIdentity(host_id=f"h-{HOST:06}", name="bench")
        stores.hosts.report(host, version="1", engine="unix:///var/run/docker.sock", backlog=0)

    def measured(place: int) -> None:
        # A collection of five services.
        now = datetime.now(UTC)
        which = itertools.product(SERVICES, SAMPLED)
        name = names[place % len(names)]
        stores.metrics.add(
            [Metric(environment=name, service=one, name=of, value=1.0, sampled_at=now) for one, of in which]
        )

    return {
        "an operation begins": operation,
        "a lease is taken": lease,
        "health is recorded": judged,
        "20 samples are recorded": measured,
        "a host reports contact": contact,
    }


def _host(host_id: str, now: datetime) -> dict[str, Any]:
    return {
        "host_id": host_id,
        "name": f"host-{host_id}",
        "version": "1.0",
        "engine": "unix:///var/run/docker.sock",
        "first_contact": now - timedelta(days=90),
        # One in contact could not enrol.
        "last_contact": now - timedelta(minutes=2),
        "clock_skew_seconds": 0.01,
        "backlog": 0,
    }


def _operation(name: str, turn: int, now: datetime) -> dict[str, Any]:
    began = now - timedelta(days=OPERATIONS - turn)
    return {
        "deployment_id": f"{name}-{turn}",
        "operation_type": "start",
        "environment": name,
        "status": "success",
        "start_time": began,
        "end_time": began + timedelta(seconds=9),
        "duration_ms": 9000,
        "metadata": {"services": 5, "reason": "every service is healthy " * 10},
    }


def _judgement(name: str, turn: int, now: datetime) -> dict[str, Any]:
    services = [{"service": f"s{one}", "health": "healthy", "reason": "its health check succeeds"} for one in range(5)]
    return {
        "environment": name,
        "timestamp": now - timedelta(minutes=turn),
        "overall_health": "healthy" if hash(name) % 10 else "degraded",
        "services_total": 5,
        "report": {"services": services, "findings": []},
    }


def _alert(name: str, turn: int, now: datetime) -> dict[str, Any]:
    is_open = turn == 0 and name.endswith("0")
    return {
        "alert_id": f"{name}-a{turn}",
        "environment": name,
        "service": "s0",
        "metric": "cpu_usage",
        "severity": "warning",
        "reason": "above its usual",
        "opened_at": now - timedelta(hours=turn),
        "state": "open" if is_open else "resolved",
        "resolved_at": None if is_open else now,
    }


if __name__ == "__main__":
    main()
