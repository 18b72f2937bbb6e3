"""Daily reports as Markdown."""

from __future__ import annotations

from datetime import datetime

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import insert
from models.tables.monitoring import ReportRow


class Reports(Repository):
    """Daily reports as Markdown."""

    def keep(self, environment: str, made_at: datetime, since: datetime, text: str) -> None:
        """Keep what a report said, in Markdown."""
        with self._database.write() as connection:
            values = {"environment": environment, "made_at": made_at, "since": since, "text": text}
            insert(connection, ReportRow, values)
