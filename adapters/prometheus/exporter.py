"""Prometheus exporter: it reads the stores at each scrape and serves /metrics and /healthz."""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from adapters.config.environment_files import environment_files
from adapters.config.environments import read_environment
from adapters.host.http_server import OwnHandler, OwnServer
from adapters.prometheus.metric_families import counter, gauge, one_value
from adapters.prometheus.monitoring_figures import MonitoringFigures
from adapters.prometheus.record_figures import ErrorFigures, OperationFigures
from adapters.redis_cache import RedisCache
from adapters.stores import Stores
from adapters.stores.check import backlog, figures
from models.environments import Environment
from models.failures import RoasError, StoreError
from models.settings import Settings

log = logging.getLogger("roas")


def serve_metrics(stores: Stores, host: str, port: int, settings: Settings) -> None:
    """Serve /metrics and /healthz until SIGTERM or Ctrl-C. Call it in the main thread.

    Raises RoasError if the address cannot be listened on, BadInputError if the cache's URL cannot be read.
    """
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    cache = RedisCache(settings.redis_url, settings.redis_password_file) if settings.redis_url else None
    with metrics_server(StoreCollector(stores, settings, cache), host, port) as url:
        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            log.info("serving metrics on %s", url)
            ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    log.info("stopped serving metrics")


