"""Rows of the stores that the product writes as a part of something larger, or leaves to other programs to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.stores import Stores, Together
from adapters.stores.repositories.evaluations import put_alert, put_baselines, put_dependencies
from adapters.stores.repositories.health import score_rows
from adapters.stores.repositories.metrics import from_ms, to_ms
from adapters.stores.sql import insert, table
from models.health import RecordedScore
from models.metrics import Alert, Baseline, Dependency
from models.tables.monitoring import ProbeRow, ServiceHealthScore


def all_or_none(stores: Stores, parts: Sequence[Callable[[Together], object]]) -> list[object]:
    """What each part returned, carried out in one transaction over the stores."""
    with stores.together() as one:
        return [part(one) for part in parts]


def set_aside(stores: Stores) -> list[Path]:
    """Damaged files that this process moved out of the way."""
    return [path for database in stores.databases.values() for path in database.set_aside]


def put_alerts(stores: Stores, *alerts: Alert) -> None:
    with stores.databases["monitoring"].write() as connection:
        for alert in alerts:
            put_alert(connection, alert)


def put_score(stores: Stores | Together, score: RecordedScore) -> None:
    with stores.databases["monitoring"].write() as connection:
        insert(connection, ServiceHealthScore, score_rows.to_row(score))


def put_usual(stores: Stores, environment: str, baselines: Sequence[Baseline]) -> None:
    with stores.databases["monitoring"].write() as connection:
        put_baselines(connection, environment, baselines)


def put_needs(stores: Stores, environment: str, dependencies: Sequence[Dependency]) -> None:
    with stores.databases["monitoring"].write() as connection:
        put_dependencies(connection, environment, dependencies)


def sums(stores: Stores, view: str, service: str, since: datetime) -> Sequence[sa.Row[Any]]:
    """Rows of metrics_by_hour or metrics_by_day of a service's only metric, oldest first."""
    query = sa.text(f"SELECT * FROM {view} WHERE service = :service ORDER BY timestamp")
    with stores.databases["monitoring"].read() as connection:
        rows = connection.execute(query, {"service": service}).all()
    return [row for row in rows if str(row.timestamp) >= f"{since:%Y-%m-%d %H:%M:%S}"]


def series(
    stores: Stores | Together,
    environment: str,
    service: str,
    metric: str,
    since: datetime,
    until: datetime | None = None,
) -> list[tuple[datetime, float]]:
    """Time and value of the samples of one metric from `since` on and before `until`, oldest first."""
    query = sa.text(
        "SELECT s.ts, s.value FROM metric_samples s JOIN metric_series m ON m.id = s.series WHERE m.environment = :e "
        "AND m.service = :s AND m.metric = :m AND s.ts >= :since AND s.ts < :until ORDER BY s.ts"
    )
    given = {
        "e": environment,
        "s": service,
        "m": metric,
        "since": to_ms(since),
        "until": to_ms(until) if until else 2**62,
    }
    with stores.databases["monitoring"].read() as connection:
        return [(from_ms(row.ts), row.value) for row in connection.execute(query, given)]


def probe_rows(stores: Stores) -> list[dict[str, Any]]:
    """Every recorded answer of a probe, oldest first."""
    with stores.databases["monitoring"].read() as connection:
        query = sa.select(table(ProbeRow)).order_by(table(ProbeRow).c.checked_at, table(ProbeRow).c.id)
        return [dict(row._mapping) for row in connection.execute(query)]
