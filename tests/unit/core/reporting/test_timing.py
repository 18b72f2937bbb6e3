"""The phases of a command and their sum against the clock."""

from __future__ import annotations

import pytest

from core.reporting.timing import Phase, Timing


def test_time_outside_every_phase_is_shown() -> None:
    timing = Timing(phases={Phase.ENTRY: 0.25, Phase.SERVICES: 2.0}, wall=2.5)
    assert timing.accounted_seconds == pytest.approx(2.25)
    assert timing.figures() == {
        "phases_seconds": {"entry": 0.25, "services": 2.0},
        "sum_seconds": 2.25,
        "unaccounted_seconds": 0.25,
        "wall_seconds": 2.5,
    }
