"""Prometheus metrics from monitoring.db; old values are left out, so that Prometheus shows a gap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from adapters.prometheus.counters import RowCounter, milliseconds_between
from adapters.prometheus.metric_families import Labels, counter, durations, filled, gauge
from adapters.stores import Stores
from adapters.stores.repositories.metrics import from_ms, to_ms
from adapters.stores.sql import table
from models.health import Health, HealthReport, ServiceHealth
from models.metrics import (
    HOST,
    Alert,
    AlertSeverity,
    AlertState,
    Baseline,
    DependencyStatus,
    Prediction,
    PredictionOutcome,
)
from models.records import RecordedScore
from models.tables.monitoring import AlertRow, DeploymentHealth, MetricSample, MetricSeries, PredictionRow

FRESH = timedelta(minutes=15)
"""Older values are left out, unless an environment is collected less often than this."""

_COLLECTIONS = 3
"""Values of an environment may be this many collections old."""

_UNKNOWN = "unknown"
_UP = frozenset({ServiceHealth.HEALTHY, ServiceHealth.DEGRADED, ServiceHealth.COMPLETED, ServiceHealth.UNPROVEN})
_SERVICE = ("environment", "service")
_PROBE = (*_SERVICE, "kind")
_STATES = (AlertState.OPEN, AlertState.ACKNOWLEDGED)
_BOUNDS = ("usual", "warning", "critical")

_alerts = table(AlertRow)
_health = table(DeploymentHealth)
_predictions = table(PredictionRow)
_samples = table(MetricSample)
_series = table(MetricSeries)


class _Sample(NamedTuple):
    """The newest stored value of one metric."""

    environment: str
    service: str
    metric: str
    value: float
    at: datetime


class _Exported(NamedTuple):
    """How a stored metric is exported: in base units, so percentages (0-100) become ratios.

    `usual` is the name of its baseline, if it has one, in the same unit.
    """

    name: str
    about: str
    factor: float = 1.0
    grows: bool = False
    usual: str = ""


OF_SERVICES: Mapping[str, _Exported] = {
    "cpu_usage": _Exported(
        "cpu_ratio",
        "Processors in use since the last collection; 1 is one whole processor.",
        0.01,
        usual="cpu_baseline_ratio",
    ),
    "cpu_seconds_total": _Exported("cpu_seconds", "Processor time used by the running containers.", grows=True),
    "memory_bytes": _Exported("memory_bytes", "Memory in use."),
    "memory_usage": _Exported(
        "memory_ratio", "Memory in use as a share of its limit.", 0.01, usual="memory_baseline_ratio"
    ),
    "response_time": _Exported(
        "response_seconds", "How long the answer to the service's probe took.", 0.001, usual="response_baseline_seconds"
    ),
    "exit_code": _Exported("exit_code", "Exit code the service ended with last; there once it has ended."),
    "oom_kills_total": _Exported("oom_kills", "Ends for using too much memory, as far as they were seen.", grows=True),
    "restarts_total": _Exported("restarts", "Restarts of the running containers by the engine.", grows=True),
    "certificate_days": _Exported(
        "certificate_seconds", "How long the certificate is still valid; below 0 it has expired.", 86400.0
    ),
    "persistence_failures": _Exported("persistence_failures", "What the service's probe says is not saved to disk."),
    "processes": _Exported("processes", "Processes and threads of the containers."),
    "throttled_periods_total": _Exported("throttled_periods", "Periods in which the processor was denied.", grows=True),
    "network_rx_bytes_total": _Exported("network_receive_bytes", "Bytes received over networks.", grows=True),
    "network_tx_bytes_total": _Exported("network_transmit_bytes", "Bytes sent over networks.", grows=True),
    "block_read_bytes_total": _Exported("block_read_bytes", "Bytes read from block devices.", grows=True),
    "block_write_bytes_total": _Exported("block_written_bytes", "Bytes written to block devices.", grows=True),
}
OF_HOSTS: Mapping[str, _Exported] = {
    "cpu_usage": _Exported(
        "cpu_ratio", "Processor time in use as a share of all processors.", 0.01, usual="cpu_baseline_ratio"
    ),
    "cpu_seconds_total": _Exported("cpu_seconds", "Processor time in use since boot, of all processors.", grows=True),
    "load_1m": _Exported("load1", "Processes that run or wait, mean of 1 minute.", usual="load1_baseline"),
    "load_5m": _Exported("load5", "Processes that run or wait, mean of 5 minutes."),
    "memory_usage": _Exported(
        "memory_ratio", "Memory not available as a share of all.", 0.01, usual="memory_baseline_ratio"
    ),
    "disk_usage": _Exported(
        "disk_ratio", "Disk under the stores in use as a share of all.", 0.01, usual="disk_baseline_ratio"
    ),
    "disk_free_bytes": _Exported("disk_free_bytes", "Bytes free on the disk under the stores."),
    "inodes_free": _Exported("inodes_free", "Inodes free on the disk under the stores."),
    "inodes_usage": _Exported(
        "inodes_ratio",
        "Inodes in use on the disk under the stores as a share of all.",
        0.01,
        usual="inodes_baseline_ratio",
    ),
    "store_bytes": _Exported("largest_store_bytes", "Size of the largest store.", usual="largest_store_baseline_bytes"),
    "network_rx_bytes_total": _Exported("network_receive_bytes", "Bytes received over networks.", grows=True),
    "network_tx_bytes_total": _Exported("network_transmit_bytes", "Bytes sent over networks.", grows=True),
    "pressure_cpu": _Exported("pressure_cpu_ratio", "Share of 10 s in which work waited for a processor.", 0.01),
    "pressure_memory": _Exported("pressure_memory_ratio", "Share of 10 s in which work waited for memory.", 0.01),
    "pressure_io": _Exported("pressure_io_ratio", "Share of 10 s in which work waited for a device.", 0.01),
}


class MonitoringFigures:
    """Metrics of monitoring.db, with counters kept between scrapes. Not thread-safe."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._alerts = RowCounter(
            _alerts,
            _alerts.c.id,
            kinds=[_alerts.c.environment, _alerts.c.severity],
            unfinished=_alerts.c.state != AlertState.RESOLVED.value,
            duration_ms=milliseconds_between(_alerts.c.opened_at, _alerts.c.resolved_at),
        )
        self._predictions = RowCounter(
            _predictions,
            _predictions.c.id,
            kinds=[_predictions.c.environment, _predictions.c.outcome],
            unfinished=_predictions.c.outcome == PredictionOutcome.OPEN.value,
        )

    def read(self, now: datetime, known: set[str], every: Mapping[str, timedelta]) -> list[Metric]:
        """Read every family. Environments found in the store are added to `known`.

        `every` is the collection interval of each configured environment.

        Raises:
            StoreError: The store cannot be read.
        """
        since = {name: now - max(FRESH, _COLLECTIONS * often) for name, often in every.items()}
        oldest = min(since.values(), default=now - FRESH)
        stores = self._stores
        with self._stores.databases["monitoring"].read() as connection:
            self._alerts.catch_up(connection)
            self._predictions.catch_up(connection)
            judged = connection.scalars(
                sa.select(_health.c.environment)
                .where(_health.c.timestamp >= oldest, _health.c.environment.is_not(None))
                .distinct()
            ).all()
            newest = [
                one for one in _newest_samples(connection, oldest) if one.at >= since.get(one.environment, now - FRESH)
            ]
        reports = {
            name: report
            for name in judged
            for report in stores.health.history(name, limit=1)
            if report.checked_at >= since.get(name, now - FRESH)
        }
        known |= {*judged, *(row.environment for row in newest)}
        for rows in (self._alerts, self._predictions):
            known |= {kind[0] for kind in (*rows.counts, *rows.unfinished)}
        alerts = {name: stores.alerts.unresolved(name) for name in sorted(known)}
        # Baselines of removed services are left out.
        fresh = {(row.environment, row.service, row.metric) for row in newest}
        baselines = {name: stores.baselines.all(name) for name in {row.environment for row in newest}}
        return [
            *_of_environments(known, reports),
            *_of_verdicts(reports),
            *_of_samples("roas_service", OF_SERVICES, [row for row in newest if row.service != HOST]),
            *_of_samples("roas_host", OF_HOSTS, [row for row in newest if row.service == HOST]),
            *_of_baselines("roas_service", OF_SERVICES, baselines, fresh),
            *_of_baselines("roas_host", OF_HOSTS, baselines, fresh),
            *_of_scores([score for name in reports for score in stores.health.latest_scores(name)], since, now),
            self._dependencies(now, known, since),
            *self._of_alerts(alerts),
            *self._of_predictions(known),
            *_of_heartbeats(stores.heartbeats.all()),
        ]

    def _dependencies(self, now: datetime, known: Iterable[str], since: Mapping[str, datetime]) -> Metric:
        up = gauge(
            "roas_dependency_up",
            "1 while what a service depends on is there.",
            *(*_SERVICE, "depends_on", "dependency_type"),
        )
        for environment in sorted(known):
            needs = self._stores.dependencies.all(environment)
            checked = max((need.last_check for need in needs if need.last_check), default=None)
            if checked is None or checked < since.get(environment, now - FRESH):
                continue
            for need in needs:
                # A dependency that was not checked with the others is not declared any more.
                if need.last_check == checked:
                    labels = [environment, need.service, need.depends_on, need.dependency_type.value]
                    up.add_metric(labels, need.status is DependencyStatus.ACTIVE)
        return up

    def _of_alerts(self, alerts: Mapping[str, Sequence[Alert]]) -> Iterator[Metric]:
        reported = [one for found in alerts.values() for one in found if one.explained_by is None]
        yield filled(
            "roas_alerts_open",
            "Alerts that are not resolved, without those that another one explains.",
            ("environment", "severity", "state"),
            _numbers((one.environment, one.severity, one.state) for one in reported),
            *(alerts, AlertSeverity, _STATES),
        )
        yield filled(
            "roas_alerts_explained",
            "Alerts that are not resolved and that another one explains.",
            ("environment",),
            _numbers((one.environment,) for found in alerts.values() for one in found if one.explained_by is not None),
            *(alerts,),
        )
        of_services = gauge(
            "roas_service_alerts_open", "Alerts of a service that are not resolved.", *_SERVICE, "severity"
        )
        by_service = _numbers((one.environment, one.service, one.severity) for all_ in alerts.values() for one in all_)
        for labels, number in sorted(by_service.items()):
            of_services.add_metric(labels, number)
        yield of_services
        yield durations(
            "roas_alert_duration_seconds",
            "How long alerts were open that are resolved.",
            ("environment", "severity"),
            self._alerts.counts,
            [(name, severity) for name in alerts for severity in AlertSeverity],
        )

    def _of_predictions(self, known: Iterable[str]) -> Iterator[Metric]:
        standing = [
            one
            for name in sorted({kind[0] for kind in self._predictions.unfinished})
            for one in self._stores.evaluations.predictions(name, PredictionOutcome.OPEN)
        ]
        open_now = _numbers((one.environment,) for one in standing)
        yield filled("roas_predictions_open", "Predictions that stand.", ("environment",), open_now, sorted(known))
        ends = [outcome for outcome in PredictionOutcome if outcome is not PredictionOutcome.OPEN]
        scored = counter("roas_predictions_scored", "Predictions that came true or did not.", "environment", "outcome")
        for name in sorted(known):
            for outcome in ends:
                kind = (name, outcome.value)
                scored.add_metric(kind, self._predictions.counts[kind].rows if kind in self._predictions.counts else 0)
        yield scored
        yield _of_times(standing)


