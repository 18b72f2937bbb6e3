"""Prometheus metrics from monitoring.db; old values are left out, so that Prometheus shows a gap."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby, product
from typing import Any, NamedTuple

import sqlalchemy as sa
from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.prometheus.metric_families import Count, Labels, RowCounter
from adapters.stores import Stores
from adapters.stores.repositories.metrics import from_ms, to_ms
from adapters.stores.repositories.repositories import Repositories
from adapters.stores.sql import table
from adapters.stores.transactions import Bound
from core.monitoring.evaluators import JUDGED
from models.health import Health, HealthReport, RecordedScore, ServiceHealth
from models.metrics import (
    HOST,
    Alert,
    AlertSeverity,
    AlertState,
    DependencyStatus,
    Prediction,
    PredictionOutcome,
)
from models.tables.monitoring import (
    AlertRow,
    MetricSample,
    MetricSeries,
    PerformanceBaseline,
    PredictionRow,
    ServiceDependency,
)

FRESH = timedelta(minutes=15)
"""Older values are left out, unless an environment is collected less often than this."""

_COLLECTIONS = 3
"""Values of an environment may be this many collections old."""

_UNKNOWN = "unknown"
_UP = frozenset({ServiceHealth.HEALTHY, ServiceHealth.DEGRADED, ServiceHealth.COMPLETED, ServiceHealth.UNPROVEN})
_SERVICE = ("environment", "service")
_SUBJECTS = {"roas_service": _SERVICE, "roas_host": ("environment",)}
_STATES = (AlertState.OPEN, AlertState.ACKNOWLEDGED)
_BOUNDS = ("usual", "warning", "critical")

_alerts = table(AlertRow)
_baselines = table(PerformanceBaseline)
_dependencies = table(ServiceDependency)
_predictions = table(PredictionRow)
_samples = table(MetricSample)
_series = table(MetricSeries)

_USUAL = sa.select(
    *(_baselines.c.environment, _baselines.c.service, _baselines.c.metric_name),
    *(_baselines.c.baseline_value, _baselines.c.threshold_warning, _baselines.c.threshold_critical),
).order_by(_baselines.c.service_name, _baselines.c.metric_name)
_NEEDS = sa.select(_dependencies).order_by(
    _dependencies.c.environment, _dependencies.c.service_name, _dependencies.c.depends_on_service
)


class _Sample(NamedTuple):
    """The newest stored value of one metric."""

    environment: str
    service: str
    metric: str
    value: float
    at: datetime


class _Exported(NamedTuple):
    """How a stored metric is exported: in base units, so percentages (0-100) become ratios."""

    name: str
    about: str
    factor: float = 1.0


OF_SERVICES: Mapping[str, _Exported] = {
    "cpu_usage": _Exported("cpu_ratio", "Processors in use since the last collection; 1 is one whole processor.", 0.01),
    "cpu_seconds_total": _Exported("cpu_seconds", "Processor time used by the running containers."),
    "memory_bytes": _Exported("memory_bytes", "Memory in use."),
    "memory_usage": _Exported("memory_ratio", "Memory in use as a share of its limit.", 0.01),
    "response_time": _Exported("response_seconds", "How long the answer to the service's probe took.", 0.001),
    "exit_code": _Exported("exit_code", "Exit code the service ended with last; there once it has ended."),
    "oom_kills_total": _Exported("oom_kills", "Ends for using too much memory, as far as they were seen."),
    "restarts_total": _Exported("restarts", "Restarts of the running containers by the engine."),
    "certificate_days": _Exported(
        "certificate_seconds", "How long the certificate is still valid; below 0 it has expired.", 86400.0
    ),
    "persistence_failures": _Exported("persistence_failures", "What the service's probe says is not saved to disk."),
    "replication_lag_seconds": _Exported(
        "replication_lag_seconds", "How far the replica is behind its primary; 0 on a primary."
    ),
    "queue_messages": _Exported("queue_messages", "Messages ready in the queue that the service's probe reads."),
    "processes": _Exported("processes", "Processes and threads of the containers."),
    "throttled_periods_total": _Exported("throttled_periods", "Periods in which the processor was denied."),
    "network_rx_bytes_total": _Exported("network_receive_bytes", "Bytes received over networks."),
    "network_tx_bytes_total": _Exported("network_transmit_bytes", "Bytes sent over networks."),
    "block_read_bytes_total": _Exported("block_read_bytes", "Bytes read from block devices."),
    "block_write_bytes_total": _Exported("block_written_bytes", "Bytes written to block devices."),
}
OF_HOSTS: Mapping[str, _Exported] = {
    "cpu_usage": _Exported("cpu_ratio", "Processor time in use as a share of all processors.", 0.01),
    "cpu_seconds_total": _Exported("cpu_seconds", "Processor time in use since boot, of all processors."),
    "load_1m": _Exported("load1", "Processes that run or wait, mean of 1 minute."),
    "load_5m": _Exported("load5", "Processes that run or wait, mean of 5 minutes."),
    "memory_usage": _Exported("memory_ratio", "Memory not available as a share of all.", 0.01),
    "disk_usage": _Exported("disk_ratio", "Disk under the stores in use as a share of all.", 0.01),
    "disk_free_bytes": _Exported("disk_free_bytes", "Bytes free on the disk under the stores."),
    "inodes_free": _Exported("inodes_free", "Inodes free on the disk under the stores."),
    "inodes_usage": _Exported("inodes_ratio", "Inodes in use on the disk under the stores as a share of all.", 0.01),
    "store_bytes": _Exported("largest_store_bytes", "Size of the largest store."),
    "network_rx_bytes_total": _Exported("network_receive_bytes", "Bytes received over networks."),
    "network_tx_bytes_total": _Exported("network_transmit_bytes", "Bytes sent over networks."),
    "pressure_cpu": _Exported("pressure_cpu_ratio", "Share of 10 s in which work waited for a processor.", 0.01),
    "pressure_memory": _Exported("pressure_memory_ratio", "Share of 10 s in which work waited for memory.", 0.01),
    "pressure_io": _Exported("pressure_io_ratio", "Share of 10 s in which work waited for a device.", 0.01),
}


_EXPORTED = [
    (prefix, metric, shown)
    for prefix, of in (("roas_service", OF_SERVICES), ("roas_host", OF_HOSTS))
    for metric, shown in of.items()
]


class MonitoringFigures:
    """Metrics of monitoring.db, with counters kept between scrapes. Not thread-safe."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._alerts = RowCounter(
            _alerts,
            _alerts.c.id,
            kinds=[_alerts.c.environment, _alerts.c.severity],
            unfinished=_alerts.c.state != AlertState.RESOLVED.value,
            duration_ms=families.milliseconds_between(_alerts.c.opened_at, _alerts.c.resolved_at),
        )
        self._predictions = RowCounter(
            _predictions,
            _predictions.c.id,
            kinds=[_predictions.c.environment, _predictions.c.outcome],
            unfinished=_predictions.c.outcome == PredictionOutcome.OPEN.value,
        )

    def read(self, now: datetime, environments: set[str], every: Mapping[str, timedelta]) -> list[Metric]:
        """Read every family, and add those found to `environments`. Raises StoreError if it cannot be read.

        `every` is the collection interval of each configured environment.
        """
        since = {name: now - max(FRESH, _COLLECTIONS * often) for name, often in every.items()}
        oldest = min(since.values(), default=now - FRESH)
        fresh = defaultdict(lambda: now - FRESH, since)
        # One transaction, and one question for all environments: a fleet has thousands.
        with self._stores.databases["monitoring"].read() as connection:
            stores = Repositories({"monitoring": Bound("monitoring", connection)})
            self._alerts.catch_up(connection)
            self._predictions.catch_up(connection)
            judged = stores.health.latest_reports(oldest)
            newest = [
                sample for sample in _newest_samples(connection, oldest) if sample.at >= fresh[sample.environment]
            ]
            scores = stores.health.all_latest_scores(oldest)
            baselines, needs = connection.execute(_USUAL).all(), connection.execute(_NEEDS).all()
            unresolved = stores.alerts.list_unresolved()
            standing = stores.evaluations.predictions(outcome=PredictionOutcome.OPEN)
            beats = stores.heartbeats.all()
        reports = {name: report for name, report in judged.items() if report.checked_at >= fresh[name]}
        environments |= {*judged, *(row.environment for row in newest)}
        for rows in (self._alerts, self._predictions):
            environments |= {kind[0] for kind in (*rows.counts, *rows.unfinished)}
        names = sorted(environments)
        return [
            *_metrics_of_environments(names, reports),
            *_metrics_of_verdicts(reports),
            *_metrics_of_samples(newest),
            *_metrics_of_baselines(baselines, newest),
            *_metrics_of_scores(
                [
                    score
                    for score in scores
                    if score.environment in reports and score.scored_at >= fresh[score.environment]
                ]
            ),
            _metrics_of_dependencies(needs, fresh),
            *self._metrics_of_alerts(unresolved, names),
            *self._metrics_of_predictions(standing, names),
            _metrics_of_heartbeats(beats),
        ]

    def _metrics_of_alerts(self, unresolved: Sequence[Alert], names: Sequence[str]) -> Iterator[Metric]:
        yield families.full_gauge(
            "roas_alerts_open",
            "Alerts that are not resolved, without those that another one explains.",
            ("environment", "severity", "state"),
            Counter(
                (alert.environment, alert.severity, alert.state) for alert in unresolved if alert.explained_by is None
            ),
            *(names, AlertSeverity, _STATES),
        )
        yield families.full_gauge(
            "roas_alerts_explained",
            "Alerts that are not resolved and that another one explains.",
            ("environment",),
            Counter((alert.environment,) for alert in unresolved if alert.explained_by is not None),
            names,
        )
        by_service = Counter((alert.environment, alert.service, alert.severity) for alert in unresolved)
        about = "Alerts of a service that are not resolved."
        yield families.gauge(
            "roas_service_alerts_open", about, *_SERVICE, "severity", samples=sorted(by_service.items())
        )
        yield families.durations(
            "roas_alert_duration_seconds",
            "How long alerts were open that are resolved.",
            ("environment", "severity"),
            self._alerts.counts,
            product(names, AlertSeverity),
        )

    def _metrics_of_predictions(self, standing: Sequence[Prediction], names: Sequence[str]) -> Iterator[Metric]:
        open_now = Counter((prediction.environment,) for prediction in standing)
        yield families.full_gauge("roas_predictions_open", "Predictions that stand.", ("environment",), open_now, names)
        ends = [outcome.value for outcome in PredictionOutcome if outcome is not PredictionOutcome.OPEN]
        yield families.counter(
            "roas_predictions_scored",
            "Predictions that came true or did not.",
            *("environment", "outcome"),
            samples=((kind, (self._predictions.counts.get(kind) or Count()).rows) for kind in product(names, ends)),
        )
        newest = {
            (prediction.environment, prediction.service, prediction.metric): prediction
            for prediction in reversed(standing)
        }
        yield families.gauge(
            "roas_prediction_timestamp_seconds",
            "When a metric is expected to pass its limit, and the ends of the 80 % interval, in Unix time.",
            *(*_SERVICE, "metric", "bound"),
            samples=(
                ((*labels, bound), getattr(prediction, bound).timestamp())
                for labels, prediction in sorted(newest.items())
                for bound in ("earliest", "expected", "latest")
            ),
        )


