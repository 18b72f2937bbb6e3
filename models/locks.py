"""Locks of environments against the slips of persons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """An environment is locked, by its file (`locked_at` None) or by a person."""

    environment: str
    reason: str = ""
    by: str = ""
    locked_at: datetime | None = None

    @property
    def words(self) -> str:
        """Who locked it, since when and why."""
        if self.locked_at is None:
            return "protected by its file"
        why = f": {self.reason}" if self.reason else ""
        return f"locked by {self.by} since {self.locked_at:%Y-%m-%d %H:%M} UTC{why}"
