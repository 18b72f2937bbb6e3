"""Alerts: opened, acknowledged, resolved."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import insert_unless_there, table
from models.metrics import Alert, AlertSeverity, AlertState
from models.tables.monitoring import AlertRow

_alerts = table(AlertRow)


class Alerts(Repository):
    """Alerts."""

    def open(self, alert: Alert) -> None:
        """Record an alert. Doing it twice is doing it once."""
        with self._database.write() as connection:
            insert_unless_there(connection, AlertRow, _from_alert(alert), keys=["alert_id"])

    def update(self, alert: Alert) -> bool:
        """Keep an alert as it is now; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_alerts)
                .where(_alerts.c.alert_id == alert.alert_id, _alerts.c.state != AlertState.RESOLVED.value)
                .values(**_from_alert(alert))
            )
            return done.rowcount == 1

    def resolve(self, alert_id: str, at: datetime) -> bool:
        """Resolve an alert; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_alerts)
                .where(_alerts.c.alert_id == alert_id, _alerts.c.state != AlertState.RESOLVED.value)
                .values(state=AlertState.RESOLVED.value, resolved_at=at)
            )
            return done.rowcount == 1

    def acknowledge(self, alert_id: str, at: datetime, note: str) -> bool:
        """A person takes an alert; False where it is unknown, resolved, or taken already."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_alerts)
                .where(_alerts.c.alert_id == alert_id, _alerts.c.state == AlertState.OPEN.value)
                .values(state=AlertState.ACKNOWLEDGED.value, acknowledged_at=at, note=note or None)
            )
            return done.rowcount == 1

    def unresolved(self, environment: str) -> list[Alert]:
        """Every alert of an environment that is not resolved, oldest first."""
        query = sa.select(_alerts).where(
            _alerts.c.environment == environment, _alerts.c.state != AlertState.RESOLVED.value
        )
        with self._database.read() as connection:
            return [_to_alert(row) for row in connection.execute(query.order_by(_alerts.c.opened_at, _alerts.c.id))]

    def latest(self, environment: str | None = None, state: AlertState | None = None, limit: int = 100) -> list[Alert]:
        """The latest alerts, newest first."""
        query = sa.select(_alerts).order_by(_alerts.c.opened_at.desc(), _alerts.c.id.desc()).limit(limit)
        if environment is not None:
            query = query.where(_alerts.c.environment == environment)
        if state is not None:
            query = query.where(_alerts.c.state == state.value)
        with self._database.read() as connection:
            return [_to_alert(row) for row in connection.execute(query)]


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


def put_alert(connection: sa.Connection, alert: Alert) -> None:
    """Insert an alert or update an unresolved one, keeping what a user wrote to it meanwhile."""
    values = _from_alert(alert)
    if insert_unless_there(connection, AlertRow, values, keys=["alert_id"]):
        return
    # The user's note and acknowledgement may be newer than this evaluation.
    del values["note"], values["acknowledged_at"], values["opened_at"]
    here = sa.and_(_alerts.c.alert_id == alert.alert_id, _alerts.c.state != AlertState.RESOLVED.value)
    if alert.state is AlertState.RESOLVED:
        # It keeps its root cause, which may be resolved already.
        del values["explained_by"]
    elif alert.state is AlertState.OPEN:
        # Acknowledged meanwhile: it stays so, unless it became critical since.
        worse = sa.and_(_alerts.c.severity != alert.severity.value, sa.literal(alert.severity.value) == "critical")
        values["state"] = sa.case((worse, AlertState.OPEN.value), else_=_alerts.c.state)
    connection.execute(sa.update(_alerts).where(here).values(**values))


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
