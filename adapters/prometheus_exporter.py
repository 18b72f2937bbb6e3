"""The door to Prometheus: what the stores know, read at the moment of a scrape and served on /metrics."""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from itertools import product
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from adapters.environment_files import environment_names
from adapters.redis_cache import Cache, open_cache
from adapters.stores import Stores
from adapters.stores.check import figures
from adapters.stores.sql import table
from adapters.tallies import DURATIONS_SECONDS, Count, Tally
from models.errors_seen import Severity, Strategy
from models.failures import RoasError, StoreError
from models.health import Health, HealthReport, ServiceHealth
from models.metrics import HOST, AlertSeverity, AlertState, DependencyStatus
from models.operations import OperationStatus, OperationType
from models.recovery import TicketState
from models.settings import Settings
from models.tables.deployment_logs import DeploymentOperation
from models.tables.errors import DeploymentError, RecoveryExecutionRow, TicketRow
from models.tables.monitoring import AlertRow, DeploymentHealth, MetricSample, MetricSeries

log = logging.getLogger("roas")

FRESH = timedelta(minutes=15)
"""Older figures are not shown: a gap is honest, the last value of a collection that died is not."""

_PATIENCE_SECONDS = 10.0
_UNKNOWN = "unknown"
_UP = frozenset({ServiceHealth.HEALTHY, ServiceHealth.DEGRADED, ServiceHealth.COMPLETED, ServiceHealth.UNPROVEN})

_ENDS = (OperationStatus.SUCCESS, OperationStatus.FAILED)
_PROBE = ("environment", "service", "kind")
_Labels = tuple[str, ...]

_operations = table(DeploymentOperation)
_executions = table(RecoveryExecutionRow)
_errors = table(DeploymentError)
_tickets = table(TicketRow)
_alerts = table(AlertRow)
_health = table(DeploymentHealth)
_series = table(MetricSeries)
_samples = table(MetricSample)


class _Sample(NamedTuple):
    """The newest value of one metric, as stored."""

    environment: str
    service: str
    metric: str
    value: float


class _Shown(NamedTuple):
    """How a stored metric is shown: in base units, so percentages (0-100) become ratios."""

    name: str
    about: str
    factor: float = 1.0
    grows: bool = False


_OF_SERVICES = {
    "cpu_usage": _Shown("cpu_ratio", "Processors in use since the last collection; 1 is one whole processor.", 0.01),
    "cpu_seconds_total": _Shown("cpu_seconds", "Processor time used by the running containers.", grows=True),
    "memory_bytes": _Shown("memory_bytes", "Memory in use."),
    "memory_usage": _Shown("memory_ratio", "Memory in use as a share of its limit.", 0.01),
    "restarts_total": _Shown("restarts", "Restarts of the running containers by the engine.", grows=True),
    "processes": _Shown("processes", "Processes and threads of the containers."),
    "throttled_periods_total": _Shown("throttled_periods", "Periods in which the processor was denied.", grows=True),
    "network_rx_bytes_total": _Shown("network_receive_bytes", "Bytes received over networks.", grows=True),
    "network_tx_bytes_total": _Shown("network_transmit_bytes", "Bytes sent over networks.", grows=True),
    "block_read_bytes_total": _Shown("block_read_bytes", "Bytes read from block devices.", grows=True),
    "block_write_bytes_total": _Shown("block_written_bytes", "Bytes written to block devices.", grows=True),
}
_OF_HOSTS = {
    "cpu_usage": _Shown("cpu_ratio", "Processor time in use as a share of all processors.", 0.01),
    "load_1m": _Shown("load1", "Processes that run or wait, mean of 1 minute."),
    "load_5m": _Shown("load5", "Processes that run or wait, mean of 5 minutes."),
    "memory_usage": _Shown("memory_ratio", "Memory not available as a share of all.", 0.01),
    "disk_usage": _Shown("disk_ratio", "Disk under the stores in use as a share of all.", 0.01),
    "disk_free_bytes": _Shown("disk_free_bytes", "Bytes free on the disk under the stores."),
    "inodes_free": _Shown("inodes_free", "Inodes free on the disk under the stores."),
    "inodes_usage": _Shown("inodes_ratio", "Inodes in use on the disk under the stores as a share of all.", 0.01),
    "network_rx_bytes_total": _Shown("network_receive_bytes", "Bytes received over networks.", grows=True),
    "network_tx_bytes_total": _Shown("network_transmit_bytes", "Bytes sent over networks.", grows=True),
    "pressure_cpu": _Shown("pressure_cpu_ratio", "Share of 10 s in which work waited for a processor.", 0.01),
    "pressure_memory": _Shown("pressure_memory_ratio", "Share of 10 s in which work waited for memory.", 0.01),
    "pressure_io": _Shown("pressure_io_ratio", "Share of 10 s in which work waited for a device.", 0.01),
}


