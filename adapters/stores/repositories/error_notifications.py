"""Which errors users were notified of, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from adapters.stores.repositories.errors import to_error
from adapters.stores.repositories.recoveries import Recoveries
from adapters.stores.repositories.repository import Repository
from adapters.stores.repositories.tickets import Tickets
from adapters.stores.sql import table
from models.notifications import ReportedError, SentNotifications
from models.tables.errors import DeploymentError

_errors = table(DeploymentError)


class ErrorNotifications(Repository):
    """Which errors users were notified of, and when."""

    def reported(self, environment: str, resolved_since: datetime) -> Sequence[ReportedError]:
        """Every error that is open or was resolved since then, with what people were told and asked about it."""
        query = (
            sa.select(_errors)
            .where(
                _errors.c.environment == environment,
                sa.or_(_errors.c.resolved_at.is_(None), _errors.c.resolved_at >= resolved_since),
            )
            .order_by(_errors.c.first_seen, _errors.c.id)
        )
        rows = self._all(query)
        tickets = {one.error_id: one for one in Tickets(self._database).find(environment=environment)} if rows else {}
        tried = Recoveries(self._database).find(environment=environment, since=rows[0].first_seen) if rows else ()
        return [
            ReportedError(
                error=to_error(row),
                reported=SentNotifications(times=row.notices or 0, last_at=row.notified_at, end_at=row.notified_end),
                resolution=row.resolution or "",
                ticket=tickets.get(row.error_id),
                executions=[one for one in tried if one.error_id == row.error_id],
            )
            for row in rows
        ]

    def mark_sent(self, error_id: str, before: SentNotifications, now: SentNotifications) -> bool:
        """Record a notification about an error; False where another process has sent one since `before`."""
        return self._change(
            sa.update(_errors)
            .where(
                _errors.c.error_id == error_id,
                sa.func.coalesce(_errors.c.notices, 0) == before.times,
                _errors.c.notified_end.is_(None) if before.end_at is None else sa.true(),
            )
            .values(notices=now.times, notified_at=now.last_at, notified_end=now.end_at)
        )
