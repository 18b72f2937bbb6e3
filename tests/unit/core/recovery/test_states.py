from __future__ import annotations

from itertools import product

import pytest

from core.recovery.states import RecoveryEvent as Event
from core.recovery.states import RecoveryState as State
from core.recovery.states import next_state

ALLOWED = {
    State.OPEN: {
        Event.PLAN: State.PLANNED,
        Event.RESUME: State.ACTING,
        Event.DECIDE: State.ACTING,
        Event.POSTPONE: State.OPEN,
        Event.RESOLVE: State.RESOLVED,
        Event.ESCALATE: State.ESCALATED,
    },
    State.PLANNED: {
        Event.START: State.ACTING,
        Event.REPLAN: State.OPEN,
        Event.POSTPONE: State.OPEN,
        Event.ESCALATE: State.ESCALATED,
    },
    State.ACTING: {
        Event.FINISH: State.VERIFYING,
        Event.REPLAN: State.OPEN,
        Event.POSTPONE: State.OPEN,
        Event.ESCALATE: State.ESCALATED,
    },
    State.VERIFYING: {
        Event.RESOLVE: State.RESOLVED,
        Event.FAIL: State.OPEN,
        Event.POSTPONE: State.OPEN,
        Event.ESCALATE: State.ESCALATED,
    },
    State.RESOLVED: {},
    State.ESCALATED: {},
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_each_state_allows_its_own_events_only(state: State, event: Event) -> None:
    expected = ALLOWED[state].get(event)
    if expected is None:
        with pytest.raises(ValueError, match=f"{state} cannot {event}"):
            next_state(state, event)
    else:
        assert next_state(state, event) is expected


def test_a_failed_attempt_is_planned_again_until_it_is_verified() -> None:
    state = State.OPEN
    for event in (Event.PLAN, Event.START, Event.FINISH, Event.FAIL, Event.PLAN, Event.START, Event.FINISH):
        state = next_state(state, event)
    assert next_state(state, Event.RESOLVE) is State.RESOLVED
