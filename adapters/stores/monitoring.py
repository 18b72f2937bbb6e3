"""monitoring.db: health, metrics, what is usual for them, alerts, and who was seen alive."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from types import EllipsisType
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.database import Transacting
from adapters.stores.sql import insert, insert_unless_there, table, upsert
from core.common.sketches import Sketch
from models.failures import StoreConstraintError
from models.health import Health, HealthReport, ProbeResult, ServiceHealth
from models.metrics import (
    Alert,
    AlertSeverity,
    AlertState,
    Baseline,
    Dependency,
    DependencyStatus,
    DependencyType,
    HealthImpact,
    Metric,
    Prediction,
    PredictionOutcome,
)
from models.records import MetricSummary, RecordedScore
from models.tables.monitoring import (
    AlertRow,
    DeploymentHealth,
    Heartbeat,
    MetricDay,
    MetricHour,
    MetricSample,
    MetricSeries,
    MetricState,
    MonitoringDeadLetter,
    PerformanceBaseline,
    PredictionRow,
    ProbeRow,
    ReportRow,
    ServiceDependency,
    ServiceHealthScore,
)

log = logging.getLogger("roas")

SERIES_LIMIT = 10_000
"""Most series an environment may have: a name with a changing part in it would fill any disk."""

_LATEST = timedelta(minutes=15)

_health = table(DeploymentHealth)
_dependencies = table(ServiceDependency)
_baselines = table(PerformanceBaseline)
_series = table(MetricSeries)
_samples = table(MetricSample)
_states = table(MetricState)
_alerts = table(AlertRow)
_scores = table(ServiceHealthScore)
_probes = table(ProbeRow)
_heartbeats = table(Heartbeat)
_predictions = table(PredictionRow)
_reports = table(ReportRow)
_health_report = TypeAdapter(HealthReport)


class Monitoring:
    """What monitoring saw and learnt. Every method raises StoreError where the store fails."""

    def __init__(self, database: Transacting) -> None:
        """Speak to one database."""
        self._database = database

    def record_health(self, report: HealthReport) -> None:
        """Record how an environment was judged. A report that is already there is left as it is."""
        with self._database.write() as connection:
            _put_health(connection, report)

    def health_history(
        self, environment: str | None = None, deployment_id: str | None = None, limit: int = 50
    ) -> list[HealthReport]:
        """The latest judgements, of one environment or one deployment where given; newest first."""
        query = sa.select(_health).order_by(_health.c.timestamp.desc(), _health.c.id.desc()).limit(limit)
        if environment is not None:
            query = query.where(_health.c.environment == environment)
        if deployment_id is not None:
            query = query.where(_health.c.deployment_id == deployment_id)
        with self._database.read() as connection:
            return [_to_report(row) for row in connection.execute(query)]

    def put_dependencies(self, environment: str, dependencies: Sequence[Dependency]) -> None:
        """Keep what an environment's services need; what is not named any more becomes inactive."""
        with self._database.write() as connection:
            _put_dependencies(connection, environment, dependencies)

    def dependencies(self, environment: str) -> list[Dependency]:
        """What an environment's services need, or once needed (inactive)."""
        query = sa.select(_dependencies).where(_dependencies.c.environment == environment)
        ordered = query.order_by(_dependencies.c.service_name, _dependencies.c.depends_on_service)
        with self._database.read() as connection:
            return [
                Dependency(
                    service=row.service,
                    depends_on=row.depends_on_service,
                    dependency_type=DependencyType(row.dependency_type),
                    health_impact=HealthImpact(row.health_impact),
                    status=DependencyStatus(row.status),
                    last_check=row.last_check,
                )
                for row in connection.execute(ordered)
            ]

    def put_baselines(self, environment: str, baselines: Sequence[Baseline]) -> None:
        """Keep what is usual; the time a baseline was first made stays."""
        with self._database.write() as connection:
            _put_baselines(connection, environment, baselines)

    def baselines(self, environment: str) -> list[Baseline]:
        """What is usual for each metric of each service."""
        query = sa.select(_baselines).where(_baselines.c.environment == environment)
        with self._database.read() as connection:
            return [
                Baseline(
                    service=row.service,
                    metric=row.metric_name,
                    value=row.baseline_value,
                    warning=row.threshold_warning,
                    critical=row.threshold_critical,
                    created_at=row.created_at,
                    updated_at=row.updated_at,
                    samples=row.samples or 0,
                )
                for row in connection.execute(query.order_by(_baselines.c.service_name, _baselines.c.metric_name))
            ]

    def add_metrics(self, metrics: Sequence[Metric]) -> int:
        """Add samples and tell how many were kept.

        Samples of new series beyond SERIES_LIMIT of an environment are refused: their names go to the
        dead letters, once each, and a warning is logged.

        Raises:
            StoreConstraintError: A value is no number, or infinite; none was added.
        """
        if not metrics:
            return 0
        for one in metrics:
            if not math.isfinite(one.value):
                raise StoreConstraintError(
                    f"Sample {one.environment}/{one.service}/{one.name} is {one.value};",
                    advice="leave out what could not be measured.",
                )
        with self._database.write() as connection:
            ids = series_ids(connection, {(one.environment, one.service, one.name) for one in metrics})
            rows = [
                {"ts": to_ms(one.sampled_at), "series": series, "value": one.value}
                for one in metrics
                if (series := ids.get((one.environment, one.service, one.name))) is not None
            ]
            upsert(connection, MetricSample, rows, keys=["ts", "series"])
        return len(rows)

    def series(
        self, environment: str, service: str, metric: str, since: datetime, until: datetime | None = None
    ) -> list[tuple[datetime, float]]:
        """The samples of one metric from `since` on and before `until`, oldest first."""
        query = (
            sa.select(_samples.c.ts, _samples.c.value)
            .join(_series, _series.c.id == _samples.c.series)
            .where(
                _series.c.environment == environment,
                _series.c.service == service,
                _series.c.metric == metric,
                _samples.c.ts >= to_ms(since),
            )
            .order_by(_samples.c.ts)
        )
        if until is not None:
            query = query.where(_samples.c.ts < to_ms(until))
        with self._database.read() as connection:
            return [(from_ms(row.ts), row.value) for row in connection.execute(query)]

    def summaries(
        self,
        environment: str,
        service: str,
        metric: str,
        since: datetime,
        until: datetime | None = None,
        *,
        daily: bool = False,
    ) -> list[MetricSummary]:
        """The hours (or days) of one metric from `since` on and before `until`, oldest first."""
        source = table(MetricDay if daily else MetricHour)
        query = (
            sa.select(source)
            .join(_series, _series.c.id == source.c.series)
            .where(
                _series.c.environment == environment,
                _series.c.service == service,
                _series.c.metric == metric,
                source.c.bucket >= to_ms(since),
            )
            .order_by(source.c.bucket)
        )
        if until is not None:
            query = query.where(source.c.bucket < to_ms(until))
        with self._database.read() as connection:
            found = connection.execute(query).all()
        summaries = []
        for row in found:
            sketch = Sketch.from_bytes(row.sketch)
            summaries.append(
                MetricSummary(
                    environment=environment,
                    service=service,
                    name=metric,
                    begins_at=from_ms(row.bucket),
                    count=row.n,
                    minimum=row.minimum,
                    maximum=row.maximum,
                    mean=row.total / row.n,
                    median=sketch.quantile(0.5),
                    p95=sketch.quantile(0.95),
                    p99=sketch.quantile(0.99),
                )
            )
        return summaries

    def latest(self, environment: str) -> list[Metric]:
        """The newest sample of each metric that has one within 15 minutes of the environment's newest."""
        with self._database.read() as connection:
            mine = sa.select(_series.c.id).where(_series.c.environment == environment)
            if connection.execute(mine.limit(1)).one_or_none() is None:
                return []
            newest = connection.scalar(
                sa.select(_samples.c.ts).where(_samples.c.series.in_(mine)).order_by(_samples.c.ts.desc()).limit(1)
            )
            if newest is None:
                return []
            place = sa.func.row_number().over(partition_by=_samples.c.series, order_by=_samples.c.ts.desc())
            recent = (
                sa.select(_samples, place.label("place"))
                .where(_samples.c.ts > newest - _LATEST // timedelta(milliseconds=1))
                .subquery()
            )
            found = connection.execute(
                sa.select(recent.c.ts, recent.c.value, _series.c.service, _series.c.metric)
                .join(_series, _series.c.id == recent.c.series)
                .where(recent.c.place == 1, _series.c.environment == environment)
                .order_by(_series.c.service, _series.c.metric)
            ).all()
        return [
            Metric(
                environment=environment,
                service=row.service,
                name=row.metric,
                value=row.value,
                sampled_at=from_ms(row.ts),
            )
            for row in found
        ]

    def put_states(self, environment: str, states: Mapping[tuple[str, str], bytes]) -> None:
        """Keep what detectors have learnt, by service and metric."""
        with self._database.write() as connection:
            _put_states(connection, environment, states)

    def put_round(
        self,
        environment: str,
        at: datetime,
        *,
        states: Mapping[tuple[str, str], bytes],
        baselines: Sequence[Baseline] = (),
        dependencies: Sequence[Dependency] | None = None,
        alerts: Sequence[Alert] = (),
        predictions: Sequence[Prediction] = (),
        scores: Sequence[RecordedScore] = (),
        health: HealthReport | None = None,
        expecting: datetime | EllipsisType | None = ...,
    ) -> bool:
        """Keep all that one round of monitoring found, or nothing; doing it twice is doing it once.

        `expecting` is the last round the caller knows of, None where it knows of none: where another one was kept
        since, this one was judged by what is no longer so, and False is given back. An alert somebody took stays
        taken unless it is resolved or has become critical since; dependencies of None are not known this time and
        stay as they are.
        """
        with self._database.write() as connection:
            name = f"collection/{environment}"
            if expecting is not ...:
                before = connection.scalar(sa.select(_heartbeats.c.beat_at).where(_heartbeats.c.name == name))
                if before not in (expecting, at):
                    return False
            if health is not None:
                _put_health(connection, health)
            _put_states(connection, environment, states)
            _put_baselines(connection, environment, baselines)
            if dependencies is not None:
                _put_dependencies(connection, environment, dependencies)
            for alert in alerts:
                _put_alert(connection, alert)
            rows = [_from_prediction(one) for one in predictions]
            upsert(connection, PredictionRow, rows, keys=["prediction_id"])
            if scores:
                connection.execute(sa.insert(_scores), [_from_score(one) for one in scores])
            upsert(connection, Heartbeat, {"name": name, "beat_at": at}, keys=["name"])
        return True

    def states(self, environment: str) -> dict[tuple[str, str], bytes]:
        """What detectors have learnt, by service and metric."""
        query = sa.select(_states).where(_states.c.environment == environment)
        with self._database.read() as connection:
            return {(row.service, row.metric): bytes(row.state) for row in connection.execute(query)}

    def open_alert(self, alert: Alert) -> None:
        """Record an alert. Doing it twice is doing it once."""
        with self._database.write() as connection:
            insert_unless_there(connection, AlertRow, _from_alert(alert), keys=["alert_id"])

    def update_alert(self, alert: Alert) -> bool:
        """Keep an alert as it is now; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_alerts)
                .where(_alerts.c.alert_id == alert.alert_id, _alerts.c.state != AlertState.RESOLVED.value)
                .values(**_from_alert(alert))
            )
            return done.rowcount == 1

    def resolve_alert(self, alert_id: str, at: datetime) -> bool:
        """Resolve an alert; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_alerts)
                .where(_alerts.c.alert_id == alert_id, _alerts.c.state != AlertState.RESOLVED.value)
                .values(state=AlertState.RESOLVED.value, resolved_at=at)
            )
            return done.rowcount == 1

    def acknowledge_alert(self, alert_id: str, at: datetime, note: str) -> bool:
        """A person takes an alert; False where it is unknown, resolved, or taken already."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_alerts)
                .where(_alerts.c.alert_id == alert_id, _alerts.c.state == AlertState.OPEN.value)
                .values(state=AlertState.ACKNOWLEDGED.value, acknowledged_at=at, note=note or None)
            )
            return done.rowcount == 1

    def open_alerts(self, environment: str) -> list[Alert]:
        """Every alert of an environment that is not resolved, oldest first."""
        query = sa.select(_alerts).where(
            _alerts.c.environment == environment, _alerts.c.state != AlertState.RESOLVED.value
        )
        with self._database.read() as connection:
            return [_to_alert(row) for row in connection.execute(query.order_by(_alerts.c.opened_at, _alerts.c.id))]

    def predictions(
        self, environment: str, outcome: PredictionOutcome | None = None, since: datetime | None = None
    ) -> list[Prediction]:
        """What was predicted, of one outcome and made since a moment where given; newest first."""
        query = sa.select(_predictions).where(_predictions.c.environment == environment)
        if outcome is not None:
            query = query.where(_predictions.c.outcome == outcome.value)
        if since is not None:
            query = query.where(_predictions.c.made_at >= since)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(_predictions.c.made_at.desc(), _predictions.c.id.desc()))
            return [_to_prediction(row) for row in found]

    def keep_report(self, environment: str, made_at: datetime, since: datetime, text: str) -> None:
        """Keep what a report said, in Markdown."""
        with self._database.write() as connection:
            values = {"environment": environment, "made_at": made_at, "since": since, "text": text}
            insert(connection, ReportRow, values)

    def last_report(self, environment: str) -> tuple[datetime, str] | None:
        """When the newest report was made, and what it said; None where there is none."""
        query = sa.select(_reports).where(_reports.c.environment == environment)
        newest = query.order_by(_reports.c.made_at.desc(), _reports.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(newest).one_or_none()
            return None if row is None else (row.made_at, row.text)

    def alerts(self, environment: str | None = None, state: AlertState | None = None, limit: int = 100) -> list[Alert]:
        """The latest alerts, newest first."""
        query = sa.select(_alerts).order_by(_alerts.c.opened_at.desc(), _alerts.c.id.desc()).limit(limit)
        if environment is not None:
            query = query.where(_alerts.c.environment == environment)
        if state is not None:
            query = query.where(_alerts.c.state == state.value)
        with self._database.read() as connection:
            return [_to_alert(row) for row in connection.execute(query)]

    def record_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Record what probes answered."""
        if not probes:
            return
        rows = [probe_row(one, environment) for one in probes]
        with self._database.write() as connection:
            connection.execute(sa.insert(_probes), rows)

    def probes(self, environment: str, service: str | None = None, limit: int = 100) -> list[ProbeResult]:
        """The latest probe answers, newest first."""
        query = sa.select(_probes).where(_probes.c.environment == environment)
        if service is not None:
            query = query.where(_probes.c.service == service)
        newest = query.order_by(_probes.c.checked_at.desc(), _probes.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                ProbeResult(
                    service=row.service,
                    kind=row.kind,
                    target=row.target,
                    ok=row.ok,
                    detail=row.detail,
                    checked_at=row.checked_at,
                    latency_ms=row.latency_ms,
                )
                for row in connection.execute(newest)
            ]

    def beat(self, name: str, now: datetime) -> None:
        """Something that should go on by itself is going on."""
        with self._database.write() as connection:
            upsert(connection, Heartbeat, {"name": name, "beat_at": now}, keys=["name"])

    def heartbeats(self) -> dict[str, datetime]:
        """When each was last seen going on."""
        with self._database.read() as connection:
            return {row.name: row.beat_at for row in connection.execute(sa.select(_heartbeats))}

    def record_score(self, score: RecordedScore) -> None:
        """Record a service's health score."""
        with self._database.write() as connection:
            insert(connection, ServiceHealthScore, _from_score(score))

    def latest_scores(self, environment: str) -> list[RecordedScore]:
        """The newest score of each service that has one within 15 minutes of the environment's newest."""
        recent = self.scores(environment, limit=1)
        if not recent:
            return []
        query = sa.select(_scores).where(
            _scores.c.environment == environment, _scores.c.timestamp > recent[0].scored_at - _LATEST
        )
        newest: dict[str, RecordedScore] = {}
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(_scores.c.timestamp, _scores.c.id)):
                newest[row.service] = _to_score(row)
        return [newest[name] for name in sorted(newest)]

    def scores(self, environment: str, service: str | None = None, limit: int = 100) -> list[RecordedScore]:
        """The latest scores, newest first."""
        query = sa.select(_scores).where(_scores.c.environment == environment)
        if service is not None:
            query = query.where(_scores.c.service == service)
        newest = query.order_by(_scores.c.timestamp.desc(), _scores.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_to_score(row) for row in connection.execute(newest)]


