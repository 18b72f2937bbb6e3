"""Results: what a flow gives back to a person or a program. Names, dates and numbers only."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.health import HealthReport
from models.recovery import RecoveryOutcome
from models.validation import ValidationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStart:
    """How one service came up. `kept` means it already ran as declared and was left alone."""

    service: str
    previous_state: str
    state: str
    reason: str
    kept: bool
    waited_seconds: float
    took_seconds: float
    ok: bool = True


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
