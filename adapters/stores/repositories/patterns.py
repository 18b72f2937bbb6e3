"""Error patterns: those shipped with the program and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.errors import Category, Pattern, Severity, Strategy
from models.tables.errors import ErrorPattern

_patterns = table(ErrorPattern)


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
        with self._database.read() as connection:
            return [_to_pattern(row) for row in connection.execute(query)]

    def put(self, pattern: Pattern) -> None:
        """Keep a pattern as given, whether it is new or known; its matches so far stay."""
        row = _from_pattern(pattern, shipped=pattern.shipped)
        with self._database.write() as connection:
            upsert(connection, ErrorPattern, row, keys=["pattern_name"])

    def remove(self, name: str) -> bool:
        """Forget a person's own pattern; False where there is none of this name."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.delete(_patterns).where(_patterns.c.pattern_name == name, _patterns.c.shipped.is_not(True))
            )
            return done.rowcount == 1

    def count_match(self, name: str, at: datetime) -> None:
        """Count a match."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_patterns)
                .where(_patterns.c.pattern_name == name)
                .values(match_count=sa.func.coalesce(_patterns.c.match_count, 0) + 1, last_matched=at)
            )


def _from_pattern(pattern: Pattern, *, shipped: bool) -> dict[str, Any]:
    return {
        "pattern_name": pattern.name,
        "pattern_regex": pattern.regex,
        "category": pattern.category.value,
        "severity": pattern.severity.value,
        "auto_recovery_possible": pattern.auto_recovery_possible,
        "recovery_script_path": pattern.recovery_script,
        "strategy": pattern.strategy.value,
        "priority": pattern.priority,
        "enabled": pattern.enabled,
        "shipped": shipped,
    }


def _to_pattern(row: sa.Row[Any]) -> Pattern:
    return Pattern(
        name=row.pattern_name,
        regex=row.pattern_regex,
        category=Category(row.category),
        severity=Severity(row.severity),
        strategy=Strategy(row.strategy or Strategy.INVESTIGATE),
        priority=50 if row.priority is None else row.priority,
        enabled=row.enabled is not False,
        shipped=bool(row.shipped),
        recovery_script=row.recovery_script_path,
        match_count=row.match_count or 0,
        last_matched=row.last_matched,
    )
