"""Results of monitoring evaluations: alerts, baselines, dependencies, predictions, heartbeats; daily reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import EllipsisType
from typing import TYPE_CHECKING

import sqlalchemy as sa

from adapters.stores.repositories.health import put_health, score_rows
from adapters.stores.repositories.repository import Repository, Rows, equals_given, newest
from adapters.stores.sql import insert, insert_unless_there, table, upsert
from models.metrics import Alert, AlertState, Baseline, Dependency, DependencyStatus, Prediction, PredictionOutcome
from models.tables.monitoring import (
    AlertRow,
    Heartbeat,
    MetricState,
    PerformanceBaseline,
    PredictionRow,
    ReportRow,
    ServiceDependency,
    ServiceHealthScore,
)

if TYPE_CHECKING:
    from models.records import EvaluationRecord

_scores = table(ServiceHealthScore)
_heartbeats = table(Heartbeat)
_predictions = table(PredictionRow)
_baselines = table(PerformanceBaseline)
_states = table(MetricState)
_dependencies = table(ServiceDependency)
_prediction_rows = Rows(PredictionRow, Prediction)
_baseline_rows = Rows(
    PerformanceBaseline,
    Baseline,
    metric="metric_name",
    value="baseline_value",
    warning="threshold_warning",
    critical="threshold_critical",
)
_need_rows = Rows(ServiceDependency, Dependency, depends_on="depends_on_service")
_alerts = table(AlertRow)
_alert_rows = Rows(AlertRow, Alert)
_unresolved = _alerts.c.state != AlertState.RESOLVED.value


class Evaluations(Repository):
    """Results of monitoring evaluations."""

    def record(self, result: EvaluationRecord, *, expecting: datetime | EllipsisType | None = ...) -> bool:
        """Record all that one evaluation found, or nothing. Repeating it changes nothing.

        `expecting` is the time of the evaluation this one was based on, None for no earlier one. Returns False
        where another one was recorded since. An acknowledged alert stays acknowledged unless it is resolved or
        has become critical.
        """
        environment = result.environment
        name = f"collection/{environment}"
        with self._database.write() as connection:
            if expecting is not ...:
                before = connection.scalar(sa.select(_heartbeats.c.beat_at).where(_heartbeats.c.name == name))
                if before not in (expecting, result.evaluated_at):
                    return False
            if result.health is not None:
                put_health(connection, result.health)
            states = [
                {"environment": environment, "service": service, "metric": metric, "state": state}
                for (service, metric), state in result.states.items()
            ]
            upsert(connection, MetricState, states, keys=["environment", "service", "metric"])
            put_baselines(connection, environment, result.baselines)
            if result.dependencies is not None:
                put_dependencies(connection, environment, result.dependencies)
            for alert in result.alerts:
                put_alert(connection, alert)
            predictions = [_prediction_rows.to_row(prediction) for prediction in result.predictions]
            upsert(connection, PredictionRow, predictions, keys=["prediction_id"])
            if result.scores:
                connection.execute(
                    sa.insert(_scores), [score_rows.to_row(score, parts=score.parts or None) for score in result.scores]
                )
            upsert(connection, Heartbeat, {"name": name, "beat_at": result.evaluated_at}, keys=["name"])
        return True

    def predictions(
        self, environment: str | None = None, outcome: PredictionOutcome | None = None, since: datetime | None = None
    ) -> list[Prediction]:
        """Predictions, optionally of one environment, of one outcome or made since a time, newest first."""
        query = newest(_predictions, "made_at", environment=environment, outcome=outcome, since=since)
        return [_prediction_rows.to_value(row) for row in self._all(query)]


class Baselines(Repository):
    """Baselines of metrics, and the states of the anomaly detectors."""

    def all(self, environment: str) -> list[Baseline]:
        """The baseline of each metric of each service."""
        query = sa.select(_baselines).where(_baselines.c.environment == environment)
        ordered = query.order_by(_baselines.c.service_name, _baselines.c.metric_name)
        return [_baseline_rows.to_value(row) for row in self._all(ordered)]

    def states(self, environment: str) -> dict[tuple[str, str], bytes]:
        """What detectors have learnt, by service and metric."""
        rows = self._all(sa.select(_states).where(_states.c.environment == environment))
        return {(row.service, row.metric): bytes(row.state) for row in rows}


class Dependencies(Repository):
    """Dependencies between services."""

    def all(self, environment: str) -> list[Dependency]:
        """What an environment's services need, or once needed (inactive)."""
        query = sa.select(_dependencies).where(_dependencies.c.environment == environment)
        ordered = query.order_by(_dependencies.c.service_name, _dependencies.c.depends_on_service)
        return [_need_rows.to_value(row) for row in self._all(ordered)]