def _metrics_of_baselines(baselines: Iterable[Sequence[Any]], newest: Sequence[_Sample]) -> Iterator[Metric]:
    """Baselines of removed services are left out."""
    fresh = {(row.environment, row.service, row.metric) for row in newest}
    samples: dict[tuple[str, str], list[tuple[Labels, float]]] = {}
    factors = {(prefix, metric): shown.factor for prefix, metric, shown in _EXPORTED}
    for name, service, metric, *values in baselines:
        kind = ("roas_host" if service == HOST else "roas_service", metric)
        if (name, service, metric) in fresh and kind in factors:
            samples.setdefault(kind, []).extend(
                ((*_subject(name, service), bound), value * factors[kind])
                for bound, value in zip(_BOUNDS, values, strict=True)
                if value is not None
            )
    for prefix, metric, shown in _EXPORTED:
        if metric in JUDGED:
            head, _, unit = shown.name.rpartition("_")
            yield families.gauge(
                f"{prefix}_{head}_baseline_{unit}" if head else f"{prefix}_{unit}_baseline",
                f"What is usual for {prefix}_{shown.name}, and where it begins to matter.",
                *(*_SUBJECTS[prefix], "bound"),
                samples=samples.get((prefix, metric), ()),
            )


def _metrics_of_dependencies(needs: Iterable[sa.Row[Any]], fresh: Mapping[str, datetime]) -> Metric:
    samples: list[tuple[Labels, bool]] = []
    for environment, rows in groupby(needs, key=lambda need: str(need.environment)):
        dependencies = list(rows)
        checked = max((need.last_check for need in dependencies if need.last_check), default=None)
        if checked is not None and checked >= fresh[environment]:
            # A dependency that was not checked with the others is not declared any more.
            samples += [
                (
                    (environment, need.service, need.depends_on_service, need.dependency_type),
                    need.status == DependencyStatus.ACTIVE.value,
                )
                for need in dependencies
                if need.last_check == checked
            ]
    about = "1 while what a service depends on is there."
    return families.gauge("roas_dependency_up", about, *_SERVICE, "depends_on", "dependency_type", samples=samples)


