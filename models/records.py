"""Records: values that only the stores make, alone and with all that belongs to them, and explanations of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from models.errors import Impact, Pattern, RecordedError
from models.health import HealthReport, RecordedScore
from models.locks import Lock
from models.metrics import Alert, Baseline, Dependency, DependencyStatus, Prediction
from models.operations import LeaseResult, Operation, OperationStatus, OperationStep, StateChange
from models.recovery import Pause, RecoveryExecution, Ticket
from models.sources import SOURCE_KEY, SourceRevision

if TYPE_CHECKING:
    from models.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What ran in an environment: the rendered Compose application and the exact images.

    `digests` maps a service to its image digest, `images` a service to the id of its image, `hashes` a
    service to Compose's hash of its configuration. `files` maps the path of a mounted file to the hash of
    its content, `variables` the name of a variable to the keyed hash of its value. `proven` is True once
    every service held its health for its stabilisation time; `reason` says what the release came of.
    """

    release_id: str
    environment: str
    deployment_id: str
    created_at: datetime
    compose: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    proven: bool = False

    @property
    def source(self) -> SourceRevision | None:
        """The revision of the environment's source that it was made from; None without a source."""
        values = self.compose.get(SOURCE_KEY)
        if not isinstance(values, dict):
            return None
        return SourceRevision(**{name: str(values.get(name, "")) for name in ("revision", "ref", "subject")})


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """All that one monitoring evaluation of an environment found.

    `states` are the states of anomaly detectors by service and metric. `dependencies` is None where they are
    unknown this time; those recorded before then stay.
    """

    environment: str
    evaluated_at: datetime
    states: Mapping[tuple[str, str], bytes] = field(default_factory=dict)
    baselines: Sequence[Baseline] = ()
    dependencies: Sequence[Dependency] | None = None
    alerts: Sequence[Alert] = ()
    predictions: Sequence[Prediction] = ()
    scores: Sequence[RecordedScore] = ()
    health: HealthReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRecords:
    """All records that recovery reads, so that it can continue with the last ones while the stores are unavailable.

    `executions` are the attempts of the last day in every environment: they share the budgets of a host. `started_at`
    `data_steps` are the latest hooks that updates began and snapshots that they took. `started_at`
    is when the latest proven start ended. `patterns` is None if they were never read. `host_id` is the host that the
    environment belongs to, None where none has operated it. `operated` is whether any operation of the environment but
    health checks is on record: without one it is unknown whether it is meant to run. The end of `lease` is by this
    machine's clock.
    """

    environment: str
    executions: tuple[RecoveryExecution, ...] = ()
    pauses: tuple[Pause, ...] = ()
    releases: tuple[Release, ...] = ()
    last_changes: Mapping[str, StateChange] = field(default_factory=dict)
    data_steps: tuple[OperationStep, ...] = ()
    open_errors: tuple[RecordedError, ...] = ()
    lease: LeaseResult | None = None
    started_at: datetime | None = None
    meant_to_run: bool = True
    operated: bool = True
    patterns: tuple[Pattern, ...] | None = None
    host_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstCause:
    """Why an operation failed first, None where no evidence shows more than its reason, and the first step to take."""

    sentence: str | None
    step: str


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
class ContainerLog:
    """The last lines of one container's log, with the engine's time stamps.

    `kept_at` is when they were stored as evidence; None where they were read from the container itself.
    """

    service: str
    container: str
    lines: tuple[str, ...]
    kept_at: datetime | None = None


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
    watched_by: str | None = None
    """The process of this host that watches it, and since when."""
    stopped_at: datetime | None = None
    """When it was stopped on request; None where it is meant to run, or not known to be stopped."""
    needs_down: str = ""
    """Which other environments that it needs are down, as a sentence; empty where none is."""
    mounted_copies: str = ""
    """Which services run with a release's copies of files, as a sentence; empty where none does."""
    lock: Lock | None = None
    """Why its name has to be typed to stop, restart, update or roll it back."""
    pauses: tuple[Pause, ...] = ()
    """Where automatic recovery is off: in it, in one of its services, or everywhere."""

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
    """One release and its changes from the one before; none for the first.

    `notes` say what the new images of an update changed, as long as the update is on record.
    """

    release: Release
    changes: tuple[str, ...]
    notes: tuple[str, ...] = ()


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
