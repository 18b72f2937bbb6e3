"""Recovery attempts: what was executed for an error, and with which result."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table
from models.errors import Category, Strategy
from models.operations import Runner
from models.recovery import PlannedStep, RecoveryExecution, Step
from models.tables.errors import DeploymentError, RecoveryExecutionRow

_errors = table(DeploymentError)
_executions = table(RecoveryExecutionRow)
_steps = TypeAdapter(tuple[Step, ...])
_planned = TypeAdapter(tuple[PlannedStep, ...])


class Recoveries(Repository):
    """Recovery attempts."""

    def begin(self, execution: RecoveryExecution) -> int:
        """Record that a recovery begins; the number returned is for finishing it. One attempt begins once.

        Raises:
            StoreConstraintError: No error has this id.
        """
        with self._database.write() as connection:
            same = sa.select(_executions.c.id).where(_executions.c.attempt_id == execution.attempt_id)
            if execution.attempt_id is not None and (known := connection.scalar(same)) is not None:
                return int(known)
            done = connection.execute(sa.insert(_executions).values(**_from_execution(execution)))
            key = done.inserted_primary_key
            if key is None:
                raise RuntimeError("an insert gave no key")
            return int(key[0])

    def finish(self, execution_id: int, execution: RecoveryExecution) -> bool:
        """Record how a recovery went; False where no recovery has this number."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_executions).where(_executions.c.id == execution_id).values(**_from_execution(execution))
            )
            return done.rowcount == 1

    def update(self, execution: RecoveryExecution) -> bool:
        """Write how an attempt stands, by its own id; False where it has not begun."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_executions)
                .where(_executions.c.attempt_id == execution.attempt_id)
                .values(**_from_execution(execution))
            )
            return done.rowcount == 1

    def end_interrupted(self, begun_before: datetime, now: datetime) -> int:
        """End the recoveries that began before this and never ended: as failed, interrupted. Tells how many."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_executions)
                .where(_executions.c.execution_end.is_(None), _executions.c.execution_start < begun_before)
                .values(
                    execution_end=now,
                    success=False,
                    final_status="interrupted: its runner is gone",
                    manual_intervention_required=True,
                )
            )
            return done.rowcount

    def find(
        self,
        error_id: str | None = None,
        environment: str | None = None,
        service: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[RecoveryExecution]:
        """Recoveries that were tried, oldest first."""
        query = sa.select(_executions, _errors.c.environment, _errors.c.service_name).join(
            _errors, _errors.c.error_id == _executions.c.error_id
        )
        if error_id is not None:
            query = query.where(_executions.c.error_id == error_id)
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        if service is not None:
            query = query.where(_errors.c.service_name == service)
        if since is not None:
            query = query.where(_executions.c.execution_start >= since)
        with self._database.read() as connection:
            ordered = query.order_by(_executions.c.execution_start, _executions.c.id)
            return [_to_execution(row) for row in connection.execute(ordered)]

    def durations(self, environment: str, category: Category, limit: int = 20) -> Sequence[float]:
        """How many seconds the latest recoveries of a category took, from the first sight to the proof."""
        query = (
            sa.select(_executions.c.detected_at, _executions.c.verified_at)
            .join(_errors, _errors.c.error_id == _executions.c.error_id)
            .where(_errors.c.environment == environment, _errors.c.category == category.value)
            .where(_executions.c.detected_at.is_not(None), _executions.c.verified_at.is_not(None))
            .order_by(_executions.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(row.verified_at - row.detected_at).total_seconds() for row in connection.execute(query)]


def _from_execution(execution: RecoveryExecution) -> dict[str, Any]:
    return {
        "error_id": execution.error_id,
        "recovery_strategy": execution.strategy.value,
        "execution_start": execution.started_at,
        "execution_end": execution.ended_at,
        "success": execution.success,
        "steps_executed": list(execution.steps),
        "final_status": execution.final_status,
        "manual_intervention_required": execution.manual_intervention_required,
        "attempt_id": execution.attempt_id,
        "detected_at": execution.detected_at,
        "diagnosed_at": execution.diagnosed_at,
        "acted_at": execution.acted_at,
        "verified_at": execution.verified_at,
        "details": {
            "attempt": execution.attempt,
            "engine": execution.engine,
            "points": execution.points,
            "runner": execution.runner,
            "planned": execution.planned,
            "undo": execution.undo,
            "undone": execution.undone,
        },
    }


def _to_execution(row: sa.Row[Any]) -> RecoveryExecution:
    details = row.details or {}
    return RecoveryExecution(
        error_id=row.error_id,
        strategy=Strategy(row.recovery_strategy),
        started_at=row.execution_start,
        ended_at=row.execution_end,
        success=row.success,
        steps=_steps.validate_python(row.steps_executed or ()),
        final_status=row.final_status or "",
        manual_intervention_required=bool(row.manual_intervention_required),
        attempt_id=row.attempt_id,
        attempt=details.get("attempt", 1),
        environment=row.environment,
        service=row.service_name,
        engine=details.get("engine", ""),
        points=details.get("points", 1),
        runner=Runner(**details["runner"]) if details.get("runner") else None,
        planned=_planned.validate_python(details.get("planned") or ()),
        undo=_planned.validate_python(details.get("undo") or ()),
        undone=bool(details.get("undone")),
        detected_at=row.detected_at,
        diagnosed_at=row.diagnosed_at,
        acted_at=row.acted_at,
        verified_at=row.verified_at,
    )