def _metrics_of_heartbeats(beats: Mapping[str, datetime]) -> Metric:
    """Heartbeats are stored as NAME/ENVIRONMENT."""
    samples = ((whole.partition("/")[::2], at.timestamp()) for whole, at in sorted(beats.items()))
    about = "When it was last seen going on, in Unix time."
    return families.gauge("roas_heartbeat_timestamp_seconds", about, "name", "environment", samples=samples)


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


def _metrics_of_samples(newest: Sequence[_Sample]) -> Iterator[Metric]:
    for prefix, metric, shown in _EXPORTED:
        rows = [row for row in newest if row.metric == metric and (row.service == HOST) == (prefix == "roas_host")]
        yield (families.counter if metric.endswith("_total") else families.gauge)(
            f"{prefix}_{shown.name}",
            shown.about,
            *_SUBJECTS[prefix],
            samples=((_subject(row.environment, row.service), row.value * shown.factor) for row in rows),
        )


def _metrics_of_scores(scores: Sequence[RecordedScore]) -> Iterator[Metric]:
    points = (((score.environment, score.service), score.score) for score in scores)
    yield families.gauge("roas_service_score_points", "Health score of a service, 0 to 100.", *_SERVICE, samples=points)
    parts: dict[str, list[tuple[Labels, float]]] = {"part": [], "bound": [], "coverage": []}
    for score in scores:
        for name, value in sorted(score.parts.items()):
            if value is not None:
                kind = "coverage" if name == "coverage" else "bound" if name in ("low", "high") else "part"
                label = () if kind == "coverage" else (name,)
                parts[kind].append(((score.environment, score.service, *label), value))
    for name, about, labels, samples in (
        ("part_points", "One part of the health score, 0 to 100.", ("part",), parts["part"]),
        ("bound_points", "The ends of the score's 95 % interval.", ("bound",), parts["bound"]),
        ("coverage_ratio", "Share of the score's weights that had data.", (), parts["coverage"]),
    ):
        yield families.gauge(f"roas_service_score_{name}", about, *_SERVICE, *labels, samples=samples)


