"""Results of validation before a start."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


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
    def failed(self) -> tuple[Check, ...]:
        """Every check with a finding, the critical ones first."""
        order = list(CheckSeverity)
        found = [check for check in self.checks if not check.passed]
        return tuple(sorted(found, key=lambda check: order.index(check.severity)))

    @property
    def critical(self) -> tuple[Check, ...]:
        """The findings that stop a deployment."""
        return tuple(c for c in self.checks if not c.passed and c.severity is CheckSeverity.CRITICAL)

    @property
    def recommendations(self) -> tuple[str, ...]:
        """The fixes of the findings, the most severe first."""
        return tuple(dict.fromkeys(check.fix for check in self.failed if check.fix))
