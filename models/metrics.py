"""Metrics: numbers with a subject, a name and a moment, and what is usual for them."""

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
    """What is usual for one metric of one service, and where it begins to matter."""

    service: str
    metric: str
    value: float
    warning: float | None
    critical: float | None
    created_at: datetime
    updated_at: datetime
    samples: int = 0


class AlertSeverity(StrEnum):
    """How loud an alert is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something a person should know, with its reason and the numbers behind it.

    `explained_by` is the id of the alert that is its cause; then only that one is told. `note` is what the
    person wrote who took it.
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
    """What became of a prediction. `averted`: the metric turned back before it came to that."""

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
    """How much a service needs another."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    PERFORMANCE = "performance"


class HealthImpact(StrEnum):
    """What the loss of a dependency does."""

    CRITICAL = "critical"
    MODERATE = "moderate"
    LOW = "low"


class DependencyStatus(StrEnum):
    """Whether a dependency is there."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One service needs another."""

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
