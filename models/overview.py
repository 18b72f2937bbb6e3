"""The overview: every environment that was operated, each in the facts that a person looks for first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.health import HealthReport
from models.hosts import HostedEnvironment
from models.operations import Operation


class VerdictLevel(StrEnum):
    """How good or bad a verdict is; each has a shape of its own, so that no colour alone says it."""

    GOOD = "good"
    UNPROVEN = "unproven"
    WARNING = "warning"
    BAD = "bad"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthVerdict:
    """Judgement of an environment or a service, in words and by level."""

    words: str
    level: VerdictLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRecords:
    """What the stores say of one environment, as the overview reads it of all at once.

    `checked_at` is when its health was last confirmed, `stopped_at` when it was stopped on request, `proven_at` when a
    release of it was proven last, and `saved_at` when its newest whole snapshot began. `open_tickets` and `open_alerts`
    count those that are not resolved.
    """

    environment: str
    health: HealthReport | None = None
    checked_at: datetime | None = None
    stopped_at: datetime | None = None
    last_operation: Operation | None = None
    running: Operation | None = None
    open_tickets: int = 0
    open_alerts: int = 0
    proven_at: datetime | None = None
    saved_at: datetime | None = None
    binding: HostedEnvironment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSummary:
    """One environment in the overview.

    `up` of `services` serve; both are None where it is stopped or was never judged.
    """

    environment: str
    verdict: HealthVerdict
    up: int | None
    services: int | None
    needs_attention: bool
    records: EnvironmentRecords
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Every environment by name. `at` is when it was read; `hosts` counts those that share the stores."""

    at: datetime
    environments: tuple[EnvironmentSummary, ...]
    hosts: int = 0