def _of_times(standing: Sequence[Prediction]) -> Metric:
    when = gauge(
        "roas_prediction_timestamp_seconds",
        "When a metric is expected to pass its limit, and the ends of the 80 % interval, in Unix time.",
        *(*_SERVICE, "metric", "bound"),
    )
    newest = {(one.environment, one.service, one.metric): one for one in reversed(standing)}
    for labels, one in sorted(newest.items()):
        for bound in ("earliest", "expected", "latest"):
            when.add_metric([*labels, bound], getattr(one, bound).timestamp())
    return when


def _of_heartbeats(beats: Mapping[str, datetime]) -> Iterator[Metric]:
    """Heartbeats are stored as NAME/ENVIRONMENT."""
    family = gauge(
        "roas_heartbeat_timestamp_seconds", "When it was last seen going on, in Unix time.", "name", "environment"
    )
    for whole, at in sorted(beats.items()):
        name, _, environment = whole.partition("/")
        family.add_metric([name, environment], at.timestamp())
    yield family


def _newest_samples(connection: sa.Connection, since: datetime) -> list[_Sample]:
    last = (
        sa.select(_samples.c.series, sa.func.max(_samples.c.ts).label("ts"))
        .where(_samples.c.ts >= to_ms(since))
        .group_by(_samples.c.series)
        .subquery()
    )
    query = (
        sa.select(_series.c.environment, _series.c.service, _series.c.metric, _samples.c.value, _samples.c.ts)
        .join(last, last.c.series == _series.c.id)
        .join(_samples, sa.and_(_samples.c.series == last.c.series, _samples.c.ts == last.c.ts))
        .order_by(_series.c.environment, _series.c.service)
    )
    return [_Sample(*row[:4], from_ms(row.ts)) for row in connection.execute(query)]


