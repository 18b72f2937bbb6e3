"""Alerts: opened, acknowledged, resolved."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows, newest
from adapters.stores.sql import insert_unless_there, table
from models.metrics import Alert, AlertState
from models.tables.monitoring import AlertRow

_alerts = table(AlertRow)
_rows = Rows(AlertRow, Alert)
_unresolved = _alerts.c.state != AlertState.RESOLVED.value


class Alerts(Repository):
    """Alerts."""

    def acknowledge(self, alert_id: str, at: datetime, note: str) -> bool:
        """A person takes an alert; False where it is unknown, resolved, or taken already."""
        return self._change(
            sa.update(_alerts)
            .where(_alerts.c.alert_id == alert_id, _alerts.c.state == AlertState.OPEN.value)
            .values(state=AlertState.ACKNOWLEDGED.value, acknowledged_at=at, note=note or None)
        )

    def unresolved(self, environment: str) -> list[Alert]:
        """Every alert of an environment that is not resolved, oldest first."""
        query = sa.select(_alerts).where(_alerts.c.environment == environment, _unresolved)
        return [_rows.to_value(row) for row in self._all(query.order_by(_alerts.c.opened_at, _alerts.c.id))]

    def latest(self, environment: str | None = None, state: AlertState | None = None, limit: int = 100) -> list[Alert]:
        """The latest alerts, newest first."""
        query = newest(_alerts, "opened_at", environment=environment, state=state)
        return [_rows.to_value(row) for row in self._all(query.limit(limit))]


def put_alert(connection: sa.Connection, alert: Alert) -> None:
    """Insert an alert or update an unresolved one, keeping what a user wrote to it meanwhile."""
    values = _rows.to_row(alert)
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
