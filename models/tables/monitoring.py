"""monitoring.db: health, metrics, baselines and alerts of services and their host."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

from models.tables.columns import (
    json_text,
    key_number,
    maybe_big,
    maybe_moment,
    maybe_number,
    maybe_real,
    maybe_text,
    moment,
    moment_now,
    number,
    one_of,
    raw,
    real,
    some_text,
    truth,
)
from models.tables.shared import Archive, DeadLetter, Numbered, SpoolPosition, Version, own_table

_KEYED = {"sqlite_with_rowid": False}


class MonitoringRow(SQLModel, registry=registry()):
    """A row of monitoring.db."""


class DeploymentHealth(Numbered, MonitoringRow, table=True):
    """An environment judged at one moment; `report` has the services and their reasons."""

    __tablename__ = "deployment_health_history"
    __table_args__ = (
        one_of("overall_health", "healthy", "degraded", "unhealthy"),
        sa.Index("idx_timestamp", "timestamp"),
        sa.Index("idx_deployment_id", "deployment_id"),
        sa.Index("idx_deployment_health_history_environment", "environment", "timestamp"),
    )
    timestamp: datetime | None = moment_now()
    deployment_id: str | None = maybe_text()
    overall_health: str = some_text()
    services_total: int | None = maybe_number()
    services_healthy: int | None = maybe_number()
    services_degraded: int | None = maybe_number()
    services_unhealthy: int | None = maybe_number()
    system_load_avg: float | None = maybe_real()
    critical_alerts_count: int | None = maybe_number()
    environment: str | None = maybe_text()
    report: dict[str, Any] | None = json_text()


class ServiceDependency(Numbered, MonitoringRow, table=True):
    """One service needs another. `service_name` is ENVIRONMENT/SERVICE, since names repeat elsewhere."""

    __tablename__ = "service_dependencies"
    __table_args__ = (
        one_of("dependency_type", "required", "optional", "performance"),
        one_of("health_impact", "critical", "moderate", "low"),
        one_of("status", "active", "inactive", "failed"),
        sa.UniqueConstraint("service_name", "depends_on_service"),
    )
    service_name: str = some_text()
    depends_on_service: str = some_text()
    dependency_type: str = some_text()
    health_impact: str = some_text()
    last_check: datetime | None = moment_now()
    status: str | None = maybe_text(default="active")
    environment: str | None = maybe_text()
    service: str | None = maybe_text()


class PerformanceBaseline(Numbered, MonitoringRow, table=True):
    """The baseline of one metric. `service_name` is ENVIRONMENT/SERVICE, since names repeat elsewhere."""

    __tablename__ = "performance_baselines"
    __table_args__ = (sa.UniqueConstraint("service_name", "metric_name"),)
    service_name: str = some_text()
    metric_name: str = some_text()
    baseline_value: float = real()
    threshold_warning: float | None = maybe_real()
    threshold_critical: float | None = maybe_real()
    created_at: datetime | None = moment_now()
    updated_at: datetime | None = moment_now()
    environment: str | None = maybe_text()
    service: str | None = maybe_text()
    samples: int | None = maybe_number(default=0)


class MetricSeries(Numbered, MonitoringRow, table=True):
    """One metric of one service; its samples carry only the id."""

    __tablename__ = "metric_series"
    __table_args__ = (sa.UniqueConstraint("environment", "service", "metric"),)
    environment: str = some_text()
    service: str = some_text()
    metric: str = some_text()


class MetricSample(MonitoringRow, table=True):
    """One number. `ts` is milliseconds since 1970; time leads the key, so new rows go to one end."""

    __tablename__ = "metric_samples"
    __table_args__ = (
        # A file has the environments of one host, and is read by time.
        sa.Index("idx_metric_samples_series", "series", "ts", info={"dialect": "postgresql"}).ddl_if("postgresql"),
        _KEYED,
    )
    ts: int = key_number()
    series: int = number(primary_key=True, autoincrement=False)
    value: float = real()


class MetricSums(SQLModel):
    """One hour or day of one metric. `bucket` is its begin, milliseconds since 1970; `sketch` gives percentiles."""

    __table_args__ = (_KEYED,)
    bucket: int = key_number()
    series: int = number(primary_key=True, autoincrement=False)
    n: int = number()
    minimum: float = real()
    maximum: float = real()
    total: float = real()
    p50: float | None = maybe_real()
    p95: float | None = maybe_real()
    p99: float | None = maybe_real()
    sketch: bytes = raw()


class MetricHour(MetricSums, MonitoringRow, table=True):
    """One hour of one metric."""

    __tablename__ = "metric_hours"


class MetricDay(MetricSums, MonitoringRow, table=True):
    """One day (UTC) of one metric."""

    __tablename__ = "metric_days"


class MetricState(MonitoringRow, table=True):
    """What a detector has learnt of one metric, in the detector's own bytes."""

    __tablename__ = "metric_states"
    environment: str = some_text(primary_key=True)
    service: str = some_text(primary_key=True)
    metric: str = some_text(primary_key=True)
    state: bytes = raw()