def probe_row(probe: ProbeResult, environment: str) -> dict[str, Any]:
    """The row of what a probe answered."""
    return {
        "checked_at": probe.checked_at,
        "environment": environment,
        "service": probe.service,
        "kind": probe.kind,
        "target": probe.target,
        "ok": probe.ok,
        "detail": probe.detail,
        "latency_ms": probe.latency_ms,
    }


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def from_ms(ms: int) -> datetime:
    """The moment of so many milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Key = tuple[str, str, str]


def series_ids(connection: sa.Connection, wanted: Iterable[_Key]) -> dict[_Key, int]:
    """The ids of series (environment, service, metric), made where they are new and the limit allows."""
    by_environment: dict[str, set[_Key]] = {}
    for key in wanted:
        by_environment.setdefault(key[0], set()).add(key)
    ids: dict[_Key, int] = {}
    for environment, keys in by_environment.items():
        known = _known_series(connection, environment)
        fresh = sorted(keys - known.keys())
        room = max(0, SERIES_LIMIT - len(known))
        if fresh[:room]:
            upsert(
                connection,
                MetricSeries,
                [{"environment": one[0], "service": one[1], "metric": one[2]} for one in fresh[:room]],
                keys=["environment", "service", "metric"],
            )
            known = _known_series(connection, environment)
        _refuse(connection, environment, fresh[room:])
        ids |= {key: known[key] for key in keys if key in known}
    return ids


def _known_series(connection: sa.Connection, environment: str) -> dict[_Key, int]:
    found = connection.execute(sa.select(_series).where(_series.c.environment == environment))
    return {(row.environment, row.service, row.metric): row.id for row in found}


def _refuse(connection: sa.Connection, environment: str, keys: Sequence[_Key]) -> None:
    if not keys:
        return
    letters = table(MonitoringDeadLetter)
    reason = f"environment {environment} has {SERIES_LIMIT} series already"
    target = _series.name
    if connection.scalar(sa.select(sa.exists().where(letters.c.target == target, letters.c.reason == reason))):
        return
    log.warning("%d new metrics refused: %s; the first is %s", len(keys), reason, "/".join(keys[0]))
    connection.execute(
        sa.insert(letters).values(
            buried_at=datetime.now(UTC),
            target=target,
            reason=reason,
            payload={"series": ["/".join(key) for key in keys[:100]]},
        )
    )


def _put_health(connection: sa.Connection, report: HealthReport) -> None:
    values = {
        "timestamp": report.checked_at,
        "deployment_id": report.deployment_id,
        "overall_health": report.overall.value,
        "services_total": len(report.services),
        "services_healthy": report.count(ServiceHealth.HEALTHY, ServiceHealth.COMPLETED),
        "services_degraded": report.count(
            ServiceHealth.DEGRADED, ServiceHealth.STARTING, ServiceHealth.UNPROVEN, ServiceHealth.UNKNOWN
        ),
        "services_unhealthy": report.count(ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED),
        "system_load_avg": report.system_load,
        "critical_alerts_count": report.critical_alerts,
        "environment": report.environment,
        "report": {"services": report.services, "findings": report.findings},
    }
    same = sa.exists().where(_health.c.environment == report.environment, _health.c.timestamp == report.checked_at)
    if not connection.scalar(sa.select(same)):
        insert(connection, DeploymentHealth, values)


def _to_report(row: sa.Row[Any]) -> HealthReport:
    details = row.report or {}
    return _health_report.validate_python(
        {
            "environment": row.environment or "",
            "overall": Health(row.overall_health),
            "checked_at": row.timestamp,
            "services": details.get("services", ()),
            "deployment_id": row.deployment_id,
            "system_load": row.system_load_avg,
            "critical_alerts": row.critical_alerts_count or 0,
            "findings": details.get("findings", ()),
        }
    )


def _from_alert(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "environment": alert.environment,
        "service": alert.service,
        "metric": alert.metric,
        "severity": alert.severity.value,
        "reason": alert.reason,
        "opened_at": alert.opened_at,
        "state": alert.state.value,
        "value": alert.value,
        "threshold": alert.threshold,
        "acknowledged_at": alert.acknowledged_at,
        "resolved_at": alert.resolved_at,
        "explained_by": alert.explained_by,
        "note": alert.note,
    }


def _put_alert(connection: sa.Connection, alert: Alert) -> None:
    if insert_unless_there(connection, AlertRow, _from_alert(alert), keys=["alert_id"]):
        return
    values = _from_alert(alert)
    # What a person wrote, and when, is the person's: a round knows of it only from the next time on.
    del values["note"], values["acknowledged_at"], values["opened_at"]
    here = sa.and_(_alerts.c.alert_id == alert.alert_id, _alerts.c.state != AlertState.RESOLVED.value)
    if alert.state is AlertState.RESOLVED:
        # It keeps what it was part of: the cause may be over already.
        del values["explained_by"]
    elif alert.state is AlertState.OPEN:
        # Taken meanwhile: it stays so, unless it is worse than what was taken.
        worse = sa.and_(_alerts.c.severity != alert.severity.value, sa.literal(alert.severity.value) == "critical")
        values["state"] = sa.case((worse, AlertState.OPEN.value), else_=_alerts.c.state)
    connection.execute(sa.update(_alerts).where(here).values(**values))


def _put_dependencies(connection: sa.Connection, environment: str, dependencies: Sequence[Dependency]) -> None:
    rows = [
        {
            "service_name": f"{environment}/{one.service}",
            "depends_on_service": one.depends_on,
            "dependency_type": one.dependency_type.value,
            "health_impact": one.health_impact.value,
            "last_check": one.last_check,
            "status": one.status.value,
            "environment": environment,
            "service": one.service,
        }
        for one in dependencies
    ]
    connection.execute(
        sa.update(_dependencies)
        .where(_dependencies.c.environment == environment)
        .values(status=DependencyStatus.INACTIVE.value)
    )
    upsert(connection, ServiceDependency, rows, keys=["service_name", "depends_on_service"])


def _put_baselines(connection: sa.Connection, environment: str, baselines: Sequence[Baseline]) -> None:
    rows = [
        {
            "service_name": f"{environment}/{one.service}",
            "metric_name": one.metric,
            "baseline_value": one.value,
            "threshold_warning": one.warning,
            "threshold_critical": one.critical,
            "created_at": one.created_at,
            "updated_at": one.updated_at,
            "environment": environment,
            "service": one.service,
            "samples": one.samples,
        }
        for one in baselines
    ]
    keys = ["service_name", "metric_name"]
    upsert(connection, PerformanceBaseline, rows, keys=keys, keep=["created_at"])


def _put_states(connection: sa.Connection, environment: str, states: Mapping[tuple[str, str], bytes]) -> None:
    rows = [
        {"environment": environment, "service": service, "metric": metric, "state": state}
        for (service, metric), state in states.items()
    ]
    upsert(connection, MetricState, rows, keys=["environment", "service", "metric"])


def _from_score(score: RecordedScore) -> dict[str, Any]:
    return {
        "timestamp": score.scored_at,
        "environment": score.environment,
        "service": score.service,
        "score": score.score,
        "grade": score.grade,
        "parts": score.parts or None,
        "suggestions": list(score.suggestions),
    }


def _to_score(row: sa.Row[Any]) -> RecordedScore:
    return RecordedScore(
        environment=row.environment,
        service=row.service,
        score=row.score,
        grade=row.grade,
        scored_at=row.timestamp,
        parts=row.parts or {},
        suggestions=tuple(row.suggestions or ()),
    )


def _from_prediction(prediction: Prediction) -> dict[str, Any]:
    return asdict(prediction) | {"outcome": prediction.outcome.value}


def _to_prediction(row: sa.Row[Any]) -> Prediction:
    values = dict(row._mapping)
    del values["id"]
    return Prediction(**values | {"outcome": PredictionOutcome(row.outcome)})


def _to_alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        alert_id=row.alert_id,
        environment=row.environment,
        service=row.service,
        metric=row.metric,
        severity=AlertSeverity(row.severity),
        reason=row.reason,
        opened_at=row.opened_at,
        state=AlertState(row.state),
        value=row.value,
        threshold=row.threshold,
        acknowledged_at=row.acknowledged_at,
        resolved_at=row.resolved_at,
        explained_by=row.explained_by,
        note=row.note,
    )
