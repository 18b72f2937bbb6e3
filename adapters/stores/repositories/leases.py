"""Leases: which operation may change an environment, and until when."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.operations import Runner
from models.records import LeaseResult
from models.tables.deployment_logs import EnvironmentLease

_leases = table(EnvironmentLease)


class Leases(Repository):
    """Leases."""

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