def _metrics_of_environments(names: Sequence[str], reports: Mapping[str, HealthReport]) -> Iterator[Metric]:
    now = {name: reports[name].overall.value if name in reports else _UNKNOWN for name in names}
    words = (*(health.value for health in Health), _UNKNOWN)
    yield families.gauge(
        "roas_environment_health",
        "1 for the health an environment has now.",
        *("environment", "health"),
        samples=(((name, word), word == health) for name, health in now.items() for word in words),
    )
    yield families.gauge(
        "roas_environment_checked_timestamp_seconds",
        "When it was judged, in Unix time.",
        "environment",
        samples=(((name,), reports[name].checked_at.timestamp()) for name in now if name in reports),
    )


def _metrics_of_verdicts(reports: Mapping[str, HealthReport]) -> Iterator[Metric]:
    verdicts = [
        ((name, verdict.service), verdict) for name, report in sorted(reports.items()) for verdict in report.services
    ]
    probes = {
        (*of, kind): [probe for probe in verdict.probes if probe.kind == kind]
        for of, verdict in verdicts
        for kind in sorted({probe.kind for probe in verdict.probes})
    }
    took = {
        of: [result.latency_ms for result in results if result.latency_ms is not None] for of, results in probes.items()
    }
    yield families.gauge(
        "roas_service_up",
        "1 while a service runs and nothing shows that it is unhealthy.",
        *_SERVICE,
        samples=((of, verdict.health in _UP) for of, verdict in verdicts),
    )
    yield families.gauge(
        "roas_service_health",
        "1 for the health a service has now.",
        *(*_SERVICE, "health"),
        samples=(
            ((*of, health.value), verdict.health is health) for of, verdict in verdicts for health in ServiceHealth
        ),
    )
    yield families.gauge(
        "roas_probe_up",
        "1 where every probe of this kind was answered well.",
        *(*_SERVICE, "kind"),
        samples=((of, all(result.ok for result in results)) for of, results in probes.items()),
    )
    yield families.gauge(
        "roas_probe_latency_seconds",
        "How long the slowest answer to a probe of this kind took.",
        *(*_SERVICE, "kind"),
        samples=((of, max(times) / 1000) for of, times in took.items() if times),
    )


def _subject(environment: str, service: str) -> Labels:
    return (environment,) if service == HOST else (environment, service)
