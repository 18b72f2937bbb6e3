"""Snapshots of data: begun, ended, listed, rehearsed and forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows, newest
from adapters.stores.sql import insert_unless_there, table
from models.snapshots import BEING_DELETED, DataSnapshot, Rehearsal, SnapshotState
from models.tables.deployment_logs import SnapshotRow

_snapshots = table(SnapshotRow)
_rows = Rows(SnapshotRow, DataSnapshot)


class Snapshots(Repository):
    """Snapshots of data."""

    def begin(self, snapshot: DataSnapshot) -> None:
        """Record that a snapshot has begun. Doing it twice is doing it once."""
        with self._database.write() as connection:
            insert_unless_there(connection, SnapshotRow, _rows.to_row(snapshot), keys=["snapshot_id"])

    def end(self, snapshot: DataSnapshot) -> bool:
        """Record how one ended that has begun; False where it had ended before, or is not known."""
        values = _rows.to_row(snapshot)
        columns = ("state", "ended_at", "parts", "problem")
        return self._change(
            sa.update(_snapshots)
            .where(_snapshots.c.snapshot_id == snapshot.snapshot_id, _snapshots.c.state == SnapshotState.BEGUN.value)
            .values({name: values[name] for name in columns})
        )

    def list_for(self, environment: str) -> list[DataSnapshot]:
        """The snapshots of an environment, newest first."""
        return [_rows.to_value(row) for row in self._all(newest(_snapshots, "begun_at", environment=environment))]

    def whole(self) -> list[DataSnapshot]:
        """The whole snapshots of all environments, newest first."""
        return [
            _rows.to_value(row) for row in self._all(newest(_snapshots, "begun_at", state=SnapshotState.WHOLE.value))
        ]

    def saved_at(self) -> dict[str, datetime]:
        """When the newest whole snapshot of each environment was begun."""
        newest_whole = sa.func.max(_snapshots.c.begun_at).label("at")
        query = sa.select(_snapshots.c.environment, newest_whole).where(_snapshots.c.state == SnapshotState.WHOLE.value)
        return {row.environment: row.at for row in self._all(query.group_by(_snapshots.c.environment))}

    def get(self, snapshot_id: str) -> DataSnapshot:
        """The snapshot of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        advice = "`roas snapshot list` shows them."
        return _rows.to_value(self._row_by_prefix(_snapshots.c.snapshot_id, snapshot_id, "snapshot", advice))

    def record_rehearsal(self, snapshot: DataSnapshot, at: datetime, rehearsal: Rehearsal) -> None:
        """Record the result of a rehearsed restore."""
        values = _rows.to_row(replace(snapshot, rehearsed_at=at, rehearsal=rehearsal))
        self._change(
            sa.update(_snapshots)
            .where(_snapshots.c.snapshot_id == snapshot.snapshot_id)
            .values(rehearsed_at=values["rehearsed_at"], rehearsal=values["rehearsal"])
        )

    def find_restoring(self, environment: str) -> DataSnapshot | None:
        """The snapshot that an operation has begun to put back and not finished; None where there is none."""
        row = self._first(newest(_snapshots, "begun_at", _snapshots.c.restoring != "", environment=environment))
        return None if row is None else _rows.to_value(row)

    def mark_restoring(self, environment: str, snapshot_id: str, deployment_id: str) -> None:
        """Record which snapshot an operation puts back; no other one of the environment is being put back then."""
        with self._database.write() as connection:
            same_environment = _snapshots.c.environment == environment
            connection.execute(sa.update(_snapshots).where(same_environment).values(restoring=None))
            this = _snapshots.c.snapshot_id == snapshot_id
            connection.execute(sa.update(_snapshots).where(this).values(restoring=deployment_id))

    def clear_restoring(self, environment: str) -> None:
        """Record that nothing is being put back in an environment."""
        self._change(sa.update(_snapshots).where(_snapshots.c.environment == environment).values(restoring=None))

    def begin_deletion(self, snapshot_ids: Iterable[str]) -> None:
        """Record that snapshots are about to leave their repository, so that none of them is offered any more."""
        these = _snapshots.c.snapshot_id.in_(snapshot_ids)
        self._change(sa.update(_snapshots).where(these).values(state=SnapshotState.FAILED.value, problem=BEING_DELETED))

    def forget(self, snapshot_id: str) -> None:
        """Remove a snapshot that is in no repository any more."""
        self._change(sa.delete(_snapshots).where(_snapshots.c.snapshot_id == snapshot_id))
