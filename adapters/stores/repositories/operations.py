"""Deployment operations: begun, finished, resumed, listed, counted by day; and which may change an environment."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adapters.stores.audit import actor_columns, actor_of, audit_row
from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import insert_unless_there, table, upsert
from models.audit import SYSTEM, Actor
from models.failures import BadInputError, NotFoundError
from models.operations import Operation, OperationStatus, OperationType, Runner
from models.records import LeaseResult, OperationDayCounts
from models.tables.deployment_logs import DeploymentOperation, EnvironmentLease, OperationDay

_operations = table(DeploymentOperation)
_days = table(OperationDay)
_leases = table(EnvironmentLease)
_unfinished = _operations.c.status.in_([OperationStatus.PENDING, OperationStatus.RUNNING])


class Operations(Repository):
    """Deployment operations."""

    def begin(self, operation: Operation) -> None:
        """Record an operation. Doing it twice is doing it once, so a caller may try again."""
        with self._database.write() as connection:
            if insert_unless_there(connection, DeploymentOperation, _to_row(operation), keys=["deployment_id"]):
                _audit(connection, "begun", operation.deployment_id, operation.actor)

    def finish(
        self,
        deployment_id: str,
        status: OperationStatus,
        ended_at: datetime,
        details: dict[str, Any] | None = None,
    ) -> bool:
        """Record how an operation ended, adding to its details; False where it had already ended.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            found = _locked(connection, deployment_id)
            if found.status not in (OperationStatus.PENDING, OperationStatus.RUNNING):
                return False
            took = ended_at - found.start_time
            connection.execute(
                sa.update(_operations)
                .where(_operations.c.deployment_id == deployment_id)
                .values(
                    status=status.value,
                    end_time=ended_at,
                    duration_ms=max(0, round(took / timedelta(milliseconds=1))),
                    metadata=(found.metadata or {}) | (details or {}),
                )
            )
            _audit(connection, "ended", deployment_id)
            return True

    def note(self, deployment_id: str, details: dict[str, Any]) -> None:
        """Add to an operation's details.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            found = _locked(connection, deployment_id)
            connection.execute(
                sa.update(_operations)
                .where(_operations.c.deployment_id == deployment_id)
                .values(metadata=(found.metadata or {}) | details)
            )
            _audit(connection, "noted", deployment_id)

    def resume(self, deployment_id: str, runner: Runner, at: datetime, by: str, actor: Actor = SYSTEM) -> bool:
        """Let an interrupted operation run again; False where it was not interrupted, or somebody was faster.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            found = _locked(connection, deployment_id)
            details = dict(found.metadata or {})
            if found.status != OperationStatus.FAILED or "interrupted" not in details:
                return False
            # The reason of its end no longer holds; the interruption stays in its details.
            interruption = {"at": at, "by": by, "actor": asdict(actor), "interrupted": details.pop("interrupted")}
            for said in ("reason", "advice", "error"):
                details.pop(said, None)
            details |= {
                "runner": asdict(runner),
                "flow_run_id": runner.flow_run_id,
                "resumed": [*details.get("resumed", ()), interruption],
            }
            connection.execute(
                sa.update(_operations)
                .where(_operations.c.deployment_id == deployment_id)
                .values(status=OperationStatus.RUNNING.value, end_time=None, duration_ms=None, metadata=details)
            )
            _audit(connection, "resumed", deployment_id, actor)
            return True

    def mark_running(self, deployment_id: str) -> bool:
        """Let a pending operation run; False where it is not pending."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_operations)
                .where(
                    _operations.c.deployment_id == deployment_id,
                    _operations.c.status == OperationStatus.PENDING.value,
                )
                .values(status=OperationStatus.RUNNING.value)
            )
            if done.rowcount == 1:
                _audit(connection, "running", deployment_id)
            return done.rowcount == 1

    def get(self, deployment_id: str) -> Operation:
        """The operation of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        return _to_operation(
            self._named(_operations.c.deployment_id, deployment_id, "deployment", "`roas history` lists them.")
        )

    def environments(self) -> list[str]:
        """Every environment that was operated on."""
        with self._database.read() as connection:
            return list(connection.scalars(sa.select(_operations.c.environment).distinct()))

    def find(self, deployment_id: str) -> Operation | None:
        """The operation of exactly this id, or None."""
        query = sa.select(_operations).where(_operations.c.deployment_id == deployment_id)
        with self._database.read() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else _to_operation(found)

    def find_by_run(self, environment: str, flow_run_id: str) -> Operation | None:
        """The latest operation that a flow run lived, or None."""
        query = (
            sa.select(_operations)
            .where(
                _operations.c.environment == environment,
                sa.cast(_operations.c.metadata, sa.Text).contains(f'"flow_run_id":"{flow_run_id}"', autoescape=True),
            )
            .order_by(_operations.c.start_time.desc(), _operations.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else _to_operation(found)

    def history(
        self,
        environment: str | None = None,
        operation_type: OperationType | None = None,
        status: OperationStatus | None = None,
        limit: int = 50,
    ) -> list[Operation]:
        """The latest operations, newest first."""
        query = sa.select(_operations).order_by(_operations.c.start_time.desc(), _operations.c.id.desc())
        if environment is not None:
            query = query.where(_operations.c.environment == environment)
        if operation_type is not None:
            query = query.where(_operations.c.operation_type == operation_type.value)
        if status is not None:
            query = query.where(_operations.c.status == status.value)
        with self._database.read() as connection:
            return [_to_operation(row) for row in connection.execute(query.limit(limit))]

    def latest_recorded(self, environment: str, limit: int = 20) -> list[Operation]:
        """The latest operations but health checks, in the order they were recorded, newest first.

        Their start times come from the clocks of several hosts, so they do not give the order.
        """
        latest = (
            sa.select(_operations.c.id)
            .where(
                _operations.c.environment == environment,
                _operations.c.operation_type != OperationType.HEALTH_CHECK.value,
            )
            .order_by(_operations.c.start_time.desc())
            .limit(limit)
        )
        query = sa.select(_operations).where(_operations.c.id.in_(latest)).order_by(_operations.c.id.desc())
        with self._database.read() as connection:
            return [_to_operation(row) for row in connection.execute(query)]

    def outcomes(self, environment: str, operation_type: OperationType, since: datetime) -> list[Operation]:
        """The ended operations of a type that began since a moment, oldest first, without their details.

        Details are most of an operation's bytes, and who counts operations by the thousand needs none.
        """
        query = sa.select(
            _operations.c.deployment_id,
            _operations.c.status,
            _operations.c.start_time,
            _operations.c.end_time,
            _operations.c.user_agent,
        ).where(
            _operations.c.environment == environment,
            _operations.c.operation_type == operation_type.value,
            _operations.c.start_time >= since,
            sa.not_(_unfinished),
        )
        with self._database.read() as connection:
            found = connection.execute(query.order_by(_operations.c.start_time, _operations.c.id)).all()
        return [
            Operation(
                deployment_id=row.deployment_id,
                operation_type=operation_type,
                environment=environment,
                status=OperationStatus(row.status),
                started_at=row.start_time,
                ended_at=row.end_time,
                user_agent=row.user_agent,
            )
            for row in found
        ]

    def running(self, environment: str | None = None) -> list[Operation]:
        """Operations that have not ended, of one environment or of all, oldest first."""
        query = sa.select(_operations).where(_unfinished)
        if environment is not None:
            query = query.where(_operations.c.environment == environment)
        with self._database.read() as connection:
            return [_to_operation(row) for row in connection.execute(query.order_by(_operations.c.start_time))]

    def last_success(self, environment: str, operation_type: OperationType) -> Operation | None:
        """The latest operation of this type that succeeded."""
        found = self.history(environment, operation_type, OperationStatus.SUCCESS, limit=1)
        return found[0] if found else None

    def success_by_day(self, days: int, now: datetime, environment: str | None = None) -> list[OperationDayCounts]:
        """Finished operations of each of the last `days` days (UTC) that had any, oldest first.

        Health checks are not counted: they are no deployments, and there are many.
        """
        first = (now - timedelta(days=days - 1)).date().isoformat()
        summed = (_days.c.total, _days.c.successes, _days.c.timed, _days.c.duration_ms)
        query = (
            sa.select(_days.c.day, *(sa.func.sum(column) for column in summed))
            .where(_days.c.day >= first, _days.c.operation_type != OperationType.HEALTH_CHECK.value)
            .group_by(_days.c.day)
            .order_by(_days.c.day)
        )
        if environment is not None:
            query = query.where(_days.c.environment == environment)
        with self._database.read() as connection:
            return [
                OperationDayCounts(
                    day=date.fromisoformat(day),
                    total=int(total),
                    successes=int(successes),
                    mean_duration_ms=float(duration_ms) / int(timed) if timed else None,
                )
                for day, total, successes, timed, duration_ms in connection.execute(query)
            ]

    def _named(self, key: sa.Column[Any], name: str, what: str, advice: str) -> sa.Row[Any]:
        """The row whose key is this name, or the only one whose key begins like it."""
        end = name + chr(0x10FFFF)
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(key.table).where(sa.or_(key == name, sa.and_(key > name, key < end))).order_by(key).limit(6)
            ).all()
        names = [str(row._mapping[key.name]) for row in found]
        if not names or not name:
            raise NotFoundError(f"No {what} has the id {name!r};", advice=advice)
        if len(names) > 1 and names[0] != name:
            raise BadInputError(f"{name!r} begins several ids ({', '.join(names)});", advice="give more of it.")
        return found[0]


class Leases(Repository):
    """Leases: which operation may change an environment, and until when."""

    def acquire(
        self,
        environment: str,
        owner: str,
        reason: str,
        now: datetime,
        ttl: timedelta,
        *,
        runner: Runner | None = None,
        instead_of: LeaseResult | None = None,
    ) -> LeaseResult:
        """Acquire the lease of an environment unless another operation holds it unexpired.

        `instead_of` is a holder that is known to be dead: its hold ends now. An owner's hold is another's
        where another runner has it, so two runners of one operation do not both act.
        """
        with self._database.write() as connection:
            row = connection.execute(
                sa.select(_leases).where(_leases.c.environment == environment).with_for_update()
            ).one_or_none()
            if row is not None and row.expires_at > now:
                held = _to_lease(row)
                mine = held.holder == owner and held.runner == runner
                dead = instead_of is not None and _same_hold(held, instead_of)
                if not mine and not dead:
                    return held
            taken = {
                "environment": environment,
                "owner": owner,
                "reason": reason,
                "acquired_at": now,
                "expires_at": now + ttl,
                "runner": None if runner is None else asdict(runner),
            }
            upsert(connection, EnvironmentLease, taken, keys=["environment"])
            return LeaseResult(
                acquired=True, holder=owner, reason=reason, expires_at=now + ttl, acquired_at=now, runner=runner
            )

    def renew(
        self, environment: str, owner: str, now: datetime, ttl: timedelta, *, runner: Runner | None = None
    ) -> bool:
        """Renew a lease; False where this owner does not hold it any more."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_leases).where(*_held_by(environment, owner, runner)).values(expires_at=now + ttl)
            )
            return done.rowcount == 1

    def release(self, environment: str, owner: str, *, runner: Runner | None = None) -> bool:
        """Let go; False where this owner did not hold it."""
        with self._database.write() as connection:
            done = connection.execute(sa.delete(_leases).where(*_held_by(environment, owner, runner)))
            return done.rowcount == 1

    def current(self, environment: str, now: datetime) -> LeaseResult | None:
        """Who holds an environment now, or None."""
        found = self.held(now, environment)
        return found[0] if found else None

    def held(self, now: datetime, environment: str | None = None) -> list[LeaseResult]:
        """The holds that are not expired, of one environment or of all."""
        query = sa.select(_leases).where(_leases.c.expires_at > now)
        if environment is not None:
            query = query.where(_leases.c.environment == environment)
        with self._database.read() as connection:
            return [_to_lease(row) for row in connection.execute(query)]


def _audit(connection: sa.Connection, kind: str, deployment_id: str, actor: Actor = SYSTEM) -> None:
    audit_row(connection, kind, _operations.name, (deployment_id,), actor)


def _locked(connection: sa.Connection, deployment_id: str) -> sa.Row[Any]:
    found = connection.execute(
        sa.select(_operations).where(_operations.c.deployment_id == deployment_id).with_for_update()
    ).one_or_none()
    if found is None:
        raise NotFoundError(f"No deployment has the id {deployment_id!r};", advice="`roas history` lists them.")
    return found


def _to_row(operation: Operation) -> dict[str, Any]:
    took = operation.duration
    return {
        "deployment_id": operation.deployment_id,
        "operation_type": operation.operation_type.value,
        "environment": operation.environment,
        "status": operation.status.value,
        "start_time": operation.started_at,
        "end_time": operation.ended_at,
        "duration_ms": None if took is None else max(0, round(took / timedelta(milliseconds=1))),
        "user_agent": operation.user_agent,
        "metadata": operation.details or None,
        **actor_columns(operation.actor),
    }


def _to_operation(row: sa.Row[Any]) -> Operation:
    return Operation(
        deployment_id=row.deployment_id,
        operation_type=OperationType(row.operation_type),
        environment=row.environment,
        status=OperationStatus(row.status),
        started_at=row.start_time,
        ended_at=row.end_time,
        user_agent=row.user_agent,
        actor=actor_of(row),
        details=row.metadata or {},
    )


def _held_by(environment: str, owner: str, runner: Runner | None) -> tuple[sa.ColumnElement[bool], ...]:
    by = _leases.c.runner.is_(None) if runner is None else _leases.c.runner == asdict(runner)
    return (_leases.c.environment == environment, _leases.c.owner == owner, by)


def _same_hold(one: LeaseResult, other: LeaseResult) -> bool:
    return (one.holder, one.runner, one.acquired_at) == (other.holder, other.runner, other.acquired_at)


def _to_lease(row: sa.Row[Any]) -> LeaseResult:
    return LeaseResult(
        acquired=False,
        holder=row.owner,
        reason=row.reason,
        expires_at=row.expires_at,
        acquired_at=row.acquired_at,
        runner=None if row.runner is None else Runner(**row.runner),
    )
