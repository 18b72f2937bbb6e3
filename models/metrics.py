"""Metrics, their baselines, alerts, predictions and dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

HOST = "host"
"""The subject of metrics of the machine itself, where a service's name would stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number. Percentages are 0-100, sizes bytes, latencies milliseconds: the name says which."""

    environment: str
    service: str
    name: str
    value: float
    sampled_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Usual value and thresholds of one metric of one service."""

    service: str
    metric: str
    value: float
    warning: float | None
    critical: float | None
    created_at: datetime
    updated_at: datetime
    samples: int = 0


class AlertSeverity(StrEnum):
    """Severity of an alert."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """State of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert with its reason and its numbers.

    `explained_by` is the id of the alert that causes it; then only that one is reported. `note` was written by the
    person who acknowledged it.
    """

    alert_id: str
    environment: str
    service: str
    metric: str
    severity: AlertSeverity
    reason: str
    opened_at: datetime
    state: AlertState = AlertState.OPEN
    value: float | None = None
    threshold: float | None = None
    acknowledged_at: datetime | None = None
    resolved_at: datetime | None = None
    explained_by: str | None = None
    note: str | None = None


class PredictionOutcome(StrEnum):
    """Outcome of a prediction. `averted`: the metric turned back in time."""

    OPEN = "open"
    HIT = "hit"
    MISS = "miss"
    AVERTED = "averted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A metric was said to pass a threshold; `earliest` to `latest` is the 80 % interval of when."""

    prediction_id: str
    environment: str
    service: str
    metric: str
    value: float
    threshold: float
    falling: bool
    made_at: datetime
    expected: datetime
    earliest: datetime
    latest: datetime
    words: str
    outcome: PredictionOutcome = PredictionOutcome.OPEN
    scored_at: datetime | None = None


class DependencyType(StrEnum):
    """Kind of a dependency."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    PERFORMANCE = "performance"


class HealthImpact(StrEnum):
    """Effect of a failed dependency."""

    CRITICAL = "critical"
    MODERATE = "moderate"
    LOW = "low"


class DependencyStatus(StrEnum):
    """State of a dependency."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Dependency of one service on another."""

    service: str
    depends_on: str
    dependency_type: DependencyType = DependencyType.REQUIRED
    health_impact: HealthImpact = HealthImpact.CRITICAL
    status: DependencyStatus = DependencyStatus.ACTIVE
    last_check: datetime | None = None

    @property
    def is_critical(self) -> bool:
        """Whether the service is down while its dependency is."""
        return self.dependency_type is DependencyType.REQUIRED and self.health_impact is HealthImpact.CRITICAL
