"""Prometheus metrics from deployment_logs.db and errors.db."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import product
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.prometheus.hook_figures import hook_figures
from adapters.prometheus.host_figures import host_figures
from adapters.prometheus.latest_ends import LATEST, ended_operations, ended_recoveries
from adapters.prometheus.metric_families import Count, Labels, RowCounter
from adapters.prometheus.schedule_figures import schedule_figures
from adapters.prometheus.snapshot_figures import snapshot_figures
from adapters.prometheus.source_figures import source_figures
from adapters.prometheus.update_figures import UpdateFigures
from adapters.stores import Stores
from adapters.stores.repositories.repositories import Repositories
from adapters.stores.sql import table
from adapters.stores.transactions import Bound
from core.deployment.desired_state import should_run
from models.errors import Severity, Strategy
from models.operations import OperationStatus, OperationType
from models.recovery import TicketState
from models.tables.deployment_logs import DeploymentOperation
from models.tables.errors import DeploymentError, RecoveryExecutionRow, TicketRow

_OPERATION = ("environment", "operation_type", "status")
_RECOVERY = ("environment", "strategy", "success")
_ENDS = (OperationStatus.SUCCESS, OperationStatus.FAILED)
_WAITING_STATES = tuple(state for state in TicketState if state is not TicketState.RESOLVED)
_OUTCOMES = {True: "true", False: "false"}

_operations = table(DeploymentOperation)
_executions = table(RecoveryExecutionRow)
_errors = table(DeploymentError)
_tickets = table(TicketRow)


class OperationFigures:
    """Metrics of deployment_logs.db, with counters kept between scrapes. Not thread-safe."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._ended = RowCounter(
            _operations,
            _operations.c.id,
            kinds=[_operations.c.environment, _operations.c.operation_type, _operations.c.status],
            unfinished=_operations.c.status.in_([OperationStatus.PENDING.value, OperationStatus.RUNNING.value]),
            duration_ms=_operations.c.duration_ms,
        )
        self._updates = UpdateFigures()

    def read(self, now: datetime, environments: set[str]) -> list[Metric]:
        """Read every family, and add those found to `environments`. Raises StoreError if it cannot be read."""
        name = "deployment_logs"
        with self._stores.databases[name].read() as connection:
            self._ended.catch_up(connection)
            self._updates.catch_up(connection)
            environments |= {kind[0] for kind in (*self._ended.counts, *self._ended.unfinished)}
            # In one transaction: each of its own would take three more questions, for each environment.
            return self._families(Repositories({name: Bound(name, connection)}), environments)

    def _families(self, stores: Repositories, environments: set[str]) -> list[Metric]:
        recorded = stores.operations.latest_recorded_of_each(LATEST)
        # Export zeros too: Prometheus does not see the first increase of a new series.
        kinds = [*product(sorted(environments), OperationType, _ENDS)]
        totals = ((kind, (self._ended.counts.get(kind) or Count()).rows) for kind in kinds)
        took = "How long deployment operations took."
        return [
            families.counter("roas_operations", "Deployment operations that ended.", *_OPERATION, samples=totals),
            families.durations("roas_operation_duration_seconds", took, _OPERATION, self._ended.counts),
            families.full_gauge(
                "roas_operations_running",
                "Deployment operations that have not ended.",
                ("environment", "operation_type"),
                Counter(kind[:2] for kind in self._ended.unfinished),
                *(sorted(environments), OperationType),
            ),
            families.gauge(
                "roas_environment_wanted",
                "1 while an environment is meant to run: the operation that was wanted last is no stop.",
                "environment",
                samples=(((name,), should_run(operations)) for name, operations in sorted(recorded.items())),
            ),
            *ended_operations(recorded),
            *hook_figures(recorded),
            *self._updates.families(stores, environments),
            *snapshot_figures(stores),
            *schedule_figures(stores),
            *source_figures(recorded),
            *host_figures(stores),
        ]


