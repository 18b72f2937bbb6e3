"""Daily reports as Markdown."""

from __future__ import annotations

from datetime import datetime

from adapters.stores.repositories.repository import Repository, newest
from adapters.stores.sql import insert, table
from models.tables.monitoring import ReportRow


class Reports(Repository):
    """Daily reports as Markdown."""

    def keep(self, environment: str, made_at: datetime, since: datetime, text: str) -> None:
        """Keep what a report said, in Markdown."""
        with self._database.write() as connection:
            values = {"environment": environment, "made_at": made_at, "since": since, "text": text}
            insert(connection, ReportRow, values)

    def last(self, environment: str) -> tuple[datetime, str] | None:
        """When the newest report was made, and what it said; None where there is none."""
        row = self._first(newest(table(ReportRow), "made_at", environment=environment))
        return None if row is None else (row.made_at, row.text)
