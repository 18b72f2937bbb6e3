"""Pauses of automatic recovery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from adapters.stores.audit import actor_columns, actor_of, audit_row
from adapters.stores.repositories.repository import Repository, Rows
from adapters.stores.sql import table, upsert
from models.audit import SYSTEM, Actor
from models.records import Pause
from models.tables.errors import RecoveryControl

_controls = table(RecoveryControl)
_rows = Rows(RecoveryControl, Pause, service="service_name")
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
        key = (environment or _ALL, service or _ALL)
        with self._database.write(durable=True) as connection:
            this = sa.and_(_controls.c.environment == key[0], _controls.c.service_name == key[1])
            done = connection.execute(sa.delete(_controls).where(this)).rowcount == 1
            if done:
                audit_row(connection, "unpaused", _controls.name, key, actor)
            return done

    def active(self, now: datetime) -> Sequence[Pause]:
        """Everything that is switched off now."""
        query = sa.select(_controls).where(sa.or_(_controls.c.until.is_(None), _controls.c.until > now))
        return [
            _rows.to_value(
                row, environment=row.environment or None, service=row.service_name or None, actor=actor_of(row)
            )
            for row in self._all(query)
        ]
