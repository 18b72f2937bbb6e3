"""Adjust verdicts on failures."""

from __future__ import annotations

import dataclasses

from core.errors.evidence import shorten
from models.errors import Category, Evidence, Severity, Strategy, Verdict

_SEVERAL = "several services fail at once"
"""Replaces the template of their texts: the failing services differ from one inspection to the next, the cause is one.
"""


def as_failure(verdict: Verdict, text: str, evidence: Evidence | None = None) -> Verdict:
    """Return the verdict on a failure: its cause may be unknown, but it is not benign.

    A service that exited with code 0 has failed if it should stay up.
    """
    if verdict.category is not Category.BENIGN:
        return verdict
    if evidence is not None and evidence.container_state == "exited" and evidence.exit_code == 0:
        return dataclasses.replace(
            verdict,
            category=Category.CONTAINER_EXITED,
            severity=Severity.HIGH,
            strategy=Strategy.RESTART_SERVICE,
            reason="It ended with exit code 0, and it is to stay up.",
        )
    return dataclasses.replace(
        verdict,
        category=Category.UNKNOWN,
        severity=Severity.HIGH,
        strategy=Strategy.INVESTIGATE,
        reason=f'"{shorten(text)}" is a failure and names no known cause',
    )


def as_one_of_several(verdict: Verdict, failing: int) -> Verdict:
    """Return the verdict on one of several services that fail at once: their common cause is not in its text."""
    return dataclasses.replace(
        verdict,
        category=Category.UNKNOWN,
        severity=Severity.CRITICAL,
        strategy=Strategy.INVESTIGATE,
        reason=f"{failing} services fail at once, which points to the host or the engine.",
        pattern_name=None,
        span=None,
        template=_SEVERAL,
    )
