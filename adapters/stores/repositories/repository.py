"""What the repositories of all subjects have in common."""

from __future__ import annotations

from adapters.stores.database import Transacting


class Repository:
    """Rows of one subject in one store."""

    def __init__(self, database: Transacting) -> None:
        self._database = database
