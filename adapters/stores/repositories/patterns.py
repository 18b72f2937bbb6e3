"""Error patterns: those shipped with the program and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows
from adapters.stores.sql import table, upsert
from models.errors import Pattern, Strategy
from models.tables.errors import ErrorPattern

_patterns = table(ErrorPattern)
_rows = Rows(ErrorPattern, Pattern, name="pattern_name", regex="pattern_regex", recovery_script="recovery_script_path")


class Patterns(Repository):
    """Error patterns."""

    def sync(self, patterns: Sequence[Pattern]) -> None:
        """Bring the shipped patterns up to date.

        A person's own patterns stay, also one that has the name of a shipped one, and so does what a
        person switched off. A shipped pattern that is not shipped any more goes.
        """
        names = [one.name for one in patterns]
        with self._database.write() as connection:
            own = set(connection.scalars(sa.select(_patterns.c.pattern_name).where(_patterns.c.shipped.is_not(True))))
            connection.execute(
                sa.delete(_patterns).where(_patterns.c.shipped.is_(True), _patterns.c.pattern_name.not_in(names))
            )
            rows = [_from_pattern(one, shipped=True) for one in patterns if one.name not in own]
            upsert(connection, ErrorPattern, rows, keys=["pattern_name"], keep=["enabled"])

    def all(self) -> list[Pattern]:
        """Every pattern, the most urgent (highest priority) first."""
        query = sa.select(_patterns).order_by(_patterns.c.priority.desc(), _patterns.c.pattern_name)
        return [
            _rows.to_value(row, strategy=row.strategy or Strategy.INVESTIGATE, shipped=bool(row.shipped))
            for row in self._all(query)
        ]

    def put(self, pattern: Pattern) -> None:
        """Keep a pattern as given, whether it is new or known; its matches so far stay."""
        with self._database.write() as connection:
            upsert(connection, ErrorPattern, _from_pattern(pattern, shipped=pattern.shipped), keys=["pattern_name"])

    def remove(self, name: str) -> bool:
        """Forget a person's own pattern; False where there is none of this name."""
        own = sa.and_(_patterns.c.pattern_name == name, _patterns.c.shipped.is_not(True))
        return self._change(sa.delete(_patterns).where(own))

    def count_match(self, name: str, at: datetime) -> None:
        """Count a match."""
        count = sa.func.coalesce(_patterns.c.match_count, 0) + 1
        self._change(
            sa.update(_patterns).where(_patterns.c.pattern_name == name).values(match_count=count, last_matched=at)
        )


def _from_pattern(pattern: Pattern, *, shipped: bool) -> dict[str, Any]:
    values = _rows.to_row(pattern, auto_recovery_possible=pattern.auto_recovery_possible, shipped=shipped)
    del values["match_count"], values["last_matched"]
    return values