class ErrorFigures:
    """Metrics of errors.db, with counters kept between scrapes. Not thread-safe."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._recoveries = RowCounter(
            _executions.join(_errors, _errors.c.error_id == _executions.c.error_id),
            _executions.c.id,
            kinds=[_errors.c.environment, _executions.c.recovery_strategy, _executions.c.success],
            unfinished=_executions.c.success.is_(None),
            duration_ms=families.milliseconds_between(_executions.c.execution_start, _executions.c.execution_end),
        )
        self._resolved = RowCounter(
            _errors,
            _errors.c.id,
            kinds=[_errors.c.environment, _errors.c.category],
            unfinished=_errors.c.resolved_at.is_(None),
            duration_ms=families.milliseconds_between(_errors.c.first_seen, _errors.c.resolved_at),
        )

    def read(self, now: datetime, environments: set[str]) -> list[Metric]:
        """Read every family, and add those found to `environments`. Raises StoreError if it cannot be read."""
        with self._stores.databases["errors"].read() as connection:
            self._recoveries.catch_up(connection)
            self._resolved.catch_up(connection)
            by_severity = _counts(
                connection, _errors.c.environment, _errors.c.severity, where=_errors.c.resolved_at.is_(None)
            )
            waiting = _tickets.c.state != TicketState.RESOLVED.value
            tickets = _counts(connection, _tickets.c.environment, _tickets.c.state, where=waiting)
            oldest = connection.execute(
                sa.select(_tickets.c.environment, sa.func.min(_tickets.c.opened_at))
                .where(waiting)
                .group_by(_tickets.c.environment)
            ).all()
            recoveries_ended = ended_recoveries(connection)
        environments |= {
            labels[0] for labels in (*by_severity, *tickets, *self._resolved.counts, *self._recoveries.counts)
        }
        names = sorted(environments)
        about = "When the oldest ticket that waits was opened."
        since = (((name,), at.timestamp()) for name, at in oldest)
        return [
            families.full_gauge(
                "roas_errors_open",
                "Errors that are not resolved.",
                ("environment", "severity"),
                by_severity,
                *(names, Severity),
            ),
            *self._metrics_of_errors(names),
            *self._metrics_of_recoveries(names),
            recoveries_ended,
            families.full_gauge(
                "roas_tickets_open",
                "Tickets that wait for a person.",
                ("environment", "state"),
                tickets,
                *(names, _WAITING_STATES),
            ),
            families.gauge("roas_ticket_oldest_timestamp_seconds", about, "environment", samples=since),
            families.one_value(
                "roas_recovery_pauses",
                "Switches that keep automatic recovery off now.",
                len(self._stores.pauses.active(now)),
            ),
        ]

    def _metrics_of_errors(self, names: Iterable[str]) -> list[Metric]:
        still_open, about = sorted(Counter(self._resolved.unfinished).items()), "Unresolved errors by their cause."
        resolved = _together(self._resolved.counts, lambda kind: (kind[0],))
        return [
            families.gauge("roas_error_causes_open", about, "environment", "category", samples=still_open),
            families.durations(
                "roas_error_duration_seconds",
                "How long errors that are resolved were open: its mean is the mean time to repair.",
                ("environment",),
                resolved,
                [(name,) for name in names],
            ),
        ]

    def _metrics_of_recoveries(self, names: Iterable[str]) -> list[Metric]:
        automatic, counts = [strategy for strategy in Strategy if strategy.automatic], self._recoveries.counts
        totals = (
            ((kind[0], kind[1], _OUTCOMES[kind[2]]), (counts.get(kind) or Count()).rows)
            for kind in sorted({*product(names, automatic, _OUTCOMES), *counts})
        )
        return [
            families.counter("roas_recoveries", "Recoveries that ended.", *_RECOVERY, samples=totals),
            families.durations(
                "roas_recovery_duration_seconds",
                "How long recoveries took.",
                ("environment", "success"),
                _together(counts, lambda kind: (kind[0], _OUTCOMES[kind[2]])),
            ),
        ]


def _counts(
    connection: sa.Connection, *columns: sa.ColumnElement[Any], where: sa.ColumnElement[bool]
) -> dict[Labels, int]:
    query = sa.select(*columns, sa.func.count()).where(where).group_by(*columns)
    return {tuple(labels): number for *labels, number in connection.execute(query)}


def _together(counts: Mapping[Labels, Count], to: Callable[[tuple[Any, ...]], Labels]) -> dict[Labels, Count]:
    """Sum the counts of kinds with the same labels."""
    summed: dict[Labels, Count] = {}
    for kind, count in counts.items():
        total = summed.setdefault(to(kind), Count())
        total.rows += count.rows
        total.seconds += count.seconds
        total.by_duration = [a + b for a, b in zip(total.by_duration, count.by_duration, strict=True)]
    return summed
