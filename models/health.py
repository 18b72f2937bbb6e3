"""Health: of one service, of a whole environment, and what it is judged from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Health(StrEnum):
    """The field's three words for a whole; `unknown` and `unproven` are never healthy."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ServiceHealth(StrEnum):
    """What is known of one service."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    STARTING = "starting"
    COMPLETED = "completed"
    STOPPED = "stopped"
    UNPROVEN = "unproven"
    UNKNOWN = "unknown"


UNHEALTHY_STATES = frozenset({ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED})
"""The states that call for recovery."""


class Concern(StrEnum):
    """How much of a worry a reading is."""

    NONE = "none"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number that a probe read beside whether its service serves, under a metric's name, and what it means.

    `threshold` is where it began to matter, None where it does not.
    """

    metric: str
    value: float
    words: str
    concern: Concern = Concern.NONE
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What one probe of a service answered. `latency_ms` is None where nothing answered."""

    service: str
    kind: str
    target: str
    ok: bool
    detail: str
    checked_at: datetime
    latency_ms: float | None = None
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceVerdict:
    """One service judged, with the reason a person reads."""

    service: str
    health: ServiceHealth
    reason: str
    required: bool = True
    probes: tuple[ProbeResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """An environment judged at one moment."""

    environment: str
    overall: Health
    checked_at: datetime
    services: tuple[ServiceVerdict, ...]
    deployment_id: str | None = None
    system_load: float | None = None
    critical_alerts: int = 0
    findings: tuple[str, ...] = field(default=())

    def count(self, *healths: ServiceHealth) -> int:
        """How many services are in one of the given states."""
        return sum(verdict.health in healths for verdict in self.services)
