"""When two errors are taken for one cause in other words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.errors import SAID, Category, RecordedError, Severity, Strategy, Verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOWN = RecordedError(
    error_id="e1",
    environment="shop",
    service="web",
    text="it is down",
    source="watch",
    first_seen=NOON,
    last_seen=NOON,
    verdict=Verdict(
        category=Category.PORT_CONFLICT,
        severity=Severity.HIGH,
        strategy=Strategy.INVESTIGATE,
        confidence=0.9,
        reason="the port is taken.",
    ),
)


@pytest.mark.parametrize(
    ("said", "says", "alike"),
    [("port 80", "port 80", True), ("port 80", "port 81", False), ("port 80", "", True), ("", "port 81", True)],
)
def test_what_both_say_has_to_be_the_same(said: str, says: str, alike: bool) -> None:
    first, other = (replace(DOWN, evidence={SAID: text} if text else {}) for text in (said, says))

    assert first.is_alike(other) is alike


def test_errors_of_other_services_or_causes_and_unknown_ones_are_not() -> None:
    unknown = replace(DOWN, verdict=replace(DOWN.verdict, category=Category.UNKNOWN))
    full = replace(DOWN, verdict=replace(DOWN.verdict, category=Category.DISK_FULL))

    assert not any(DOWN.is_alike(other) for other in (replace(DOWN, service="db"), unknown, full))
    assert not unknown.is_alike(unknown)
