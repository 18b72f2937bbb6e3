"""Recovery: what was tried about an error, and what a person is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from models.errors_seen import Strategy


class RecoveryMethod(StrEnum):
    """How error recovery ended."""

    AUTOMATIC = "automatic"
    MANUAL_REQUIRED = "manual_required"
    NONE_NEEDED = "none_needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a recovery: what was done, to what, and how it went."""

    name: str
    target: str
    ok: bool
    detail: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryExecution:
    """One automatic recovery of one error."""

    error_id: str
    strategy: Strategy
    started_at: datetime
    ended_at: datetime | None = None
    success: bool | None = None
    steps: tuple[Step, ...] = ()
    final_status: str = "running"
    manual_intervention_required: bool = False


class TicketState(StrEnum):
    """Where a manual-intervention ticket stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEntry:
    """One line of a ticket's history."""

    at: datetime
    by: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a person is asked to do about one cause, and all that was known when asking.

    `evidence` names the bundles of errors.db that show it.
    """

    ticket_id: str
    error_id: str
    environment: str
    title: str
    opened_at: datetime
    state: TicketState = TicketState.OPEN
    service: str | None = None
    steps: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    affected_services: tuple[str, ...] = ()
    history: tuple[TicketEntry, ...] = field(default=())
    resolved_at: datetime | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryOutcome:
    """What error recovery returns: did it work, by which method, in which steps."""

    error_id: str
    success: bool
    method: RecoveryMethod
    steps: tuple[str, ...]
    ticket_id: str | None = None
    reason: str = ""