def serve_metrics(stores: Stores, host: str, port: int, settings: Settings) -> None:
    """Serve /metrics and /healthz until SIGTERM or Ctrl-C. Call it in the main thread.

    Raises:
        RoasError: The address cannot be listened on; the message says what to try.
        BadInputError: The cache's URL cannot be read.
    """
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    cache = open_cache(settings) if settings.redis_url else None
    with MetricsServer(StoreCollector(stores, settings, cache), host, port) as server:
        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            log.info("serving metrics on %s", server.url)
            ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if cache is not None:
                cache.close()
    log.info("stopped serving metrics")


class StoreCollector(Collector):
    """Reads the stores when Prometheus asks. A store that cannot be read leaves its figures out and says so."""

    def __init__(
        self,
        stores: Stores,
        settings: Settings,
        cache: Cache | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read nothing yet. Without a cache, nothing is said of one."""
        self._stores = stores
        self._settings = settings
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        unfinished = [OperationStatus.PENDING.value, OperationStatus.RUNNING.value]
        self._operations = Tally(
            _operations,
            _operations.c.id,
            kinds=[_operations.c.environment, _operations.c.operation_type, _operations.c.status],
            unfinished=_operations.c.status.in_(unfinished),
            duration_ms=_operations.c.duration_ms,
        )
        self._recoveries = Tally(
            _executions.join(_errors, _errors.c.error_id == _executions.c.error_id),
            _executions.c.id,
            kinds=[_errors.c.environment, _executions.c.recovery_strategy, _executions.c.success],
            unfinished=_executions.c.success.is_(None),
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: being registered must not read the stores."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every figure as it is now, read one scrape at a time."""
        with self._lock:
            yield from self._collect()

    def unreadable(self) -> dict[str, str]:
        """Why each store that cannot be read cannot, by its name."""
        reasons = {}
        for name, database in self._stores.databases.items():
            try:
                with database.read() as connection:
                    connection.execute(sa.select(sa.literal(1))).all()
            except StoreError as error:
                reasons[name] = str(error)
        return reasons

    def _collect(self) -> Iterator[Metric]:
        began, now = time.perf_counter(), self._clock()
        readable = _gauge("roas_store_readable", "1 where the store could be read in this scrape.", "store")
        known = set(environment_names(self._settings.environments_dir))
        for name, read in (
            ("monitoring", self._from_monitoring),
            ("deployment_logs", self._from_deployment_logs),
            ("errors", self._from_errors),
        ):
            try:
                yield from read(now, known)
            except StoreError as error:
                log.warning("store %s was left out of a scrape: %s", name, error)
                readable.add_metric([name], 0)
            else:
                readable.add_metric([name], 1)
        yield readable
        yield from self._of_files()
        if self._cache is not None:
            self._cache.get("exporter")
            up = 0 if self._cache.trouble else 1
            yield GaugeMetricFamily("roas_cache_up", "1 while Redis answers the exporter.", value=up)
        build = _gauge("roas_build_info", "1; the version of this program is its label.", "version")
        build.add_metric([version("roas-ops")], 1)
        yield build
        yield GaugeMetricFamily(
            "roas_exporter_collect_seconds",
            "How long it took to read the figures of this scrape.",
            value=time.perf_counter() - began,
        )

    def _from_deployment_logs(self, now: datetime, known: set[str]) -> list[Metric]:
        with self._stores.databases["deployment_logs"].read() as connection:
            self._operations.catch_up(connection)
        total = _counter(
            "roas_operations", "Deployment operations that ended.", "environment", "operation_type", "status"
        )
        durations = HistogramMetricFamily(
            "roas_operation_duration_seconds",
            "How long deployment operations took.",
            labels=["environment", "operation_type", "status"],
        )
        known |= {kind[0] for kind in (*self._operations.counts, *self._operations.unfinished)}
        # From 0 on, since Prometheus does not see the first of what was not there before.
        for kind in product(sorted(known), OperationType, _ENDS):
            count = self._operations.counts.get(kind) or Count()
            total.add_metric(kind, count.rows)
            durations.add_metric(kind, _buckets(count.by_duration), count.seconds)
        running = _gauge(
            "roas_operations_running", "Deployment operations that have not ended.", "environment", "operation_type"
        )
        running_now = Counter(kind[:2] for kind in self._operations.unfinished)
        for labels in product(sorted(known), OperationType):
            running.add_metric(labels, running_now[labels])
        return [total, durations, running]

    def _from_monitoring(self, now: datetime, known: set[str]) -> list[Metric]:
        monitoring = self._stores.monitoring
        with self._stores.databases["monitoring"].read() as connection:
            judged = connection.scalars(
                sa.select(_health.c.environment)
                .where(_health.c.timestamp >= now - FRESH, _health.c.environment.is_not(None))
                .distinct()
            ).all()
            newest = _newest_samples(connection, now - FRESH)
            alerts = _counts(
                connection,
                _alerts.c.environment,
                _alerts.c.severity,
                where=_alerts.c.state != AlertState.RESOLVED.value,
            )
        known |= set(judged) | {row.environment for row in newest} | {labels[0] for labels in alerts}
        reports = {name: report for name in judged for report in monitoring.health_history(name, limit=1)}
        open_alerts = _gauge("roas_alerts_open", "Alerts that are not resolved.", "environment", "severity")
        _fill(open_alerts, alerts, known, [severity.value for severity in AlertSeverity])
        beats = _gauge("roas_heartbeat_timestamp_seconds", "When it was last seen going on, in Unix time.", "name")
        for name, at in sorted(monitoring.heartbeats().items()):
            beats.add_metric([name], at.timestamp())
        return [
            *_of_environments(known, reports),
            *_of_verdicts(reports),
            *_of_samples("roas_service", _OF_SERVICES, [row for row in newest if row.service != HOST]),
            *_of_samples("roas_host", _OF_HOSTS, [row for row in newest if row.service == HOST]),
            self._dependencies(now, known),
            open_alerts,
            beats,
        ]

    def _dependencies(self, now: datetime, known: Iterable[str]) -> Metric:
        up = _gauge(
            "roas_dependency_up",
            "1 while what a service depends on is there.",
            *("environment", "service", "depends_on", "dependency_type"),
        )
        for environment in sorted(known):
            needs = self._stores.monitoring.dependencies(environment)
            checked = max((need.last_check for need in needs if need.last_check), default=now - 2 * FRESH)
            for need in needs:
                # One that was not checked with the others is not declared any more.
                if need.last_check == checked and checked >= now - FRESH:
                    labels = [environment, need.service, need.depends_on, need.dependency_type.value]
                    up.add_metric(labels, need.status is DependencyStatus.ACTIVE)
        return up

    def _from_errors(self, now: datetime, known: set[str]) -> list[Metric]:
        with self._stores.databases["errors"].read() as connection:
            self._recoveries.catch_up(connection)
            unresolved = _errors.c.resolved_at.is_(None)
            by_severity = _counts(connection, _errors.c.environment, _errors.c.severity, where=unresolved)
            by_category = _counts(connection, _errors.c.environment, _errors.c.category, where=unresolved)
            tickets = _counts(
                connection,
                _tickets.c.environment,
                _tickets.c.state,
                where=_tickets.c.state != TicketState.RESOLVED.value,
            )
        known |= {labels[0] for labels in by_severity} | {labels[0] for labels in tickets}
        errors = _gauge("roas_errors_open", "Errors that are not resolved.", "environment", "severity")
        _fill(errors, by_severity, known, [severity.value for severity in Severity])
        causes = _gauge("roas_error_causes_open", "Unresolved errors by their cause.", "environment", "category")
        for labels, number in sorted(by_category.items()):
            causes.add_metric(list(labels), number)
        waiting = _gauge("roas_tickets_open", "Tickets that wait for a person.", "environment", "state")
        _fill(waiting, tickets, known, [state.value for state in TicketState if state is not TicketState.RESOLVED])
        recoveries = _counter("roas_recoveries", "Recoveries that ended.", "environment", "strategy", "success")
        automatic = [strategy for strategy in Strategy if strategy.automatic]
        kinds = {*product(known, automatic, (True, False)), *self._recoveries.counts}
        for environment, strategy, success in sorted(kinds):
            count = self._recoveries.counts.get((environment, strategy, success)) or Count()
            recoveries.add_metric([environment, strategy, "true" if success else "false"], count.rows)
        pauses = GaugeMetricFamily(
            "roas_recovery_pauses",
            "Switches that keep automatic recovery off now.",
            value=len(self._stores.errors.pauses(now)),
        )
        return [errors, causes, waiting, recoveries, pauses]

    def _of_files(self) -> Iterator[Metric]:
        sizes = _gauge("roas_store_size_bytes", "Size of a store, and of its write-ahead log.", "store", "file")
        oldest = _gauge(
            "roas_store_oldest_timestamp_seconds", "When its oldest record was made, in Unix time.", "store"
        )
        for database in self._stores.databases.values():
            try:
                found = figures(database)
            except StoreError as error:
                log.warning("the size of a store was left out of a scrape: %s", error)
                continue
            for kind, size in found.bytes.items():
                sizes.add_metric([found.store, kind], size)
            if found.oldest is not None:
                oldest.add_metric([found.store], found.oldest.timestamp())
        waits, seconds = self._stores.waits.total()
        yield _total("roas_store_lock_waits", "Times a writer of this host waited for its turn.", waits)
        yield _total("roas_store_lock_wait_seconds", "How long writers of this host waited for their turn.", seconds)
        yield sizes
        yield oldest
        disk = shutil.disk_usage(self._settings.data_dir)
        yield GaugeMetricFamily("roas_store_disk_free_bytes", "Bytes free on the disk of the stores.", value=disk.free)
        yield GaugeMetricFamily("roas_store_disk_size_bytes", "Size of the disk of the stores.", value=disk.total)


class MetricsServer:
    """Serves a collector over HTTP from its own threads, from entering until leaving."""

    def __init__(self, collector: StoreCollector, host: str, port: int) -> None:
        """Listen, and answer once entered. Port 0 takes a free one.

        Raises:
            RoasError: The address cannot be listened on; the message says what to try.
        """
        registry = CollectorRegistry()
        registry.register(collector)
        ProcessCollector(registry=registry)
        self._server = _listen(host, port, _handler(registry, collector))
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # A scrape that hangs must not keep the exporter from ending.
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say it in the log, and quietly where only the client went away."""
        if isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            log.debug("the client %s went away", client_address)
        else:
            log.exception("a request of %s could not be answered", client_address)


def _listen(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        kind = type("_FamilyServer", (_Server,), {"address_family": family})
        server: _Server = kind((address[0], port), handler)
    except OSError as error:
        raise RoasError(
            f"Metrics cannot be served on {host}:{port}: {error.strerror or error};", advice=_advice(error, port)
        ) from error
    return server


def _advice(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another exporter may run already (`ss -ltnp 'sport = :{port}'` shows it), or choose another --port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "this user may not listen there; choose a --port over 1023."
    return "set ROAS_METRICS_HOST to an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all."


def _handler(registry: CollectorRegistry, collector: StoreCollector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_SECONDS
        server_version = "roas"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(registry), kind)
            elif path == "/healthz":
                reasons = collector.unreadable()
                text = "\n".join(reasons.values()) or "ok"
                self._answer(503 if reasons else 200, f"{text}\n".encode())
            else:
                self._answer(404, b"Here are /metrics for Prometheus and /healthz for a health check.\n")

        do_HEAD = do_GET  # noqa: N815 - the name of the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            log.debug(format, *args)

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=labels)


def _counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, about, labels=labels)


def _total(name: str, about: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, about, value=value)


def _counts(
    connection: sa.Connection, *columns: sa.ColumnElement[Any], where: sa.ColumnElement[bool]
) -> dict[_Labels, int]:
    query = sa.select(*columns, sa.func.count()).where(where).group_by(*columns)
    return {tuple(labels): number for *labels, number in connection.execute(query)}


def _fill(
    family: GaugeMetricFamily, counts: dict[_Labels, int], environments: Iterable[str], words: Sequence[str]
) -> None:
    """Each environment with each word, at 0 where there is none: a figure that vanishes looks like a gap."""
    for environment in sorted(environments):
        for word in words:
            family.add_metric([environment, word], counts.get((environment, word), 0))


def _buckets(by_duration: Sequence[int]) -> list[tuple[str, float]]:
    buckets, within = [], 0
    for end, number in zip((*DURATIONS_SECONDS, float("inf")), by_duration, strict=True):
        within += number
        buckets.append(("+Inf" if end == float("inf") else str(end), float(within)))
    return buckets


def _newest_samples(connection: sa.Connection, since: datetime) -> list[_Sample]:
    last = (
        sa.select(_samples.c.series, sa.func.max(_samples.c.ts).label("ts"))
        .where(_samples.c.ts >= round(since.timestamp() * 1000))
        .group_by(_samples.c.series)
        .subquery()
    )
    query = (
        sa.select(_series.c.environment, _series.c.service, _series.c.metric, _samples.c.value)
        .join(last, last.c.series == _series.c.id)
        .join(_samples, sa.and_(_samples.c.series == last.c.series, _samples.c.ts == last.c.ts))
        .order_by(_series.c.environment, _series.c.service)
    )
    return [_Sample(*row) for row in connection.execute(query)]


def _of_samples(prefix: str, shown: dict[str, _Shown], rows: Sequence[_Sample]) -> Iterator[Metric]:
    labels = ["environment"] if prefix == "roas_host" else ["environment", "service"]
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
        metric: (CounterMetricFamily if how.grows else GaugeMetricFamily)(
            f"{prefix}_{how.name}", how.about, labels=labels
        )
        for metric, how in shown.items()
    }
    for row in rows:
        if row.metric in families:
            values = [row.environment, row.service][: len(labels)]
            families[row.metric].add_metric(values, row.value * shown[row.metric].factor)
    yield from families.values()


def _of_environments(known: Iterable[str], reports: dict[str, HealthReport]) -> Iterator[Metric]:
    health = _gauge("roas_environment_health", "1 for the health an environment has now.", "environment", "health")
    checked = _gauge("roas_environment_checked_timestamp_seconds", "When it was judged, in Unix time.", "environment")
    for environment in sorted(known):
        report = reports.get(environment)
        now = report.overall.value if report else _UNKNOWN
        for word in (*(one.value for one in Health), _UNKNOWN):
            health.add_metric([environment, word], word == now)
        if report:
            checked.add_metric([environment], report.checked_at.timestamp())
    yield health
    yield checked


def _of_verdicts(reports: dict[str, HealthReport]) -> Iterator[Metric]:
    up = _gauge("roas_service_up", "1 while a service runs and nothing says it is ill.", "environment", "service")
    health = _gauge("roas_service_health", "1 for the health a service has now.", "environment", "service", "health")
    probed = _gauge("roas_probe_up", "1 where every probe of this kind was answered well.", *_PROBE)
    latency = _gauge("roas_probe_latency_seconds", "How long the slowest answer to a probe of this kind took.", *_PROBE)
    for environment, report in sorted(reports.items()):
        for verdict in report.services:
            labels = [environment, verdict.service]
            up.add_metric(labels, verdict.health in _UP)
            for one in ServiceHealth:
                health.add_metric([*labels, one.value], verdict.health is one)
            for kind in sorted({probe.kind for probe in verdict.probes}):
                probes = [probe for probe in verdict.probes if probe.kind == kind]
                probed.add_metric([*labels, kind], all(probe.ok for probe in probes))
                answered = [probe.latency_ms for probe in probes if probe.latency_ms is not None]
                if answered:
                    latency.add_metric([*labels, kind], max(answered) / 1000)
    yield from (up, health, probed, latency)
