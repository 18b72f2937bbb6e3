"""Recovery attempts and their results, and pauses of automatic recovery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.audit import actor_columns, actor_of, audit_row
from adapters.stores.repositories.repository import Repository, Rows, equals_given, known_word
from adapters.stores.sql import insert, table, upsert
from models.analysis import ActionOutcomes
from models.audit import SYSTEM, Actor
from models.errors import Category, Strategy
from models.locks import Lock
from models.recovery import Pause, RecoveryExecution
from models.tables.errors import DeploymentError, RecoveryControl, RecoveryExecutionRow

_errors = table(DeploymentError)
_executions = table(RecoveryExecutionRow)
_rows = Rows(
    RecoveryExecutionRow,
    RecoveryExecution,
    strategy="recovery_strategy",
    started_at="execution_start",
    ended_at="execution_end",
    steps="steps_executed",
)
_DETAILS = ("attempt", "engine", "host_id", "points", "runner", "planned", "undo", "undone")
_controls = table(RecoveryControl)
_pause_rows = Rows(RecoveryControl, Pause, service="service_name")
_ALL = ""
_LOCK = "*lock"
"""In the place of a service, which has no such name: the row is no pause but the lock of its environment."""


class Recoveries(Repository):
    """Recovery attempts."""

    def record(self, execution: RecoveryExecution) -> None:
        """Record how an attempt stands, by its own id; one without an id is new.

        Raises:
            StoreConstraintError: No error has this id.
        """
        values = _rows.to_row(execution, details={name: getattr(execution, name) for name in _DETAILS})
        this = sa.update(_executions).where(_executions.c.attempt_id == execution.attempt_id)
        with self._database.write() as connection:
            if execution.attempt_id is None or not connection.execute(this.values(**values)).rowcount:
                insert(connection, RecoveryExecutionRow, values)

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
        since: datetime | None = None,
        attempt_id: str | None = None,
    ) -> Sequence[RecoveryExecution]:
        """Recoveries that were tried, oldest first."""
        query = (
            sa.select(_executions, _errors.c.environment, _errors.c.service_name)
            .join(_errors, _errors.c.error_id == _executions.c.error_id)
            .where(*equals_given(_executions, error_id=error_id, attempt_id=attempt_id))
            .where(*equals_given(_errors, environment=environment))
            .order_by(_executions.c.execution_start, _executions.c.id)
        )
        if since is not None:
            query = query.where(_executions.c.execution_start >= since)
        return [_to_execution(row) for row in self._all(query)]

    def latest(self, environment: str, since: datetime, limit: int) -> Sequence[RecoveryExecution]:
        """The last recoveries of an environment that began since a moment, newest first."""
        query = (
            sa.select(_executions, _errors.c.environment, _errors.c.service_name)
            .join(_errors, _errors.c.error_id == _executions.c.error_id)
            .where(_errors.c.environment == environment, _executions.c.execution_start >= since)
            .order_by(_executions.c.execution_start.desc(), _executions.c.id.desc())
        )
        return [_to_execution(row) for row in self._all(query.limit(limit))]

    def outcomes(self, environment: str, since: datetime) -> list[ActionOutcomes]:
        """How often each strategy was tried against each cause since a moment, the most frequent first."""
        one, zero = (sa.literal_column(text, sa.Integer) for text in "10")
        conditions = {"helped": True, "failed": False, "running": None}
        query = (
            sa.select(
                _executions.c.recovery_strategy.label("strategy"),
                _errors.c.category.label("cause"),
                *(
                    sa.func.sum(sa.case((_executions.c.success.is_(success), one), else_=zero)).label(name)
                    for name, success in conditions.items()
                ),
            )
            .join(_errors, _errors.c.error_id == _executions.c.error_id)
            .where(_errors.c.environment == environment, _executions.c.execution_start >= since)
            .group_by(_executions.c.recovery_strategy, _errors.c.category)
            .order_by(sa.func.count().desc(), _executions.c.recovery_strategy, _errors.c.category)
        )
        return [
            ActionOutcomes(
                strategy=row.strategy,
                cause=row.cause,
                helped=int(row.helped),
                failed=int(row.failed),
                running=int(row.running),
            )
            for row in self._all(query)
        ]

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
        return [(row.verified_at - row.detected_at).total_seconds() for row in self._all(query)]


def _to_execution(row: sa.Row[Any]) -> RecoveryExecution:
    details = {name: value for name, value in (row.details or {}).items() if value is not None}
    return _rows.to_value(
        row,
        environment=row.environment,
        service=row.service_name,
        strategy=known_word(Strategy, row.recovery_strategy) or Strategy.INVESTIGATE,
        final_status=row.final_status or "",
        **details,
    )


class Pauses(Repository):
    """Pauses of automatic recovery."""

    def pause(
        self,
        environment: str | None,
        service: str | None,
        until: datetime | None,
        reason: str,
        by: str,
        at: datetime | None = None,
        actor: Actor = SYSTEM,
    ) -> None:
        """Switch automatic recovery off; None means every environment or service, no end, or from now on."""
        values = {"until": until, "reason": reason, "by": by, "paused_at": at or datetime.now(UTC)}
        self._put("paused", (environment or _ALL, service or _ALL), values, actor)

    def _put(self, kind: str, key: tuple[str, str], values: dict[str, Any], actor: Actor) -> None:
        row = {"environment": key[0], "service_name": key[1], **values, **actor_columns(actor)}
        with self._database.write(durable=True) as connection:
            upsert(connection, RecoveryControl, row, keys=["environment", "service_name"])
            audit_row(connection, kind, _controls.name, key, actor)

    def resume(self, environment: str | None, service: str | None, actor: Actor = SYSTEM) -> bool:
        """Switch automatic recovery on again where `pause` with the same words switched it off."""
        return self._remove("unpaused", (environment or _ALL, service or _ALL), actor)

    def _remove(self, kind: str, key: tuple[str, str], actor: Actor) -> bool:
        with self._database.write(durable=True) as connection:
            this = sa.and_(_controls.c.environment == key[0], _controls.c.service_name == key[1])
            done = connection.execute(sa.delete(_controls).where(this)).rowcount == 1
            if done:
                audit_row(connection, kind, _controls.name, key, actor)
            return done

    def active(self, now: datetime) -> Sequence[Pause]:
        """Everything that is switched off now."""
        lasts = sa.or_(_controls.c.until.is_(None), _controls.c.until > now)
        query = sa.select(_controls).where(lasts, _controls.c.service_name != _LOCK)
        return [
            _pause_rows.to_value(
                row, environment=row.environment or None, service=row.service_name or None, actor=actor_of(row)
            )
            for row in self._all(query)
        ]

    def lock(self, environment: str, reason: str, by: str, at: datetime, actor: Actor = SYSTEM) -> None:
        """Lock an environment; one that is locked has the new reason."""
        self._put("locked", (environment, _LOCK), {"until": None, "reason": reason, "by": by, "paused_at": at}, actor)

    def unlock(self, environment: str, actor: Actor = SYSTEM) -> bool:
        """Unlock an environment; False where no person had locked it."""
        return self._remove("unlocked", (environment, _LOCK), actor)

    def locks(self) -> dict[str, Lock]:
        """The environments that persons have locked, by their names."""
        rows = self._all(sa.select(_controls).where(_controls.c.service_name == _LOCK))
        return {
            row.environment: Lock(environment=row.environment, reason=row.reason, by=row.by, locked_at=row.paused_at)
            for row in rows
        }
