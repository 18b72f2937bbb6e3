"""Baselines of metrics, and the states of the anomaly detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows
from adapters.stores.sql import table, upsert
from models.metrics import Baseline
from models.tables.monitoring import MetricState, PerformanceBaseline

_baselines = table(PerformanceBaseline)
_states = table(MetricState)
_rows = Rows(
    PerformanceBaseline,
    Baseline,
    metric="metric_name",
    value="baseline_value",
    warning="threshold_warning",
    critical="threshold_critical",
)


class Baselines(Repository):
    """Baselines of metrics, and the states of the anomaly detectors."""

    def all(self, environment: str) -> list[Baseline]:
        """The baseline of each metric of each service."""
        query = sa.select(_baselines).where(_baselines.c.environment == environment)
        ordered = query.order_by(_baselines.c.service_name, _baselines.c.metric_name)
        return [_rows.to_value(row) for row in self._all(ordered)]

    def states(self, environment: str) -> dict[tuple[str, str], bytes]:
        """What detectors have learnt, by service and metric."""
        found = self._all(sa.select(_states).where(_states.c.environment == environment))
        return {(row.service, row.metric): bytes(row.state) for row in found}


def put_baselines(connection: sa.Connection, environment: str, baselines: Sequence[Baseline]) -> None:
    """Insert or update baselines; the time one was created stays."""
    rows = [
        _rows.to_row(one, service_name=f"{environment}/{one.service}", environment=environment) for one in baselines
    ]
    keys = ["service_name", "metric_name"]
    upsert(connection, PerformanceBaseline, rows, keys=keys, keep=["created_at"])


def put_states(connection: sa.Connection, environment: str, states: Mapping[tuple[str, str], bytes]) -> None:
    """Insert or update the states of anomaly detectors, by service and metric."""
    rows = [
        {"environment": environment, "service": service, "metric": metric, "state": state}
        for (service, metric), state in states.items()
    ]
    upsert(connection, MetricState, rows, keys=["environment", "service", "metric"])
