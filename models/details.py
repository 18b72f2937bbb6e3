"""Stories: a record with all that belongs to it, as it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.errors import Impact, RecordedError
from models.explanation import ShownLine
from models.health import HealthReport
from models.metrics import Alert, Dependency, DependencyStatus
from models.operations import Operation, StateChange
from models.records import RecordedScore, Release
from models.recovery import RecoveryExecution, Ticket
from models.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """One error with its impact, what was tried, and the tickets about it."""

    error: RecordedError
    impacts: tuple[Impact, ...]
    executions: tuple[RecoveryExecution, ...]
    tickets: tuple[Ticket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketDetails:
    """One ticket with the error it is about, what was seen first, and the lines that show it."""

    ticket: Ticket
    error: RecordedError
    first_cause: str = ""
    lines: tuple[ShownLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDetails:
    """One deployment operation, whole."""

    operation: Operation
    validations: tuple[ValidationResult, ...]
    changes: tuple[StateChange, ...]
    health: HealthReport | None
    errors: tuple[ErrorDetails, ...]
    data_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStatus:
    """What is known of one environment now."""

    environment: str
    last_operation: Operation
    running: tuple[Operation, ...]
    health: HealthReport | None
    open_errors: tuple[RecordedError, ...]
    open_tickets: tuple[Ticket, ...]
    open_alerts: tuple[Alert, ...]
    dependencies: tuple[Dependency, ...]
    last_collection: datetime | None
    scores: tuple[RecordedScore, ...] = ()

    @property
    def seen_at(self) -> datetime | None:
        """When its health was last seen to be as it is: a collection that finds the same writes no row of it."""
        if self.health is None:
            return None
        return max(self.health.checked_at, self.last_collection or self.health.checked_at)

    @property
    def missing(self) -> tuple[Dependency, ...]:
        """Dependencies that were not there at the last look at all of it; an older look at them tells nothing."""
        judged = self.health.checked_at if self.health else None
        return tuple(
            need
            for need in self.dependencies
            if need.status is not DependencyStatus.ACTIVE
            and (judged is None or need.last_check is None or need.last_check >= judged)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDetails:
    """One release, and what it changed of the one before; nothing where it was the first."""

    release: Release
    changes: tuple[str, ...]
