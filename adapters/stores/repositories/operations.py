"""Deployment operations: begun, finished, resumed, listed, counted by day; and which may change an environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adapters.stores.audit import actor_columns, actor_of, audit_row
from adapters.stores.clock import clock_skew, database_now, to_database_clock
from adapters.stores.repositories.repository import (
    Repository,
    Rows,
    equals_given,
    newest,
    newest_by_environment,
    newest_of_each,
)
from adapters.stores.sql import insert_unless_there, table, upsert
from models.audit import SYSTEM, Actor
from models.failures import NotFoundError
from models.operations import LeaseResult, Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord, Resumption, Runner, read_record, write_record
from models.tables.deployment_logs import DeploymentOperation, EnvironmentLease

_operations = table(DeploymentOperation)
_leases = table(EnvironmentLease)
_lease_rows = Rows(EnvironmentLease, LeaseResult, holder="owner")
_rows = Rows(DeploymentOperation, Operation, started_at="start_time", ended_at="end_time", details="metadata")
_unfinished = _operations.c.status.in_([OperationStatus.PENDING, OperationStatus.RUNNING])
_is_check = _operations.c.operation_type == OperationType.HEALTH_CHECK.value
_said = sa.cast(_operations.c.metadata, sa.Text)
_is_drill = sa.and_(_is_check, _said.contains('"flow":"drill"'))
_is_rehearsal = sa.and_(_is_check, _said.contains('"flow":"rehearse-update"'))


class Operations(Repository):
    """Deployment operations."""

    def begin(self, operation: Operation) -> None:
        """Record an operation, with its start by the database's clock. Twice is once, so a caller may try again."""
        with self._database.write() as connection:
            row = _to_row(operation) | {"start_time": to_database_clock(connection, operation.started_at)}
            if insert_unless_there(connection, DeploymentOperation, row, keys=["deployment_id"]):
                _audit(connection, "begun", operation.deployment_id, operation.actor)

    def finish(
        self, deployment_id: str, status: OperationStatus, ended_at: datetime, record: OperationRecord | None = None
    ) -> bool:
        """Record how an operation ended, adding to its record; False where it had already ended.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            row = _lock_row(connection, deployment_id)
            if row.status not in (OperationStatus.PENDING, OperationStatus.RUNNING):
                return False
            ended = to_database_clock(connection, ended_at)
            values = {
                "status": status.value,
                "end_time": ended,
                "duration_ms": _milliseconds(ended - row.start_time),
                "metadata": (row.metadata or {}) | (write_record(record) if record else {}),
            }
            _update(connection, "ended", deployment_id, values)
            return True

    def note(self, deployment_id: str, record: OperationRecord) -> None:
        """Add to an operation's record.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            row = _lock_row(connection, deployment_id)
            _update(connection, "noted", deployment_id, {"metadata": (row.metadata or {}) | write_record(record)})

    def claim_notification(self, deployment_id: str, now: datetime) -> bool:
        """Record that an operation is reported to people now; False where it was before.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            row = _lock_row(connection, deployment_id)
            details = row.metadata or {}
            if read_record(details).notified_at is not None:
                return False
            noted = write_record(OperationRecord(notified_at=now))
            _update(connection, "noted", deployment_id, {"metadata": details | noted})
            return True

    def resume(
        self,
        deployment_id: str,
        runner: Runner,
        at: datetime,
        by: str,
        actor: Actor = SYSTEM,
        *,
        host_id: str = "",
    ) -> bool:
        """Let an interrupted operation run again; False where it was not interrupted, or somebody was faster.

        Raises:
            NotFoundError: No operation has this id.
        """
        with self._database.write() as connection:
            row = _lock_row(connection, deployment_id)
            record = read_record(row.metadata or {})
            if row.status != OperationStatus.FAILED or not record.interrupted:
                return False
            # The reason of its end no longer holds; the interruption stays in its record.
            on_host = {"host_id": host_id} if host_id else {}
            at, how = to_database_clock(connection, at), record.interrupted
            resumption = Resumption(at=at, by=by, actor=actor, interrupted=how, **on_host)
            resumed = OperationRecord(
                runner=runner, flow_run_id=runner.flow_run_id, resumed=(*record.resumed, resumption)
            )
            ended = ("interrupted", "reason", "advice", "error", "notified_at")
            details = {name: value for name, value in row.metadata.items() if name not in ended}
            details |= write_record(resumed)
            running = {"status": OperationStatus.RUNNING.value, "end_time": None, "duration_ms": None}
            if host_id:
                running["host_id"] = host_id
            _update(connection, "resumed", deployment_id, running | {"metadata": details}, actor)
            return True

    def mark_running(self, deployment_id: str) -> bool:
        """Let a pending operation run; False where it is not pending."""
        pending = equals_given(_operations, deployment_id=deployment_id, status=OperationStatus.PENDING)
        with self._database.write() as connection:
            change = sa.update(_operations).where(*pending).values(status=OperationStatus.RUNNING.value)
            done = connection.execute(change).rowcount == 1
            if done:
                _audit(connection, "running", deployment_id)
            return done

    def get(self, deployment_id: str) -> Operation:
        """The operation of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        return _to_operation(
            self._row_by_prefix(_operations.c.deployment_id, deployment_id, "deployment", "`roas history` lists them.")
        )

    def environments(self) -> list[str]:
        """Every environment that was operated on."""
        return [row.environment for row in self._all(sa.select(_operations.c.environment).distinct())]

    def find(self, deployment_id: str) -> Operation | None:
        """The operation of exactly this id, or None."""
        row = self._first(sa.select(_operations).where(_operations.c.deployment_id == deployment_id))
        return None if row is None else _to_operation(row)

    def find_by_run(self, environment: str, flow_run_id: str) -> Operation | None:
        """The latest operation that a flow run lived, or None."""
        details = sa.cast(_operations.c.metadata, sa.Text)
        its = details.contains(f'"flow_run_id":"{flow_run_id}"', autoescape=True)
        row = self._first(newest(_operations, "start_time", its, environment=environment))
        return None if row is None else _to_operation(row)

    def history(
        self,
        environment: str | None = None,
        operation_type: OperationType | None = None,
        status: OperationStatus | None = None,
        limit: int = 50,
    ) -> list[Operation]:
        """The latest operations, newest first."""
        query = newest(_operations, "start_time", environment=environment, operation_type=operation_type, status=status)
        return [_to_operation(row) for row in self._all(query.limit(limit))]

    def latest_recorded(self, environment: str, limit: int = 20) -> list[Operation]:
        """The latest operations but health checks, in the order they were recorded, newest first.

        No clock gives the order: that of a host may be wrong, and that of a machine may be set.
        """
        query = (
            sa.select(_operations)
            .where(
                _operations.c.environment == environment,
                _operations.c.operation_type != OperationType.HEALTH_CHECK.value,
            )
            .order_by(_operations.c.id.desc())
            .limit(limit)
        )
        return [_to_operation(row) for row in self._all(query)]

    def latest_recorded_of_each(
        self, limit: int, environments: Sequence[str] | None = None
    ) -> dict[str, list[Operation]]:
        """As `latest_recorded`, of every environment that has one, or of those that are named."""
        conditions = [_operations.c.operation_type != OperationType.HEALTH_CHECK.value]
        if environments is not None:
            conditions.append(_operations.c.environment.in_(environments))
        query = newest_of_each(_operations, ["environment"], ["id"], limit, *conditions)
        operations: dict[str, list[Operation]] = {}
        for row in self._all(query.order_by(_operations.c.id.desc())):
            operations.setdefault(row.environment, []).append(_to_operation(row))
        return operations

    def newest_recorded(self) -> dict[str, Operation]:
        """The latest operation but health checks of every environment, by the order of `latest_recorded`."""

        def is_none(operations: sa.FromClause) -> sa.ColumnElement[bool]:
            return operations.c.operation_type != OperationType.HEALTH_CHECK.value

        rows = self._all(newest_by_environment(_operations, ("id",), where=is_none))
        return {row.environment: _to_operation(row) for row in rows}

    def outcomes(self, environment: str, since: datetime) -> list[Operation]:
        """The ended operations but drills and rehearsals since a moment, oldest first, without their details.

        Details are most of an operation's bytes, and who counts operations by the thousand needs none.
        """
        names = ("deployment_id", "operation_type", "environment", "status", "start_time", "end_time", "user_agent")
        query = (
            sa.select(*(_operations.c[name] for name in names))
            .where(_operations.c.environment == environment, _operations.c.start_time >= since, sa.not_(_unfinished))
            .where(sa.not_(sa.func.coalesce(sa.or_(_is_drill, _is_rehearsal), sa.false())))
            .order_by(_operations.c.start_time, _operations.c.id)
        )
        return [_rows.to_value(row, details={}, host_id="") for row in self._all(query)]

    def drills(self, environment: str | None = None, since: datetime | None = None, limit: int = 50) -> list[Operation]:
        """The latest drills, newest first; those that were refused have no record of one."""
        query = newest(_operations, "start_time", _is_drill, environment=environment, since=since)
        return [_to_operation(row) for row in self._all(query.limit(limit))]

    def list_running(self, environment: str | None = None) -> list[Operation]:
        """Operations that have not ended, of one environment or of all, oldest first."""
        query = sa.select(_operations).where(_unfinished, *equals_given(_operations, environment=environment))
        return [_to_operation(row) for row in self._all(query.order_by(_operations.c.start_time))]

    def last_success(self, environment: str, operation_type: OperationType) -> Operation | None:
        """The latest operation of this type that succeeded."""
        operations = self.history(environment, operation_type, OperationStatus.SUCCESS, limit=1)
        return operations[0] if operations else None