class StoreCollector(Collector):
    """Reads the stores at each scrape. A store that cannot be read is left out and reported as unreadable."""

    def __init__(
        self,
        stores: Stores,
        settings: Settings,
        cache: RedisCache | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._every: dict[str, timedelta] = {}
        self._max_ages: dict[str, timedelta] = {}
        self._needs: list[tuple[str, str]] = []
        self._monitoring = MonitoringFigures(stores)
        self._operations = OperationFigures(stores)
        self._errors = ErrorFigures(stores)

    def describe(self) -> Iterable[Metric]:
        """Nothing, since registration must not read the stores."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read every metric; one scrape at a time."""
        with self._lock:
            yield from self._collect()

    def unreadable_stores(self) -> dict[str, str]:
        """The reason for each unreadable store, by name."""
        reasons = {}
        for name, database in self._stores.databases.items():
            try:
                with database.read() as connection:
                    connection.exec_driver_sql("SELECT 1").all()
            except StoreError as error:
                reasons[name] = str(error)
        return reasons

    def _collect(self) -> Iterator[Metric]:
        began, now = time.perf_counter(), self._clock()
        every = self._intervals()
        environments = {*every}
        parts: dict[str, Callable[[], list[Metric]]] = {
            "deployment_logs": lambda: self._operations.read(now, environments),
            "monitoring": lambda: self._monitoring.read(now, environments, every),
            "errors": lambda: self._errors.read(now, environments),
        }
        readable: list[tuple[tuple[str], bool]] = []
        for name, read in parts.items():
            metrics = _read_part(f"store {name}", read)
            yield from metrics or ()
            readable.append(((name,), metrics is not None))
        yield gauge("roas_store_readable", "1 where the store could be read in this scrape.", "store", samples=readable)
        for what, read in {
            "sizes of the stores": self._metrics_of_stores,
            "waits of writers": self._metrics_of_waits,
            "disk of the stores": self._metrics_of_disk,
            "cache": self._metrics_of_cache,
        }.items():
            yield from _read_part(what, read) or ()
        about = "How often an environment's file wants it collected."
        intervals = (((name,), interval.total_seconds()) for name, interval in sorted(every.items()))
        yield gauge("roas_collection_interval_seconds", about, "environment", samples=intervals)
        about = "How old the newest whole snapshot of the data may be, by an environment's file."
        allowed = (((name,), age.total_seconds()) for name, age in sorted(self._max_ages.items()))
        yield gauge("roas_snapshot_max_age_seconds", about, "environment", samples=allowed)
        about = "1 for each need of an environment on another one, or on a service of it, by its file."
        yield gauge("roas_environment_need", about, "environment", "need", samples=((one, 1) for one in self._needs))
        build = [((version("roas-ops"),), 1)]
        yield gauge("roas_build_info", "1; the version of this program is its label.", "version", samples=build)
        about = "How long it took to read the figures of this scrape."
        yield one_value("roas_exporter_collect_seconds", about, time.perf_counter() - began)

    def _intervals(self) -> dict[str, timedelta]:
        """The collection interval by environment, or the default if its file cannot be read."""
        try:
            files = environment_files(self._settings).items()
            watched = {name: file for name, file in files if name not in self._settings.foreign_environments}
            read = {name: _requested_spans(name, file, file.stat().st_mtime_ns) for name, file in watched.items()}
            self._every = {name: every for name, (every, _, _) in read.items()}
            self._max_ages = {name: age for name, (_, age, _) in read.items() if age is not None}
            self._needs = [(name, need) for name, (_, _, needs) in sorted(read.items()) for need in needs]
        except (OSError, RoasError) as error:
            log.warning("the environments cannot be read: %s", error)
        return self._every

    def _metrics_of_stores(self) -> list[Metric]:
        sizes = gauge("roas_store_size_bytes", "Size of a store, and of its write-ahead log.", "store", "file")
        oldest = gauge("roas_store_oldest_timestamp_seconds", "When its oldest record was made, in Unix time.", "store")
        waiting = gauge("roas_store_spool_bytes", "Accepted rows that are not in the store yet.", "store")
        refused = gauge("roas_store_dead_letters", "Rows the store refused, kept with the reason.", "store")
        for name, database in self._stores.databases.items():
            try:
                store_figures, spool = figures(database), backlog(self._stores, database)
            except StoreError as error:
                log.warning("the size of store %s was left out of a scrape: %s", name, error)
                continue
            for kind, size in store_figures.bytes.items():
                sizes.add_metric([name, kind], size)
            if store_figures.oldest is not None:
                oldest.add_metric([name], store_figures.oldest.timestamp())
            waiting.add_metric([name], spool.waiting_bytes)
            refused.add_metric([name], spool.dead_letters)
        return [sizes, oldest, waiting, refused]

    def _metrics_of_waits(self) -> list[Metric]:
        waits, seconds = self._stores.waits.total()
        return [
            counter(f"roas_store_lock_{name}", about, samples=[((), value)])
            for name, about, value in (
                ("waits", "Times a writer of this host waited for its turn.", waits),
                ("wait_seconds", "How long writers of this host waited for their turn.", seconds),
            )
        ]

    def _metrics_of_disk(self) -> list[Metric]:
        disk = shutil.disk_usage(self._settings.data_dir)
        return [
            one_value("roas_store_disk_free_bytes", "Bytes free on the disk of the stores.", disk.free),
            one_value("roas_store_disk_size_bytes", "Size of the disk of the stores.", disk.total),
        ]

    def _metrics_of_cache(self) -> list[Metric]:
        if self._cache is None:
            return []
        self._cache.check()
        return [one_value("roas_cache_up", "1 while Redis answers the exporter.", 0 if self._cache.trouble else 1)]


@lru_cache(maxsize=1024)
def _requested_spans(name: str, file: Path, changed_ns: int) -> tuple[timedelta, timedelta | None, tuple[str, ...]]:
    """An environment's collection interval, how old its newest snapshot may be, and its needs.

    Its file's time of change makes it read again.
    """
    try:
        environment = read_environment(file, name)
        hours = environment.data.max_age_hours if environment.data is not None else None
        age = None if hours is None else timedelta(hours=hours)
        return timedelta(seconds=environment.collect_every_seconds), age, environment.needs
    except RoasError as error:
        log.warning("the collection interval of %s cannot be read: %s", name, error)
        return timedelta(seconds=Environment.model_fields["collect_every_seconds"].default), None, ()


def _read_part(name: str, read: Callable[[], list[Metric]]) -> list[Metric] | None:
    """The families of one part, or None if it fails, so that the other parts are still served."""
    try:
        return read()
    except StoreError as error:
        log.warning("%s was left out of a scrape: %s", name, error)
    except Exception:
        log.exception("%s was left out of a scrape", name)
    return None


@contextmanager
def metrics_server(collector: StoreCollector, host: str, port: int) -> Iterator[str]:
    """Serve a collector in threads of its own, on a free port where it is 0; give the address of its metrics.

    Raises RoasError if the address cannot be listened on; the message says what to try.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    with _listen(host, port, _handler(registry, collector)) as server:
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        try:
            yield f"http://{shown}:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()
            thread.join()


def _listen(host: str, port: int, handler: type[OwnHandler]) -> OwnServer:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        kind = type("_FamilyServer", (OwnServer,), {"address_family": family})
        server: OwnServer = kind((address[0], port), handler)
    except OSError as error:
        advice = "set ROAS_METRICS_HOST to an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all."
        if error.errno == errno.EADDRINUSE:
            shows = f"`ss -ltnp 'sport = :{port}'` shows it"
            advice = f"another exporter may run already ({shows}), or choose another --port."
        elif error.errno in (errno.EACCES, errno.EPERM):
            advice = "this user may not listen there; choose a --port over 1023."
        what = f"Metrics cannot be served on {host}:{port}: {error.strerror or error};"
        raise RoasError(what, advice=advice) from error
    return server


def _handler(registry: CollectorRegistry, collector: StoreCollector) -> type[OwnHandler]:
    class MetricsHandler(OwnHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that the base class calls
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(registry), kind)
            elif path == "/healthz":
                reasons = collector.unreadable_stores()
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

    return MetricsHandler
