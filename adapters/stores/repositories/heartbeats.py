"""Heartbeats of processes and evaluations."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.tables.monitoring import Heartbeat


class Heartbeats(Repository):
    """Heartbeats of processes and evaluations."""

    def beat(self, name: str, now: datetime) -> None:
        """Something that should go on by itself is going on."""
        with self._database.write() as connection:
            upsert(connection, Heartbeat, {"name": name, "beat_at": now}, keys=["name"])

    def all(self) -> dict[str, datetime]:
        """When each was last seen going on."""
        return {row.name: row.beat_at for row in self._all(sa.select(table(Heartbeat)))}