class Leases(Repository):
    """Leases. `now` is this machine's clock, which counts for files; in PostgreSQL the server's own clock decides."""

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
        host_id: str = "",
    ) -> LeaseResult:
        """Acquire the lease of an environment unless another operation holds it unexpired.

        `instead_of` is a holder that is known to be dead: its hold ends now. An owner's hold is another's
        where another runner has it, so two runners of one operation do not both act.
        """
        with self._database.write() as connection:
            now = database_now(connection, now)
            row = connection.execute(
                sa.select(_leases).where(_leases.c.environment == environment).with_for_update()
            ).one_or_none()
            if row is not None and row.expires_at > now:
                current_lease = _to_lease(row)
                is_owner = current_lease.holder == owner and current_lease.runner == runner
                dead = instead_of is not None and _same_hold(current_lease, instead_of)
                if not is_owner and not dead:
                    return current_lease
            lease = LeaseResult(
                acquired=True,
                holder=owner,
                reason=reason,
                expires_at=now + ttl,
                acquired_at=now,
                runner=runner,
                host_id=host_id,
            )
            values = _lease_rows.to_row(lease, environment=environment)
            upsert(connection, EnvironmentLease, values, keys=["environment"])
            return lease

    def renew(
        self, environment: str, owner: str, now: datetime, ttl: timedelta, *, runner: Runner | None = None
    ) -> bool:
        """Renew a lease; False where this owner does not hold it any more."""
        with self._database.write() as connection:
            until = database_now(connection, now) + ttl
            update = sa.update(_leases).where(*_conditions_of_holder(environment, owner, runner))
            return connection.execute(update.values(expires_at=until)).rowcount == 1

    def release(self, environment: str, owner: str, *, runner: Runner | None = None) -> bool:
        """Let go; False where this owner did not hold it."""
        return self._change(sa.delete(_leases).where(*_conditions_of_holder(environment, owner, runner)))

    def current(self, environment: str, now: datetime) -> LeaseResult | None:
        """Who holds an environment now, or None."""
        leases = self.list_held(now, environment)
        return leases[0] if leases else None

    def list_held(self, now: datetime, environment: str | None = None) -> list[LeaseResult]:
        """The holds that are not expired, of one environment or of all."""
        with self._database.read() as connection:
            now = database_now(connection, now)
            query = sa.select(_leases).where(
                _leases.c.expires_at > now, *equals_given(_leases, environment=environment)
            )
            return [_to_lease(row) for row in connection.execute(query).all()]

    def find_holder(self, environment: str, now: datetime) -> LeaseResult | None:
        """Who holds an environment now, with the end of its hold by this machine's clock, to judge it by later."""
        with self._database.read() as connection:
            skew, now = clock_skew(connection), database_now(connection, now)
            query = sa.select(_leases).where(_leases.c.expires_at > now, _leases.c.environment == environment)
            row = connection.execute(query).one_or_none()
            return None if row is None else _to_lease(row, expires_at=row.expires_at + skew)