def _of_samples(prefix: str, shown: Mapping[str, _Exported], rows: Sequence[_Sample]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
        metric: (counter if how.grows else gauge)(f"{prefix}_{how.name}", how.about, *_subject(prefix))
        for metric, how in shown.items()
    }
    for row in rows:
        if row.metric in families:
            labels = [row.environment, row.service][: len(_subject(prefix))]
            families[row.metric].add_metric(labels, row.value * shown[row.metric].factor)
    yield from families.values()


def _of_baselines(
    prefix: str, shown: Mapping[str, _Exported], baselines: Mapping[str, Sequence[Baseline]], fresh: set[Any]
) -> Iterator[Metric]:
    families = {
        metric: gauge(
            f"{prefix}_{how.usual}",
            f"What is usual for {prefix}_{how.name}, and where it begins to matter.",
            *(*_subject(prefix), "bound"),
        )
        for metric, how in shown.items()
        if how.usual
    }
    for environment, found in sorted(baselines.items()):
        for one in found:
            is_host = one.service == HOST
            if one.metric not in families or is_host != (prefix == "roas_host"):
                continue
            if (environment, one.service, one.metric) not in fresh:
                continue
            labels = [environment, one.service][: len(_subject(prefix))]
            for bound, value in zip(_BOUNDS, (one.value, one.warning, one.critical), strict=True):
                if value is not None:
                    families[one.metric].add_metric([*labels, bound], value * shown[one.metric].factor)
    yield from families.values()


