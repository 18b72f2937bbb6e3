"""What is asked of logs, and their lines in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.records import ContainerLog

MOST_LINES = 10_000
"""Of each container, in one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines of logs are wanted: the last `lines` of each container among those since a moment that match.

    Without `services` those of all. `pattern` is a regular expression of RE2; empty, every line matches.
    """

    services: tuple[str, ...] = ()
    lines: int = 100
    since: datetime | None = None
    pattern: str = ""
    ignore_case: bool = False

    @property
    def searches(self) -> bool:
        """Whether more than the last lines of what is there now has to be read."""
        return self.since is not None or bool(self.pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAnswer:
    """The logs that a query chose, by service and container, and in sentences what was not read of them."""

    logs: tuple[ContainerLog, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a log without the engine's time stamp. `at` is when the engine got it; None where that is unknown."""

    service: str
    container: str
    at: datetime | None
    line: str

    def document(self) -> dict[str, str | None]:
        """The line as programs read it."""
        at = None if self.at is None else self.at.isoformat()
        return {"at": at, "service": self.service, "container": self.container, "line": self.line}
