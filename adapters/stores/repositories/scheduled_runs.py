"""Runs of schedules: claimed once each, ended, missed."""

from __future__ import annotations

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows, newest, newest_of_each
from adapters.stores.sql import insert_unless_there, table
from models.scheduled_runs import ScheduledRun, ScheduledState
from models.tables.deployment_logs import ScheduledRunRow

_runs = table(ScheduledRunRow)
_rows = Rows(ScheduledRunRow, ScheduledRun)
_KEYS = ("environment", "schedule", "due_at")


class ScheduledRuns(Repository):
    """Runs of schedules. Of one environment, schedule and moment there is one."""

    def add(self, run: ScheduledRun) -> bool:
        """Record a run that no process has recorded; False where one has, which stays as it is."""
        with self._database.write(durable=True) as connection:
            return insert_unless_there(connection, ScheduledRunRow, _rows.to_row(run), keys=_KEYS)

    def claim(self, run: ScheduledRun) -> bool:
        """Record that this process runs what is due, also where it counted as missed; False where another one does."""
        values = _rows.to_row(run)
        with self._database.write(durable=True) as connection:
            if insert_unless_there(connection, ScheduledRunRow, values, keys=_KEYS):
                return True
            this = [_runs.c[name] == values[name] for name in _KEYS]
            missed = _runs.c.state == ScheduledState.MISSED.value
            return connection.execute(sa.update(_runs).where(*this, missed).values(values)).rowcount == 1

    def end(self, run: ScheduledRun) -> bool:
        """Record how a run ended; False where that is on record already."""
        going_on = sa.and_(_runs.c.run_id == run.run_id, _runs.c.state == ScheduledState.RUNNING.value)
        return self._change(sa.update(_runs).where(going_on).values(_rows.to_row(run)))

    def latest(self, environment: str, schedule: str, most: int) -> list[ScheduledRun]:
        """The runs of a schedule that were due last, newest first."""
        rows = self._all(newest(_runs, "due_at", environment=environment, schedule=schedule).limit(most))
        return [_rows.to_value(row) for row in rows]

    def latest_of_each(self, environment: str | None, most: int) -> list[ScheduledRun]:
        """The newest runs of each schedule, of one environment or of all, newest first."""
        conditions = [] if environment is None else [_runs.c.environment == environment]
        query = newest_of_each(_runs, ["environment", "schedule"], ["due_at"], most, *conditions)
        return sorted((_rows.to_value(row) for row in self._all(query)), key=lambda run: run.due_at, reverse=True)