class Heartbeats(Repository):
    """Heartbeats of processes and evaluations."""

    def beat(self, name: str, now: datetime) -> None:
        """Something that should go on by itself is going on."""
        with self._database.write() as connection:
            upsert(connection, Heartbeat, {"name": name, "beat_at": now}, keys=["name"])

    def last_beat(self, name: str) -> datetime | None:
        """When one was last seen going on; None where it never was."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_heartbeats.c.beat_at).where(_heartbeats.c.name == name))

    def all(self) -> dict[str, datetime]:
        """When each was last seen going on, of all hosts."""
        return {row.name: row.beat_at for row in self._all(sa.select(_heartbeats))}


def put_baselines(connection: sa.Connection, environment: str, baselines: Sequence[Baseline]) -> None:
    """Insert or update baselines; the time one was created stays."""
    rows = [
        _baseline_rows.to_row(baseline, service_name=f"{environment}/{baseline.service}", environment=environment)
        for baseline in baselines
    ]
    keys = ["service_name", "metric_name"]
    upsert(connection, PerformanceBaseline, rows, keys=keys, keep=["created_at"])


def put_dependencies(connection: sa.Connection, environment: str, dependencies: Sequence[Dependency]) -> None:
    """Insert or update dependencies; those not named become inactive."""
    rows = [
        _need_rows.to_row(dependency, service_name=f"{environment}/{dependency.service}", environment=environment)
        for dependency in dependencies
    ]
    inactive = sa.update(_dependencies).values(status=DependencyStatus.INACTIVE.value)
    connection.execute(inactive.where(_dependencies.c.environment == environment))
    upsert(connection, ServiceDependency, rows, keys=["service_name", "depends_on_service"])


class Alerts(Repository):
    """Alerts."""

    def acknowledge(self, alert_id: str, at: datetime, note: str) -> bool:
        """A person takes an alert; False where it is unknown, resolved, or taken already."""
        return self._change(
            sa.update(_alerts)
            .where(_alerts.c.alert_id == alert_id, _alerts.c.state == AlertState.OPEN.value)
            .values(state=AlertState.ACKNOWLEDGED.value, acknowledged_at=at, note=note or None)
        )

    def list_unresolved(self, environment: str | None = None) -> list[Alert]:
        """Every alert that is not resolved, of one environment or of all, oldest first."""
        query = sa.select(_alerts).where(*equals_given(_alerts, environment=environment), _unresolved)
        return [_alert_rows.to_value(row) for row in self._all(query.order_by(_alerts.c.opened_at, _alerts.c.id))]

    def count_unresolved(self) -> dict[str, int]:
        """The number of alerts that are not resolved, by environment."""
        listed = [state.value for state in AlertState if state is not AlertState.RESOLVED]
        query = sa.select(_alerts.c.environment, sa.func.count().label("total")).where(_alerts.c.state.in_(listed))
        return {row.environment: row.total for row in self._all(query.group_by(_alerts.c.environment))}

    def latest(self, environment: str | None = None, state: AlertState | None = None, limit: int = 100) -> list[Alert]:
        """The latest alerts, newest first."""
        query = newest(_alerts, "opened_at", environment=environment, state=state)
        return [_alert_rows.to_value(row) for row in self._all(query.limit(limit))]


def put_alert(connection: sa.Connection, alert: Alert) -> None:
    """Insert an alert or update an unresolved one, keeping what a user wrote to it meanwhile."""
    values = _alert_rows.to_row(alert)
    if insert_unless_there(connection, AlertRow, values, keys=["alert_id"]):
        return
    # The user's note and acknowledgement may be newer than this evaluation.
    del values["note"], values["acknowledged_at"], values["opened_at"]
    if alert.state is AlertState.RESOLVED:
        # It keeps its root cause, which may be resolved already.
        del values["explained_by"]
    elif alert.state is AlertState.OPEN:
        # Acknowledged meanwhile: it stays so, unless it became critical since.
        worse = sa.and_(_alerts.c.severity != alert.severity.value, sa.literal(alert.severity.value) == "critical")
        values["state"] = sa.case((worse, AlertState.OPEN.value), else_=_alerts.c.state)
    connection.execute(sa.update(_alerts).where(_alerts.c.alert_id == alert.alert_id, _unresolved).values(**values))


class Reports(Repository):
    """Daily reports as Markdown."""

    def keep(self, environment: str, made_at: datetime, since: datetime, text: str) -> None:
        """Keep what a report said, in Markdown."""
        with self._database.write() as connection:
            values = {"environment": environment, "made_at": made_at, "since": since, "text": text}
            insert(connection, ReportRow, values)
