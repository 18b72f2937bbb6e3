"""A service judged by what its Compose file says it is: a job that ends, or something that stays up."""

from __future__ import annotations

import dataclasses

from core.errors.evidence import shorten
from models.errors import Category, Evidence, Severity, Strategy, Verdict

_SEVERAL = "several services fail at once"
"""Instead of the template of their words: who fails differs from look to look, and the cause is one."""


def as_failure(verdict: Verdict, text: str, evidence: Evidence | None = None) -> Verdict:
    """The verdict on `text` that came out of a failure: it may be of unknown cause, but not benign.

    What ended well has failed all the same where it was to stay up.
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
    """The verdict on one of so many services that fail at once: their one cause is in none of their words."""
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
