"""The latest operations and recoveries that ended, one series each: annotations and links of dashboards need them.

Their labels are identifiers, so each new one is a new series. What is exported at a time is bounded by LATEST.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.prometheus.metric_families import Labels
from adapters.stores.sql import table
from models.operations import Operation
from models.tables.errors import DeploymentError, RecoveryExecutionRow

LATEST = 20
"""How many ended operations, and how many recoveries, are shown of each environment."""

_RECOVERIES_READ = 500
_OPERATION = ("environment", "operation_type", "status", "release", "rollback_to", "deployment_id", "flow_run_id")
_RECOVERY = ("environment", "service", "strategy", "category", "success", "error_id", "attempt_id", "flow_run_id")

_executions = table(RecoveryExecutionRow)
_errors = table(DeploymentError)


def ended_operations(latest: Mapping[str, Sequence[Operation]]) -> list[Metric]:
    """When the latest operations of each environment ended and how long they took, from those recorded, newest first.

    `release` is the release that was kept, `rollback_to` the one that was applied again, on request or because the
    operation failed.
    """
    ends: list[tuple[Labels, float]] = []
    took: list[tuple[Labels, float]] = []
    for _, operations in sorted(latest.items()):
        for operation in operations[:LATEST]:
            if operation.ended_at is not None:
                labels = _labels(operation)
                ends.append((labels, operation.ended_at.timestamp()))
                took.append((labels, (operation.ended_at - operation.started_at).total_seconds()))
    about = f"When one of the latest {LATEST} operations of an environment but health checks ended, in Unix time."
    return [
        families.gauge("roas_operation_ended_timestamp_seconds", about, *_OPERATION, samples=ends),
        families.gauge("roas_operation_took_seconds", "How long such an operation took.", *_OPERATION, samples=took),
    ]


def ended_recoveries(connection: sa.Connection) -> Metric:
    """When the latest recoveries of each environment ended, of the latest ones of all environments."""
    query = (
        sa.select(
            *(_errors.c.environment, _errors.c.service_name, _errors.c.category, _errors.c.error_id),
            *(_executions.c.id, _executions.c.recovery_strategy, _executions.c.success, _executions.c.attempt_id),
            *(_executions.c.execution_end, _executions.c.details),
        )
        .select_from(_executions.join(_errors, _errors.c.error_id == _executions.c.error_id))
        .where(_executions.c.execution_end.is_not(None))
        .order_by(_executions.c.id.desc())
        .limit(_RECOVERIES_READ)
    )
    return families.gauge(
        "roas_recovery_ended_timestamp_seconds",
        f"When one of the latest {LATEST} recoveries of an environment ended, in Unix time.",
        *_RECOVERY,
        samples=_newest_of_each(connection.execute(query)),
    )


def _newest_of_each(rows: Iterable[sa.Row[Any]]) -> list[tuple[Labels, float]]:
    shown: Counter[str] = Counter()
    ends: list[tuple[Labels, float]] = []
    for row in rows:
        shown[row.environment] += 1
        if shown[row.environment] <= LATEST:
            runner = (row.details or {}).get("runner") or {}
            labels = (
                *(row.environment, row.service_name or "", row.recovery_strategy, row.category),
                *("true" if row.success else "false", row.error_id, row.attempt_id or str(row.id)),
                str(runner.get("flow_run_id") or ""),
            )
            ends.append((labels, row.execution_end.timestamp()))
    return ends


def _labels(operation: Operation) -> Labels:
    record = operation.record
    return (
        *(operation.environment, operation.kind, operation.status),
        *(record.release, record.rollback_to or record.rolled_back_to),
        *(operation.deployment_id, record.flow_run_id),
    )
