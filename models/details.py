"""Records with everything that belongs to them, as read back from the stores, and the explanation of a result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.errors import Impact, RecordedError
from models.health import HealthReport
from models.metrics import Alert, Dependency, DependencyStatus
from models.operations import Operation, OperationStatus, StateChange
from models.records import RecordedScore, Release
from models.recovery import RecoveryExecution, Ticket
from models.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """One error with its impact, its recovery attempts and its tickets."""

    error: RecordedError
    impacts: tuple[Impact, ...]
    executions: tuple[RecoveryExecution, ...]
    tickets: tuple[Ticket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketDetails:
    """One ticket with its error, the first evidence, and the lines that show it."""

    ticket: Ticket
    error: RecordedError
    first_cause: str = ""
    lines: tuple[ShownLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDetails:
    """One deployment operation with all its records."""

    operation: Operation
    validations: tuple[ValidationResult, ...]
    changes: tuple[StateChange, ...]
    health: HealthReport | None
    errors: tuple[ErrorDetails, ...]
    data_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStatus:
    """Current state of one environment."""

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
        """When the current health was last confirmed: a collection that finds no change stores no row."""
        if self.health is None:
            return None
        return max(self.health.checked_at, self.last_collection or self.health.checked_at)

    @property
    def missing(self) -> tuple[Dependency, ...]:
        """Dependencies that failed in the last complete collection."""
        judged = self.health.checked_at if self.health else None
        return tuple(
            need
            for need in self.dependencies
            if need.status is not DependencyStatus.ACTIVE
            and (judged is None or need.last_check is None or need.last_check >= judged)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDetails:
    """One release and its changes from the one before; none for the first."""

    release: Release
    changes: tuple[str, ...]


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
