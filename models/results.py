"""Results of flows. Names, dates and numbers only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from models.compose import ImageFetch, PlannedService
from models.health import HealthReport
from models.recovery import RecoveryOutcome
from models.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStart:
    """Start of one service. `kept`: it already ran as declared and was left alone.

    `held_up_by` is how many seconds it waited for each dependency, all at the same time. `caused_by` is the failed
    dependency that kept it from starting.
    """

    service: str
    previous_state: str
    state: str
    reason: str
    kept: bool
    waited_seconds: float = 0.0
    took_seconds: float = 0.0
    ok: bool = True
    held_up_by: dict[str, float] = field(default_factory=dict)
    caused_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """Result of start, stop, restart and health check."""

    success: bool
    deployment_id: str
    environment: str
    reason: str
    took_seconds: float
    services: tuple[ServiceStart, ...] = ()
    health: HealthReport | None = None
    validation: ValidationResult | None = None
    errors: tuple[str, ...] = ()
    recovery: RecoveryOutcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionReport:
    """Result of one collection. `gaps` names each source that did not answer."""

    environment: str
    timestamp: str
    overall_status: str
    metrics: dict[str, dict[str, float]]
    alerts: tuple[str, ...]
    recommendations: tuple[str, ...]
    gaps: tuple[str, ...] = ()
    health: HealthReport | None = None
    after_recovery: str | None = None
    recoveries: tuple[RecoveryOutcome, ...] = field(default=())

    @property
    def summary(self) -> str:
        """The overall status in words for users."""
        return self.health.summary if self.health is not None else self.overall_status


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Differences of running containers from the declaration; `stopped` on request, missing ones are no drift.

    `updates` are the images that an update would replace: their tag moved, or what they are built of changed. They are
    no drift.
    """

    environment: str
    seen_at: datetime
    services: tuple[PlannedService, ...]
    orphans: tuple[str, ...] = ()
    stopped: bool = False
    updates: tuple[ImageFetch, ...] = ()

    @property
    def clean(self) -> bool:
        """True where everything runs as declared, or rests as asked."""
        return not self.services and not self.orphans


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """Result of a watch: events received, and incidents dispatched to recovery."""

    environment: str
    events: int
    handed_over: int
