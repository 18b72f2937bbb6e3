"""Evidence of a service at one moment, collected before anything is replaced."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from models.containers import ContainerEvent, SystemSample

LOG_BYTES = 64 * 1024
"""Largest size of one container's log."""

BUNDLE_BYTES = 256 * 1024
"""Largest size of one bundle's texts."""


class EvidenceOccasion(StrEnum):
    """Why evidence was taken: the container is about to be replaced, or its service failed."""

    REPLACEMENT = "replacement"
    FAILURE = "failure"


class MemoryGrade(StrEnum):
    """Certainty that the kernel killed a process for its memory use."""

    PROVEN = "proven"
    PROBABLE = "probable"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySigns:
    """Signs of a kill for memory; None where a sign could not be read.

    `oom_kills` is the kernel's count for the container's group, `kernel_lines` are the lines of the kernel's log that
    name the container.
    """

    oom_kills: int | None = None
    kernel_lines: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFinding:
    """Conclusion from the signs in one sentence; empty for grade none."""

    grade: MemoryGrade = MemoryGrade.NONE
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEvidence:
    """One container: how it stood, and what its end says. `ended` is the end in words, empty while it runs."""

    service: str
    name: str
    container_id: str
    image: str
    state: str
    exit_code: int | None = None
    ended: str = ""
    memory: MemoryFinding = MemoryFinding()
    memory_signs: MemorySigns = MemorySigns()
    memory_limit_bytes: int | None = None
    restart_count: int = 0
    health: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExcerpt:
    """The last lines of one container's log, with the engine's time stamps. `cut`: there were more."""

    service: str
    container: str
    lines: tuple[str, ...]
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutput:
    """Output of one health check or probe: `times` equal answers in a row, from `first_at` to `last_at`."""

    service: str
    source: str
    ok: bool
    output: str
    first_at: datetime
    last_at: datetime
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceBundle:
    """One service at one moment, with what it depends on; redacted before it is written anywhere.

    `first_cause` is one sentence. `missing` says of each part that could not be had why not, and of each
    service what only Compose does.
    """

    bundle_id: str
    environment: str
    service: str
    taken_at: datetime
    occasion: EvidenceOccasion
    reason: str
    first_cause: str
    cause_service: str
    deployment_id: str | None = None
    error_id: str | None = None
    containers: tuple[ContainerEvidence, ...] = ()
    logs: tuple[LogExcerpt, ...] = ()
    probes: tuple[ProbeOutput, ...] = ()
    events: tuple[ContainerEvent, ...] = ()
    host: SystemSample | None = None
    missing: tuple[str, ...] = field(default=())
