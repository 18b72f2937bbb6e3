"""Explanation of the result of an operation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.operations import OperationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLine:
    """One line that shows the cause, and where it was said. `at` is None where the line has no time."""

    service: str
    source: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one operation ended as it did.

    `headline` names the first cause in one sentence. `because` are the facts that show it, `consequences` the
    failures that followed, `changed` the differences from the last proven release, `tried` the recovery attempts,
    `commands` the next commands to type. `slow` says where the time of a successful operation went.
    """

    deployment_id: str
    environment: str
    operation: str
    status: OperationStatus
    headline: str
    started_at: datetime
    service: str | None = None
    since: datetime | None = None
    because: tuple[str, ...] = ()
    lines: tuple[ShownLine, ...] = ()
    consequences: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
