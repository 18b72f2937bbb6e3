"""Build the checks of a validation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from models.validation import Check, CheckSeverity

CRITICAL, WARNING, INFO = CheckSeverity.CRITICAL, CheckSeverity.WARNING, CheckSeverity.INFO


def passed(name: str, finding: str, subject: str | None = None) -> Check:
    """Return a check that passed."""
    return Check(name=name, passed=True, severity=INFO, finding=finding, subject=subject)


def found(name: str, severity: CheckSeverity, finding: str, fix: str, subject: str | None = None) -> Check:
    """Return a check that failed, with its fix."""
    return Check(name=name, passed=False, severity=severity, finding=finding, fix=fix, subject=subject)


def found_or_passed(name: str, findings: list[Check], well: str) -> Iterator[Check]:
    """Yield the findings, or one passed check if there are none."""
    yield from findings or [passed(name, well)]


def version_numbers(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version, (0, 0) if it has none."""
    numbers = re.findall(r"\d+", text)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else (0, 0)


def dotted(version: tuple[int, int]) -> str:
    """Write a version with a dot."""
    return f"{version[0]}.{version[1]}"


def size_in_words(count: float) -> str:
    """Write a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
