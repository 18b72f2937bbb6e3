"""Baselines of metrics, and the states of the anomaly detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.metrics import Baseline
from models.tables.monitoring import MetricState, PerformanceBaseline

_baselines = table(PerformanceBaseline)
_states = table(MetricState)


class Baselines(Repository):
    """Baselines of metrics, and the states of the anomaly detectors."""

    def put(self, environment: str, baselines: Sequence[Baseline]) -> None:
        """Insert or update baselines; the time one was created stays."""
        with self._database.write() as connection:
            put_baselines(connection, environment, baselines)

    def all(self, environment: str) -> list[Baseline]:
        """The baseline of each metric of each service."""
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

    def put_states(self, environment: str, states: Mapping[tuple[str, str], bytes]) -> None:
        """Keep what detectors have learnt, by service and metric."""
        with self._database.write() as connection:
            put_states(connection, environment, states)

    def states(self, environment: str) -> dict[tuple[str, str], bytes]:
        """What detectors have learnt, by service and metric."""
        query = sa.select(_states).where(_states.c.environment == environment)
        with self._database.read() as connection:
            return {(row.service, row.metric): bytes(row.state) for row in connection.execute(query)}


def put_baselines(connection: sa.Connection, environment: str, baselines: Sequence[Baseline]) -> None:
    """Insert or update baselines; the time one was created stays."""
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


def put_states(connection: sa.Connection, environment: str, states: Mapping[tuple[str, str], bytes]) -> None:
    """Insert or update the states of anomaly detectors, by service and metric."""
    rows = [
        {"environment": environment, "service": service, "metric": metric, "state": state}
        for (service, metric), state in states.items()
    ]
    upsert(connection, MetricState, rows, keys=["environment", "service", "metric"])
