"""Build the checks of a validation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from models.validation import Check, CheckSeverity

CRITICAL, WARNING, INFO = CheckSeverity.CRITICAL, CheckSeverity.WARNING, CheckSeverity.INFO


class Findings(list[Check]):
    """The findings of one check, each with its fix and the service or name that it is about."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def add(self, severity: CheckSeverity, finding: str, fix: str, subject: str | None = None) -> None:
        """Add a finding."""
        self.append(Check(name=self._name, passed=False, severity=severity, finding=finding, fix=fix, subject=subject))

    def critical(self, finding: str, fix: str, subject: str | None = None) -> None:
        """Add a finding that stops a start."""
        self.add(CRITICAL, finding, fix, subject)

    def warn(self, finding: str, fix: str, subject: str | None = None) -> None:
        """Add a finding that a start goes on with."""
        self.add(WARNING, finding, fix, subject)

    def or_passed(self, sentence: str, subject: str | None = None) -> Sequence[Check]:
        """The findings, or without any the passed check."""
        return self or [Check(name=self._name, passed=True, severity=INFO, finding=sentence, subject=subject)]


def version_numbers(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version, (0, 0) if it has none."""
    numbers = re.findall(r"\d+", text)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else (0, 0)


def dot_version(version: tuple[int, int]) -> str:
    """Write a version with a dot."""
    return f"{version[0]}.{version[1]}"
