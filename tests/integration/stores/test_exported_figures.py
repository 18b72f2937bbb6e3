"""What the exporter reads is the same, whichever database the stores lie in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from adapters.prometheus.monitoring_figures import MonitoringFigures
from adapters.prometheus.record_figures import ErrorFigures, OperationFigures
from adapters.stores import Stores
from adapters.stores.check import backlog
from models.metrics import Alert, AlertSeverity, AlertState, Metric
from tests.support.store_rows import put_alerts

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
CPU = Metric(environment="prod", service="bot", name="cpu_usage", value=50, sampled_at=NOON)
ALERT = Alert(
    alert_id="a1",
    environment="prod",
    service="bot",
    metric="cpu_usage",
    severity=AlertSeverity.WARNING,
    reason="CPU 93 %",
    opened_at=NOON,
)


def test_every_store_is_read_and_times_are_reported_to_the_millisecond(stores: Stores) -> None:
    stores.metrics.add([CPU])
    put_alerts(stores, ALERT)
    put_alerts(
        stores, replace(ALERT, state=AlertState.RESOLVED, resolved_at=NOON + timedelta(seconds=2, milliseconds=5))
    )
    known = {"prod"}
    families = [
        *MonitoringFigures(stores).read(NOON, known, {}),
        *OperationFigures(stores).read(NOON, known),
        *ErrorFigures(stores).read(NOON, known),
    ]
    shown = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("severity", "warning") == "warning"
    }
    assert shown["roas_service_cpu_ratio"] == 0.5
    assert shown["roas_alert_duration_seconds_sum"] == 2.005
    assert {backlog(stores, one).waiting_bytes for one in stores.databases.values()} == {0}
