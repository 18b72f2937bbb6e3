"""Health of services and of a whole environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from models.analysis import Level


class Health(StrEnum):
    """Health of an environment; `unknown` services never make it healthy, `unproven` ones alone do not degrade it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ServiceHealth(StrEnum):
    """Health of one service."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number that a probe read, under a metric's name. `threshold` is the bound it passed, None if none.

    `degrades`: with it the service counts as degraded, although it answers.
    """

    metric: str
    value: float
    words: str
    concern: Level = Level.NONE
    threshold: float | None = None
    degrades: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Answer of one probe of a service. `latency_ms` is None without an answer."""

    service: str
    kind: str
    target: str
    ok: bool
    detail: str
    checked_at: datetime
    latency_ms: float | None = None
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True)
class Unasked:
    """A probe that cannot be asked from this machine, and why; its service is judged without it."""

    why: str


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

    @property
    def summary(self) -> str:
        """Health in words for users: nothing is called healthy that neither health check nor probe has proven."""
        unproven, total = self.count(ServiceHealth.UNPROVEN), len(self.services)
        if self.overall is not Health.HEALTHY or not unproven:
            return str(self.overall)
        if unproven == total:
            return "running (not proven)"
        return f"healthy ({unproven} of {total} services not proven)"


CERTAIN_CHECKS = 30
"""A score of fewer is uncertain."""

FEW_CHECKS = f"fewer than {CERTAIN_CHECKS} checks"
"""How the suggestion of a score begins that is uncertain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedScore:
    """A service's health score (0-100) at one moment, with the parts it was made of."""

    environment: str
    service: str
    score: float
    grade: str
    scored_at: datetime
    parts: dict[str, Any] = field(default_factory=dict)
    suggestions: tuple[str, ...] = ()

    @property
    def has_few_checks(self) -> bool:
        """Whether it rests on so few checks that its grade says little; its suggestions say so."""
        return any(sentence.startswith(FEW_CHECKS) for sentence in self.suggestions)
