from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core.monitoring.baselines import baseline, judge, learn
from models.analysis import Level
from models.failures import BadInputError

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def learned(days: float, every: timedelta = timedelta(minutes=5), seed: int = 1) -> bytes:
    noise = np.random.default_rng(seed)
    state = None
    for step in range(int(timedelta(days=days) / every)):
        at = MONDAY + step * every
        swing = 15 * np.sin(2 * np.pi * (at.hour + at.minute / 60) / 24)
        state = learn(state, at, 40 + swing + noise.normal(0, 3))
    assert state is not None
    return state


def test_says_nothing_before_a_day_of_history() -> None:
    state = learned(0.9)
    said = judge(state, MONDAY + timedelta(days=0.9), 500.0)
    assert said.level is Level.NONE
    assert "still learning" in said.reason


def test_shows_the_usual_value_but_no_thresholds_before_a_day_of_history() -> None:
    early = baseline(learned(0.5), service="bot", metric="cpu_percent")
    assert early is not None
    assert early.warning is None
    assert early.critical is None
    assert 20 < early.value < 70


def test_thresholds_lie_above_everything_seen_after_a_day() -> None:
    usual = baseline(learned(3), service="bot", metric="cpu_percent")
    assert usual is not None
    assert usual.warning is not None
    assert usual.critical is not None
    assert 60 < usual.warning < usual.critical < 110
    assert usual.value == pytest.approx(40, abs=3)


def test_explains_with_the_highest_value_and_the_usual_range_of_the_hour() -> None:
    said = judge(learned(15), MONDAY + timedelta(days=15, hours=14), 93.0, metric="cpu_percent")
    assert said.level is Level.CRITICAL
    assert said.reason.startswith("CPU 93 %, never above ")
    assert "in 14 days; usual on Tuesdays at 14 h: " in said.reason


def test_a_value_usual_at_another_hour_is_only_a_notice() -> None:
    at_night = MONDAY + timedelta(days=5, hours=18)
    said = judge(learned(5), at_night, 56.0, metric="cpu_percent")
    assert said.level is Level.NOTICE


def test_values_of_an_incident_are_not_learned_while_frozen() -> None:
    state = learned(2)
    frozen = state
    for minute in range(600):
        frozen = learn(frozen, MONDAY + timedelta(days=2, minutes=minute), 1000.0, frozen=True)
    assert frozen == state


def test_one_bad_day_does_not_raise_the_ceiling_for_good() -> None:
    state = learned(8)
    before = baseline(state, service="bot", metric="cpu_percent")
    for minute in range(120):
        state = learn(state, MONDAY + timedelta(days=8, minutes=minute), 900.0)
    state = learn(state, MONDAY + timedelta(days=8, hours=3), 40.0)
    after = baseline(state, service="bot", metric="cpu_percent")
    assert before is not None
    assert after is not None
    assert after.warning == pytest.approx(before.warning, rel=0.1)


def test_a_constant_metric_does_not_shout_at_a_ripple() -> None:
    state = None
    for minute in range(3 * 24 * 60):
        state = learn(state, MONDAY + timedelta(minutes=minute), 50.0)
    assert judge(state, MONDAY + timedelta(days=3), 51.0).level is Level.NONE


def test_hours_without_values_are_forgotten_not_invented() -> None:
    state = learned(3)
    state = learn(state, MONDAY + timedelta(days=40), 40.0)
    assert baseline(state, service="bot", metric="cpu_percent") is None


def test_sampling_may_be_dense_or_sparse() -> None:
    for every in (timedelta(seconds=15), timedelta(minutes=1), timedelta(hours=1)):
        usual = baseline(learned(10, every), service="bot", metric="cpu_percent")
        assert usual is not None
        assert usual.value == pytest.approx(40, abs=4)


def test_the_state_stays_small() -> None:
    assert len(learned(30)) < 8_000


def test_late_values_change_nothing() -> None:
    state = learned(1)
    assert learn(state, MONDAY, 10_000.0) == state


def test_refuses_a_value_that_is_no_number() -> None:
    for value in ("nan", "inf", "-inf"):
        with pytest.raises(BadInputError, match=f"was {value}, which is no number; leave the row out"):
            learn(None, MONDAY, float(value))


def test_refuses_a_state_it_cannot_read() -> None:
    with pytest.raises(BadInputError, match="learn it anew"):
        baseline(b"garbage", service="bot", metric="cpu_percent")