def _of_scores(scores: Sequence[RecordedScore], since: Mapping[str, datetime], now: datetime) -> Iterator[Metric]:
    points = gauge("roas_service_score_points", "Health score of a service, 0 to 100.", *_SERVICE)
    parts = gauge("roas_service_score_part_points", "One part of the health score, 0 to 100.", *_SERVICE, "part")
    bounds = gauge("roas_service_score_bound_points", "The ends of the score's 95 % interval.", *_SERVICE, "bound")
    covered = gauge("roas_service_score_coverage_ratio", "Share of the score's weights that had data.", *_SERVICE)
    for score in scores:
        if score.scored_at < since.get(score.environment, now - FRESH):
            continue
        labels = [score.environment, score.service]
        points.add_metric(labels, score.score)
        for name, value in sorted(score.parts.items()):
            if value is None:
                continue
            if name == "coverage":
                covered.add_metric(labels, value)
            elif name in ("low", "high"):
                bounds.add_metric([*labels, name], value)
            else:
                parts.add_metric([*labels, name], value)
    yield from (points, parts, bounds, covered)


def _of_environments(known: Iterable[str], reports: Mapping[str, HealthReport]) -> Iterator[Metric]:
    health = gauge("roas_environment_health", "1 for the health an environment has now.", "environment", "health")
    checked = gauge("roas_environment_checked_timestamp_seconds", "When it was judged, in Unix time.", "environment")
    for environment in sorted(known):
        report = reports.get(environment)
        now = report.overall.value if report else _UNKNOWN
        for word in (*(one.value for one in Health), _UNKNOWN):
            health.add_metric([environment, word], word == now)
        if report:
            checked.add_metric([environment], report.checked_at.timestamp())
    yield health
    yield checked


def _of_verdicts(reports: Mapping[str, HealthReport]) -> Iterator[Metric]:
    up = gauge("roas_service_up", "1 while a service runs and nothing says it is ill.", *_SERVICE)
    health = gauge("roas_service_health", "1 for the health a service has now.", *_SERVICE, "health")
    probed = gauge("roas_probe_up", "1 where every probe of this kind was answered well.", *_PROBE)
    latency = gauge("roas_probe_latency_seconds", "How long the slowest answer to a probe of this kind took.", *_PROBE)
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


def _subject(prefix: str) -> tuple[str, ...]:
    return ("environment",) if prefix == "roas_host" else _SERVICE


def _numbers(kinds: Iterable[Sequence[str]]) -> dict[Labels, int]:
    numbers: dict[Labels, int] = {}
    for kind in kinds:
        labels = tuple(str(word) for word in kind)
        numbers[labels] = numbers.get(labels, 0) + 1
    return numbers
