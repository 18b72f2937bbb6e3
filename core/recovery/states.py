"""States of a recovery and the transitions between them."""

from __future__ import annotations

from enum import StrEnum


class RecoveryState(StrEnum):
    """State of one recovery."""

    OPEN = "open"
    PLANNED = "planned"
    ACTING = "acting"
    VERIFYING = "verifying"
    RESOLVED = "resolved"
    ESCALATED = "escalated"


class RecoveryEvent(StrEnum):
    """What moves a recovery from one state to the next."""

    PLAN = "plan"
    REPLAN = "plan again"
    POSTPONE = "postpone"
    START = "start"
    RESUME = "resume"
    FINISH = "finish"
    FAIL = "fail"
    RESOLVE = "resolve"
    ESCALATE = "escalate"
    DECIDE = "decide"


_LIVE = (RecoveryState.OPEN, RecoveryState.PLANNED, RecoveryState.ACTING, RecoveryState.VERIFYING)
_TRANSITIONS = {
    **{(state, RecoveryEvent.POSTPONE): RecoveryState.OPEN for state in _LIVE},
    **{(state, RecoveryEvent.ESCALATE): RecoveryState.ESCALATED for state in _LIVE},
    (RecoveryState.OPEN, RecoveryEvent.PLAN): RecoveryState.PLANNED,
    # An attempt of a dead process is continued, without a new plan.
    (RecoveryState.OPEN, RecoveryEvent.RESUME): RecoveryState.ACTING,
    (RecoveryState.OPEN, RecoveryEvent.DECIDE): RecoveryState.ACTING,
    (RecoveryState.OPEN, RecoveryEvent.RESOLVE): RecoveryState.RESOLVED,
    (RecoveryState.PLANNED, RecoveryEvent.START): RecoveryState.ACTING,
    (RecoveryState.PLANNED, RecoveryEvent.REPLAN): RecoveryState.OPEN,
    (RecoveryState.ACTING, RecoveryEvent.FINISH): RecoveryState.VERIFYING,
    # An action that a fact forbids is refused before it begins.
    (RecoveryState.ACTING, RecoveryEvent.REPLAN): RecoveryState.OPEN,
    (RecoveryState.VERIFYING, RecoveryEvent.RESOLVE): RecoveryState.RESOLVED,
    (RecoveryState.VERIFYING, RecoveryEvent.FAIL): RecoveryState.OPEN,
}


def next_state(state: RecoveryState, event: RecoveryEvent) -> RecoveryState:
    """Return the state that an event leads to. Raises ValueError if the state has no such transition."""
    after = _TRANSITIONS.get((state, event))
    if after is None:
        raise ValueError(f"a recovery that is {state} cannot {event}")
    return after