class AlertRow(Numbered, MonitoringRow, table=True):
    """Something a person should know."""

    __tablename__ = "alerts"
    __table_args__ = (
        one_of("severity", "info", "warning", "critical"),
        one_of("state", "open", "acknowledged", "resolved"),
        sa.Index("idx_alerts_state", "state", "environment"),
        sa.Index("idx_alerts_opened_at", "opened_at"),
    )
    alert_id: str = some_text(unique=True)
    environment: str = some_text()
    service: str = some_text()
    metric: str = some_text()
    severity: str = some_text()
    reason: str = some_text()
    opened_at: datetime = moment()
    state: str = some_text()
    value: float | None = maybe_real()
    threshold: float | None = maybe_real()
    acknowledged_at: datetime | None = maybe_moment()
    resolved_at: datetime | None = maybe_moment()
    explained_by: str | None = maybe_text()
    note: str | None = maybe_text()


class PredictionRow(Numbered, MonitoringRow, table=True):
    """A metric was said to pass a threshold, and what became of that."""

    __tablename__ = "predictions"
    __table_args__ = (
        one_of("outcome", "open", "hit", "miss", "averted"),
        sa.Index("idx_predictions_environment", "environment", "outcome"),
    )
    prediction_id: str = some_text(unique=True)
    environment: str = some_text()
    service: str = some_text()
    metric: str = some_text()
    value: float = real()
    threshold: float = real()
    falling: bool = truth()
    made_at: datetime = moment()
    expected: datetime = moment()
    earliest: datetime = moment()
    latest: datetime = moment()
    words: str = some_text()
    outcome: str = some_text()
    scored_at: datetime | None = maybe_moment()


class ReportRow(Numbered, MonitoringRow, table=True):
    """What the daily report of an environment said, as Markdown, of the time since a moment."""

    __tablename__ = "reports"
    __table_args__ = (sa.Index("idx_reports_environment", "environment", "made_at"),)
    environment: str = some_text()
    made_at: datetime = moment()
    since: datetime = moment()
    text: str = some_text()


class ServiceHealthScore(Numbered, MonitoringRow, table=True):
    """A service's health score (0-100) and what it was made of."""

    __tablename__ = "service_health_scores"
    __table_args__ = (
        sa.Index("idx_service_health_scores_service", "environment", "service", "timestamp"),
        sa.Index("idx_service_health_scores_timestamp", "timestamp"),
    )
    timestamp: datetime = moment()
    environment: str = some_text()
    service: str = some_text()
    score: float = real()
    grade: str = some_text()
    parts: dict[str, Any] | None = json_text()
    suggestions: list[str] | None = json_text()


class ProbeRow(Numbered, MonitoringRow, table=True):
    """What one probe answered. `latency_ms` is in milliseconds."""

    __tablename__ = "probe_results"
    __table_args__ = (
        sa.Index("idx_probe_results_checked_at", "checked_at"),
        sa.Index("idx_probe_results_service", "environment", "service", "checked_at"),
    )
    checked_at: datetime = moment()
    environment: str = some_text()
    service: str = some_text()
    kind: str = some_text()
    target: str = some_text()
    ok: bool = truth()
    detail: str = some_text()
    latency_ms: float | None = maybe_real()


class Heartbeat(MonitoringRow, table=True):
    """When something that should go on by itself was last seen going on."""

    __tablename__ = "heartbeats"
    name: str = some_text(primary_key=True)
    beat_at: datetime = moment()


class MonitoringArchive(Archive, MonitoringRow, table=True):
    """A file of rows taken out of this store. `bytes` is the file's size.

    Its samples before `deleted_to` (milliseconds since 1970) have left the store; where it is NULL, all have.
    """

    deleted_to: int | None = maybe_big()


MonitoringDeadLetter = own_table(DeadLetter, MonitoringRow)
for _kind in (SpoolPosition, Version):
    own_table(_kind, MonitoringRow)
