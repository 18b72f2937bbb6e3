"""Results: what a flow gives back to a person or a program. Names, dates and numbers only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from models.compose import PlannedService
from models.health import HealthReport
from models.recovery import RecoveryOutcome
from models.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStart:
    """How one service came up. `kept` means it already ran as declared and was left alone.

    `held_up_by` is how many seconds it waited for each service it depends on, all at the same time;
    `caused_by` the one for want of which it was not started.
    """

    service: str
    previous_state: str
    state: str
    reason: str
    kept: bool
    waited_seconds: float
    took_seconds: float
    ok: bool = True
    held_up_by: dict[str, float] = field(default_factory=dict)
    caused_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """What start, stop, restart and health check return."""

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
    """What one collection saw, and what it led to. `gaps` names each source that did not answer."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Where what runs was not what is declared: what a start would do about it, and containers nobody declares.

    `stopped`: the environment was stopped on request, so that nothing runs is no drift.
    """

    environment: str
    seen_at: datetime
    services: tuple[PlannedService, ...]
    orphans: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def clean(self) -> bool:
        """True where everything runs as declared, or rests as asked."""
        return not self.services and not self.orphans


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """How a watch went: how many events it heard, and how often it handed something over to recovery."""

    environment: str
    events: int
    handed_over: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringReport:
    """How a time of monitoring went: the collections that were kept, and those that failed."""

    environment: str
    collections: int
    failed: int
