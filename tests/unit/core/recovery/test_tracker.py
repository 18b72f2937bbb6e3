"""What the engine's events say of a service's ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.recovery.tracker import ServiceTracker
from models.containers import ContainerEvent

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def after(*actions: str) -> ServiceTracker:
    """Events of one container, a second apart; "kill" is the signal of a stop."""
    tracker = ServiceTracker()
    for number, action in enumerate(actions):
        attributes = {"signal": "15"} if action == "kill" else {}
        happened_at = NOON + timedelta(seconds=number)
        event = ContainerEvent(
            happened_at=happened_at, container_id="a", service="web", project="x", action=action, attributes=attributes
        )
        tracker = tracker.apply_event(event)
    return tracker


@pytest.mark.parametrize(
    ("actions", "ends"),
    [
        (("die",), 1),
        (("kill", "die", "stop"), 0),
        # As the engine reports the stop of a program that ends at once.
        (("kill", "stop", "die"), 0),
        (("kill", "stop", "die", "destroy", "start", "die"), 1),
        (("kill", "stop", "die", "start", "die"), 1),
        (("die", "start", "die"), 2),
    ],
)
def test_an_end_that_was_asked_for_is_no_end_of_its_own(actions: tuple[str, ...], ends: int) -> None:
    assert len(after(*actions).ends) == ends
