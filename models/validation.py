"""Validation before a start: its results, and the facts it judges. Names and states only, no values of secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from models.compose import Application, ComposeVariable, ImageFact, Mount, NetworkFact, PublishedPort
from models.containers import ContainerState, EngineInfo, SystemSample


class CheckSeverity(StrEnum):
    """Only critical findings stop a deployment."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: passed, or a finding with its severity and fix."""

    name: str
    passed: bool
    severity: CheckSeverity
    finding: str
    fix: str = ""
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """All checks of one validation."""

    environment: str
    validated_at: datetime
    checks: tuple[Check, ...]
    system_resources: dict[str, Any] = field(default_factory=dict)
    docker_environment: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True unless a critical check failed."""
        return not self.critical

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """Every check with a finding, the critical ones first."""
        order = list(CheckSeverity)
        findings = [check for check in self.checks if not check.passed]
        return tuple(sorted(findings, key=lambda check: order.index(check.severity)))

    @property
    def critical(self) -> tuple[Check, ...]:
        """The findings that stop a deployment."""
        return tuple(c for c in self.checks if not c.passed and c.severity is CheckSeverity.CRITICAL)

    @property
    def recommendations(self) -> tuple[str, ...]:
        """The fixes of the findings, the most severe first."""
        return tuple(dict.fromkeys(check.fix for check in self.failed_checks if check.fix))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A fact that could not be gathered: the failure, and what to do."""

    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWanted:
    """An image that a service needs; `unavailable` says why the engine neither holds it nor can get it.

    `similar` is then a name that is nearly the same and that the engine holds; empty without one.
    """

    service: str
    reference: str
    held: ImageFact | None
    buildable: bool = False
    build_problem: str | None = None
    unavailable: str | None = None
    similar: str = ""
    missing_programs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWanted:
    """A host port that a service publishes. `holder` says who uses it, None if it is free."""

    service: str
    port: PublishedPort
    holder: str | None = None
    own: bool = False

    def __str__(self) -> str:
        """Say who uses it."""
        first, last = self.port.published, self.port.published_last
        number = f"{first if last is None else f'{first}-{last}'}/{self.port.protocol}"
        return f"Port {number} of {self.service} is {f'taken by {self.holder}' if self.holder else 'free'}."


@dataclass(frozen=True, slots=True, kw_only=True)
class MountWanted:
    """A file or folder of the host that a service mounts, and the problem with it or its content."""

    service: str
    mount: Mount
    problem: str | None = None
    content_problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about an environment before a start.

    None stands for a fact that could not be gathered; `gaps` then says why. `variables`, `secrets` and `probed` are
    the names that the environment requires, and of its services that have a probe. `hook_problems` says what is wrong
    with the services that hooks name, by hook, `missing_needs` by need which services its environment has instead,
    `unasked_probes` by service why its probe cannot be asked from here.
    """

    environment: str
    engine_url: str
    variables: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    probed: frozenset[str] = frozenset()
    engine: EngineInfo | Trouble
    compose_version: str | Trouble
    declared: Application | Trouble
    missing_variables: tuple[str, ...] = ()
    withheld_variables: tuple[str, ...] = ()
    missing_secrets: dict[str, str] = field(default_factory=dict)
    empty_variables: tuple[ComposeVariable, ...] = ()
    container_states: tuple[ContainerState, ...] = ()
    images: tuple[ImageWanted, ...] = ()
    ports: tuple[PortWanted, ...] = ()
    names_taken: dict[str, str] = field(default_factory=dict)
    networks: tuple[NetworkFact, ...] | None = None
    volumes: tuple[str, ...] | None = None
    mounts: tuple[MountWanted, ...] = ()
    host: SystemSample | None = None
    clock_offset: timedelta | None = None
    held_by: str | None = None
    hook_problems: dict[str, str] = field(default_factory=dict)
    missing_needs: dict[str, str] = field(default_factory=dict)
    unasked_probes: dict[str, str] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()

    @property
    def application(self) -> Application:
        """The declared application.

        Raises:
            ValueError: Compose could not read it; validation has a critical finding that says why.
        """
        if isinstance(self.declared, Trouble):
            raise ValueError(self.declared.what)
        return self.declared