def _update(
    connection: sa.Connection, kind: str, deployment_id: str, values: dict[str, Any], actor: Actor = SYSTEM
) -> None:
    connection.execute(sa.update(_operations).where(_operations.c.deployment_id == deployment_id).values(**values))
    _audit(connection, kind, deployment_id, actor)


def _audit(connection: sa.Connection, kind: str, deployment_id: str, actor: Actor = SYSTEM) -> None:
    audit_row(connection, kind, _operations.name, (deployment_id,), actor)


def _lock_row(connection: sa.Connection, deployment_id: str) -> sa.Row[Any]:
    row = connection.execute(
        sa.select(_operations).where(_operations.c.deployment_id == deployment_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"No deployment has the id {deployment_id!r};", advice="`roas history` lists them.")
    return row


def _milliseconds(took: timedelta) -> int:
    return max(0, round(took / timedelta(milliseconds=1)))


def _to_row(operation: Operation) -> dict[str, Any]:
    took = operation.duration
    milliseconds = None if took is None else _milliseconds(took)
    return _rows.to_row(
        operation, duration_ms=milliseconds, metadata=operation.details or None, **actor_columns(operation.actor)
    )


def _to_operation(row: sa.Row[Any]) -> Operation:
    return _rows.to_value(row, actor=actor_of(row))


def _conditions_of_holder(environment: str, owner: str, runner: Runner | None) -> tuple[sa.ColumnElement[bool], ...]:
    by = _leases.c.runner.is_(None) if runner is None else _leases.c.runner == asdict(runner)
    return (_leases.c.environment == environment, _leases.c.owner == owner, by)


def _same_hold(lease: LeaseResult, other: LeaseResult) -> bool:
    return (lease.holder, lease.runner, lease.acquired_at) == (other.holder, other.runner, other.acquired_at)


def _to_lease(row: sa.Row[Any], **more: Any) -> LeaseResult:
    return _lease_rows.to_value(row, acquired=False, **more)
