"""Benchmark of the exporter: what one scrape costs, and what it costs those who write meanwhile.

python -m benchmarks.exporter [--services 50] [--every 15] [--scrapes 60]

Everything is asked for over HTTP, as Prometheus does, from stores with two hours of collections, a year of
operations and a thousand errors. The writer commits one health report and one round of samples at a time.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from adapters.prometheus.exporter import MetricsServer, StoreCollector
from adapters.stores import Stores
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.health import Health, HealthReport, ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Alert, AlertSeverity, Baseline, Dependency, Metric
from models.operations import Operation, OperationStatus, OperationType
from models.records import RecordedScore
from models.settings import Settings
from models.tables.monitoring import MetricSample

ENVIRONMENT = "prod"
OF_SERVICES = (
    *("cpu_usage", "cpu_seconds_total", "memory_bytes", "memory_usage", "response_time", "restarts_total"),
    *("processes", "throttled_periods_total", "network_rx_bytes_total", "network_tx_bytes_total"),
    *("block_read_bytes_total", "block_write_bytes_total"),
)
OF_HOST = ("cpu_usage", "load_1m", "memory_usage", "disk_usage", "disk_free_bytes", "inodes_usage", "store_bytes")
JUDGED = ("cpu_usage", "memory_usage", "response_time")
HISTORY = timedelta(hours=2)


def fill(stores: Stores, services: int, every: timedelta) -> None:
    """What a collection every so often, and a year of deployments, leave behind."""
    now = datetime.now(UTC)
    names = [f"service-{number:02}" for number in range(services)]
    at = now - HISTORY
    stores.metrics.add(round_of(names, at))
    while at < now:
        stores.writer.put_metrics(round_of(names, at))
        at += every
    stores.writer.flush()
    stores.health.record(report_of(names, now))
    stores.dependencies.put(
        ENVIRONMENT, [Dependency(service=name, depends_on=names[0], last_check=now) for name in names[1:]]
    )
    stores.baselines.put(
        ENVIRONMENT,
        [
            Baseline(service=name, metric=metric, value=1, warning=2, critical=3, created_at=now, updated_at=now)
            for name in names
            for metric in JUDGED
        ],
    )
    for name in names:
        score = {"uptime": 100.0, "performance": 90.0, "coverage": 1.0, "low": 80.0, "high": 99.0}
        stores.health.record_score(
            RecordedScore(environment=ENVIRONMENT, service=name, score=90, grade="A", scored_at=now, parts=score)
        )
    for number, name in enumerate(names[::5]):
        stores.alerts.open(
            Alert(
                alert_id=f"a{number}",
                environment=ENVIRONMENT,
                service=name,
                metric="cpu_usage",
                severity=AlertSeverity.WARNING,
                reason="CPU 93 %",
                opened_at=now,
            )
        )
    for number in range(2000):
        began = now - timedelta(days=365) + number * timedelta(hours=4)
        operation = Operation(
            deployment_id=f"prod-{number}",
            operation_type=OperationType.START,
            environment=ENVIRONMENT,
            status=OperationStatus.RUNNING,
            started_at=began,
        )
        stores.operations.begin(operation)
        ended = OperationStatus.FAILED if number % 9 == 0 else OperationStatus.SUCCESS
        stores.operations.finish(operation.deployment_id, ended, began + timedelta(seconds=20), None)
    verdict = Verdict(
        category=Category.PORT_CONFLICT,
        severity=Severity.HIGH,
        strategy=Strategy.FREE_PORT,
        confidence=0.9,
        reason="a port is taken",
        template="bind",
    )
    for number in range(1000):
        stores.errors.record(
            RecordedError(
                error_id=f"e{number}",
                environment=ENVIRONMENT,
                text=f"bind {number}",
                source="startup",
                verdict=verdict,
                first_seen=now,
                last_seen=now,
                service=names[number % services],
            )
        )
        if number % 10:
            stores.errors.resolve(f"e{number}", now, "freed")


def round_of(names: list[str], at: datetime) -> list[Metric]:
    """The samples of one collection."""
    subjects = [(name, metric) for name in names for metric in OF_SERVICES] + [(HOST, metric) for metric in OF_HOST]
    return [
        Metric(environment=ENVIRONMENT, service=service, name=metric, value=1.5, sampled_at=at)
        for service, metric in subjects
    ]


def report_of(names: list[str], at: datetime) -> HealthReport:
    """How every service was judged, each by one probe."""
    return HealthReport(
        environment=ENVIRONMENT,
        overall=Health.HEALTHY,
        checked_at=at,
        services=tuple(
            ServiceVerdict(
                service=name,
                health=ServiceHealth.HEALTHY,
                reason="answers",
                probes=(
                    ProbeResult(
                        service=name,
                        kind="http",
                        target="http://x/",
                        ok=True,
                        detail="200",
                        checked_at=at,
                        latency_ms=3,
                    ),
                ),
            )
            for name in names
        ),
    )


def write_on(
    folder: Path, services: int, stop: "multiprocessing.synchronize.Event", took: "multiprocessing.Queue[float]"
) -> None:
    """Another process that writes rounds without a pause, and how long each commit took."""
    names = [f"service-{number:02}" for number in range(services)]
    with Stores.open(Settings(data_dir=folder)) as stores:
        while not stop.is_set():
            now = datetime.now(UTC)
            began = time.perf_counter()
            stores.metrics.add(round_of(names, now))
            stores.health.record(report_of(names, now))
            took.put(time.perf_counter() - began)


@contextmanager
def writing(folder: Path, services: int) -> Iterator[list[float]]:
    """While the body runs, a writer does; its times are there afterwards."""
    stop = multiprocessing.Event()
    took: multiprocessing.Queue[float] = multiprocessing.Queue()
    writer = multiprocessing.Process(target=write_on, args=(folder, services, stop, took))
    times: list[float] = []
    writer.start()
    took.get()
    try:
        yield times
    finally:
        stop.set()
        while writer.is_alive() or not took.empty():
            while not took.empty():
                times.append(took.get())
            writer.join(0.05)


def scrapes(url: str, number: int) -> tuple[list[float], str]:
    """How long each of so many scrapes took, and the text of the last."""
    times, text = [], ""
    with httpx.Client() as client:
        for _ in range(number):
            began = time.perf_counter()
            text = client.get(url).text
            times.append(time.perf_counter() - began)
    return times, text


def reported(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    middle, most = statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(f"{name:52} median {1000 * middle:7.1f} ms   p99 {1000 * most:7.1f} ms   of {len(ordered)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--every", type=int, default=15, help="seconds between collections")
    parser.add_argument("--scrapes", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        folder = Path(place)
        settings = Settings(data_dir=folder)
        with Stores.open(settings) as stores:
            fill(stores, asked.services, timedelta(seconds=asked.every))
        with Stores.open(settings) as stores:
            rows = table_rows(stores)
            with MetricsServer(StoreCollector(stores, settings), "127.0.0.1", 0) as server:
                first, _ = scrapes(server.url, 1)
                worked = time.process_time()
                alone, text = scrapes(server.url, asked.scrapes)
                worked = (time.process_time() - worked) / asked.scrapes
                series = sum(not line.startswith("#") for line in text.splitlines())
                shown = f"{rows} samples, {series} series, {len(text) // 1024} KiB"
                print(f"{asked.services} services every {asked.every} s: {shown}, load {os.getloadavg()[0]:.1f}")
                reported("first scrape (reads all that was ever recorded)", first)
                reported("scrape (goal 100 ms)", alone)
                print(f"{'its processor time':52}        {1000 * worked:7.1f} ms")
                with writing(folder, asked.services) as undisturbed:
                    time.sleep(5)
                with writing(folder, asked.services) as disturbed:
                    end, busy = time.monotonic() + 5, []
                    while time.monotonic() < end:
                        busy += scrapes(server.url, 1)[0]
                        time.sleep(0.2)
                reported("scrape while another process writes without a pause", busy)
                reported("a write, without scrapes", undisturbed)
                reported("a write, scraped five times a second", disturbed)
                waits, _ = stores.waits.total()
                slower = statistics.median(disturbed) / statistics.median(undisturbed)
                print(f"{'writes, scraped / not scraped':52} {slower:.2f} ; it waited for its turn {waits} times")


def table_rows(stores: Stores) -> int:
    """How many samples there are."""
    with stores.databases["monitoring"].read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {MetricSample.__tablename__}").scalar_one())


if __name__ == "__main__":
    main()
