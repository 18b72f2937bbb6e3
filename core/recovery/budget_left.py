"""Say how much of the budgets for automatic recovery of an error is left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from core.recovery.policy import concerns
from models.environments import RecoveryPolicy
from models.errors import RecordedError
from models.recovery import RecoveryExecution


def budget_left(
    error: RecordedError, past: Sequence[RecoveryExecution], policy: RecoveryPolicy, now: datetime
) -> tuple[str, ...]:
    """What is left of the attempts at an error and of the points of its service, a sentence each.

    `past` are all attempts at this error, and those of at least the last day in its environment. What a host has left
    is shared by its environments, and not said here.
    """
    if not policy.automatic:
        return ("Automatic recovery is switched off for this environment.",)
    counting = [execution for execution in past if execution.points]
    made = sum(execution.error_id == error.error_id for execution in counting)
    remaining = max(0, policy.attempts_per_error - made)
    sentences = [f"{remaining} of {policy.attempts_per_error} attempts at this error are left."]
    if error.service is None:
        return tuple(sentences)
    of_service = [execution for execution in counting if concerns(execution, error, error.service)]
    for window, words, allowed in (
        (timedelta(minutes=15), "15 minutes", policy.attempts_per_service_15min),
        (timedelta(days=1), "a day", policy.attempts_per_service_day),
    ):
        used = sum(execution.points for execution in of_service if now - execution.started_at < window)
        sentences.append(f"{max(0, allowed - used)} of {allowed} points of {error.service} within {words} are left.")
    return tuple(sentences)
