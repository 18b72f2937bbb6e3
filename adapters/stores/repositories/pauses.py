"""Pauses of automatic recovery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.audit import actor_columns, actor_of, audit_row
from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.audit import SYSTEM, Actor
from models.records import Pause
from models.tables.errors import RecoveryControl

_controls = table(RecoveryControl)
_ALL = ""


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
        values = {
            "environment": environment or _ALL,
            "service_name": service or _ALL,
            "until": until,
            "reason": reason,
            "by": by,
            "paused_at": at or datetime.now(UTC),
            **actor_columns(actor),
        }
        with self._database.write(durable=True) as connection:
            upsert(connection, RecoveryControl, values, keys=["environment", "service_name"])
            audit_row(connection, "paused", _controls.name, (environment or _ALL, service or _ALL), actor)

    def resume(self, environment: str | None, service: str | None, actor: Actor = SYSTEM) -> bool:
        """Switch automatic recovery on again where `pause` with the same words switched it off."""
        with self._database.write(durable=True) as connection:
            done = connection.execute(
                sa.delete(_controls).where(
                    _controls.c.environment == (environment or _ALL),
                    _controls.c.service_name == (service or _ALL),
                )
            )
            if done.rowcount == 1:
                audit_row(connection, "unpaused", _controls.name, (environment or _ALL, service or _ALL), actor)
            return done.rowcount == 1

    def covering(self, environment: str, service: str | None, now: datetime) -> Pause | None:
        """What keeps automatic recovery of a service off now, the widest first; None where nothing does."""
        query = (
            sa.select(_controls)
            .where(
                _controls.c.environment.in_([_ALL, environment]),
                _controls.c.service_name.in_([_ALL, service or _ALL]),
                sa.or_(_controls.c.until.is_(None), _controls.c.until > now),
            )
            .order_by(_controls.c.environment, _controls.c.service_name)
            .limit(1)
        )
        with self._database.read() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else _to_pause(found)

    def active(self, now: datetime) -> Sequence[Pause]:
        """Everything that is switched off now."""
        query = sa.select(_controls).where(sa.or_(_controls.c.until.is_(None), _controls.c.until > now))
        with self._database.read() as connection:
            return [_to_pause(row) for row in connection.execute(query)]


def _to_pause(row: sa.Row[Any]) -> Pause:
    return Pause(
        environment=row.environment or None,
        service=row.service_name or None,
        until=row.until,
        reason=row.reason,
        by=row.by,
        paused_at=row.paused_at,
        actor=actor_of(row),
    )
