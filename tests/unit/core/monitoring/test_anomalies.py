import math
from array import array
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.monitoring.anomalies import DriftRule, Episode, LiftRule, StuckRule, ZeroRule, judge_silence, watch_metric
from core.monitoring.detector import NOTICE, WARM_UP_ROWS, Detector, detect_csv
from models.analysis import Level
from models.failures import BadInputError

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def daily(rows: int, every: timedelta, seed: int = 0) -> list[float]:
    noise = np.random.default_rng(seed)
    turn = 2 * np.pi * np.arange(rows) * (every / timedelta(days=1))
    return list(40 + 15 * np.sin(turn) + noise.normal(0, 2, rows))


def latency(rows: int, _every: timedelta, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).lognormal(3, 0.4, rows))


def memory(rows: int, _every: timedelta, seed: int = 0) -> list[float]:
    steps = np.random.default_rng(seed).normal(0, 1, rows)
    values, level = [], 0.0
    for step in steps:
        level = 0.97 * level + step
        values.append(500 + 5 * level)
    return values


def scores(values: list[float], every: timedelta = 5 * MINUTE, start: datetime = MONDAY) -> list[float]:
    detector = Detector()
    return [detector.update(start + step * every, value).value for step, value in enumerate(values)]


def warnings(values: list[float], every: timedelta) -> list[bool]:
    detector, episode, reported = Detector(), Episode(), []
    for step, value in enumerate(values):
        episode = episode.advance(detector.update(MONDAY + step * every, value), value)
        reported.append(episode.judge().level is Level.WARNING)
    return reported


def test_clean_series_seldom_warn_after_their_first_day() -> None:
    begun = rows = 0
    for series in (daily, latency, memory):
        for seed in range(3):
            reported = warnings(series(5 * 1440, MINUTE, seed), MINUTE)[1440:]
            begun += sum(now and not before for before, now in pairwise(reported))
            rows += len(reported)
    assert begun / rows * 10_000 <= 0.5


@pytest.mark.parametrize("series", [daily, memory])
def test_a_doubled_level_warns_within_five_rows(
    series: Callable[[int, timedelta, int], list[float]],
) -> None:
    for seed in range(5):
        values = series(2500, 5 * MINUTE, seed)
        values[2000:2020] = [2 * value for value in values[2000:2020]]
        reported = warnings(values, 5 * MINUTE)
        assert not any(reported[1900:2000])
        assert any(reported[2000:2005])
        assert not any(reported[2021:2100])


def test_a_series_that_doubles_within_its_own_noise_is_a_drift() -> None:
    caught = 0
    for seed in range(5):
        values = latency(4000, MINUTE, seed)
        values[3000:3030] = [2 * value for value in values[3000:3030]]
        detector, drift, reported = Detector(), DriftRule(), []
        for step, value in enumerate(values):
            drift = drift.advance(detector.update(MONDAY + step * MINUTE, value), value)
            reported.append(drift.judge().level is Level.WARNING)
        assert not any(reported[:3000])
        assert not any(reported[3200:])
        caught += any(reported[3000:3030])
    assert caught >= 4


def bursty(rows: int, seed: int) -> list[float]:
    noise = np.random.default_rng(seed)
    busy = noise.random(rows) < 0.05
    return list(np.clip(noise.normal(10, 2, rows) + busy * noise.uniform(20, 70, rows), 0, 100))


def lifted(values: list[float]) -> list[bool]:
    rule, reported = LiftRule(), []
    for value in values:
        rule = rule.advance(value)
        reported.append(rule.judge().level is Level.WARNING)
    return reported


def test_what_stays_as_high_as_only_bursts_were_is_a_lift() -> None:
    caught = 0
    for seed in range(10):
        values = bursty(4000, seed)
        values[3000:3020] = [2 * value for value in values[3000:3020]]
        reported = lifted(values)
        assert not any(reported[:3000])
        assert not any(reported[3030:])
        caught += any(reported[3000:3010])
    assert caught >= 9


def test_a_lift_that_lasts_becomes_usual() -> None:
    reported = lifted([*bursty(1000, 0), *(value + 30 for value in bursty(1000, 1))])
    assert reported[1005]
    assert not any(reported[1400:])


@pytest.mark.parametrize(("height", "begun"), [(12.2, []), (13.0, [304]), (20.0, [304, 424])])
def test_a_lift_that_ended_is_reported_again_unless_it_was_small(height: float, begun: list[int]) -> None:
    usual, lift = [10.0 + step // 5 % 3 for step in range(300)], [height] * 20
    reported = lifted([*usual, *lift, *usual[:100], *lift, *usual[:100]])
    assert [row for row in range(1, len(reported)) if reported[row] and not reported[row - 1]] == begun


def test_a_single_odd_row_is_a_notice_and_no_warning() -> None:
    values = daily(2500, 5 * MINUTE)
    values[2000] = 500.0
    assert scores(values)[2000] >= NOTICE
    assert not any(warnings(values, 5 * MINUTE)[2000:2100])


def test_one_incident_is_reported_once() -> None:
    values = daily(2500, 5 * MINUTE)
    values[2000:2020] = [100.0] * 20
    reported = scores(values)[2000:2060]
    assert reported[0] >= NOTICE
    assert sum(score >= NOTICE for score in reported) == 1


def test_the_same_incident_again_is_reported_again() -> None:
    values = daily(4000, 5 * MINUTE)
    for row in (1500, 2400, 3600):
        values[row : row + 10] = [200.0] * 10
    reported, warned = scores(values), warnings(values, 5 * MINUTE)
    assert all(reported[row] >= NOTICE for row in (1500, 2400, 3600))
    begun = [row for row in range(WARM_UP_ROWS, 4000) if warned[row] and not warned[row - 1]]
    assert begun == [1501, 2401, 3601]


def test_an_absurd_value_does_not_make_a_metric_deaf() -> None:
    values = daily(2500, 5 * MINUTE)
    values[1000] = 1e9
    values[2400] = 200.0
    assert scores(values)[2400] >= NOTICE


def test_the_reason_names_the_range_that_was_left() -> None:
    detector = Detector()
    for step, value in enumerate(daily(2000, 5 * MINUTE)):
        detector.update(MONDAY + step * 5 * MINUTE, value)
    reason = detector.update(MONDAY + 2000 * 5 * MINUTE, 93.0).reason
    assert reason.startswith("93 is above everything seen in 2000 rows (")


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=700),
    cut=st.floats(0, 1),
    minutes=st.integers(1, 240),
)
def test_a_restart_of_the_process_changes_no_score(values: list[float], cut: float, minutes: int) -> None:
    every = minutes * MINUTE
    whole, detector = Detector(), Detector()
    for step, value in enumerate(values):
        at = None if step % 7 == 3 else MONDAY + step * every
        if step == int(cut * len(values)):
            detector = Detector.from_state(detector.to_state())
        assert detector.update(at, value) == whole.update(at, value)
    assert detector.to_state() == whole.to_state()


def test_the_state_stays_small() -> None:
    detector = Detector()
    noise = np.random.default_rng(3)
    for step in range(20_000):
        detector.update(MONDAY + step * MINUTE, float(noise.pareto(1.2)) * 10 ** (step % 5))
    assert len(detector.to_state()) < 12_000


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (0.001, 0.0), (-1.0, 0.0), (3.7, -500.0)])
def test_the_scale_of_a_metric_does_not_matter(factor: float, shift: float) -> None:
    values = daily(3000, 5 * MINUTE)
    values[2500] = 90.0
    assert scores([factor * value + shift for value in values]) == pytest.approx(scores(values), abs=0.02)


def test_the_date_of_the_first_row_does_not_matter() -> None:
    values = daily(3000, 5 * MINUTE)
    later = MONDAY + timedelta(days=1234, hours=5, minutes=17)
    assert scores(values, start=later) == scores(values)


def test_a_constant_series_scores_nothing_until_it_changes() -> None:
    reported = scores([5.0] * 1000 + [6.0])
    assert max(reported[:1000]) < NOTICE
    assert reported[1000] >= NOTICE


def test_times_may_be_missing_late_or_far_apart() -> None:
    noise = np.random.default_rng(7)
    detector = Detector()
    for step, value in enumerate(daily(2000, 5 * MINUTE)):
        at = MONDAY + step * 5 * MINUTE + timedelta(seconds=float(noise.normal(0, 900)))
        at += timedelta(days=30) if step > 1000 else timedelta()
        score = detector.update(None if step % 11 == 0 else at, value)
        assert 0 <= score.value <= score.raw < 1


def test_is_not_settled_before_200_rows() -> None:
    detector = Detector()
    settled = [detector.update(None, float(step % 5)).settled for step in range(WARM_UP_ROWS + 2)]
    assert settled.index(True) == WARM_UP_ROWS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_refuses_what_is_no_usable_number(value: float) -> None:
    with pytest.raises(BadInputError):
        Detector().update(MONDAY, value)


OF_VERSION_1 = array("d", [1.0, *[0.0] * 2000]).tobytes()


@pytest.mark.parametrize("state", [b"", b"x", b"12345678" * 40, OF_VERSION_1])
def test_refuses_a_state_it_cannot_read(state: bytes) -> None:
    with pytest.raises(BadInputError, match="start anew"):
        Detector.from_state(state)


def test_detect_gives_back_the_same_rows_in_the_same_order() -> None:
    rows = [f"2026-03-02 {hour:02}:00:00,{hour}.50" for hour in range(24)]
    out = list(detect_csv(["timestamp,value\n", *[f"{row}\n" for row in rows]]))
    assert out[0] == "timestamp,value,anomaly_score"
    assert [line.rsplit(",", 1)[0] for line in out[1:]] == rows
    assert all(0 <= float(line.rsplit(",", 1)[1]) <= 1 for line in out[1:])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "Line 1"),
        (["time,value"], "Line 1"),
        (["timestamp,value", "2026-03-02 00:00:00,1", "2026-03-02 00:05:00,nan"], "Line 3"),
        (["timestamp,value", "2026-03-02 00:00:00,many"], "Line 2 has 'many'"),
        (["timestamp,value", "yesterday,1"], "Line 2 has 'yesterday'"),
        (["timestamp,value", "2026-03-02 00:00:00,1,2"], "Line 2 has 3 columns"),
    ],
)
def test_detect_names_the_line_it_cannot_use(lines: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        list(detect_csv(lines))


def test_a_value_that_stands_still_for_longer_than_ever_is_stuck() -> None:
    rule = StuckRule()
    for value in daily(1000, 5 * MINUTE):
        rule = rule.advance(value)
    for _ in range(58):
        rule = rule.advance(40.0)
        assert rule.judge().level is Level.NONE
    for _ in range(2):
        rule = rule.advance(40.0)
    assert rule.judge().level is Level.WARNING
    assert "stands at exactly 40 for 60 rows" in rule.judge().reason
    assert rule.advance(41.0).judge().level is Level.NONE


def test_a_metric_that_often_stands_still_is_never_stuck() -> None:
    rule = StuckRule()
    for step in range(3000):
        rule = rule.advance(float(step // 40))
    for _ in range(500):
        rule = rule.advance(7.0)
        assert rule.judge().level is Level.NONE


def after(rule: ZeroRule, values: list[float]) -> ZeroRule:
    for value in values:
        rule = rule.advance(value)
    return rule


def test_a_metric_that_was_never_near_zero_has_dropped_to_zero_if_it_stays_there() -> None:
    rule = after(ZeroRule(), daily(1000, 5 * MINUTE))
    assert rule.judge().level is Level.NONE
    levels = [after(rule, [0.0] * rows).judge().level for rows in (1, 2, 3, 4)]
    assert levels == [Level.NOTICE, Level.NOTICE, Level.CRITICAL, Level.CRITICAL]
    assert "in 1000 rows it was never below" in after(rule, [0.0] * 3).judge().reason
    assert after(rule, [0.0, 0.0, 0.0, 40.0]).judge().level is Level.NONE
    assert after(rule, [0.0, 0.0, 40.0, 0.0, 0.0]).judge().level is Level.NOTICE


def test_a_metric_that_is_often_zero_does_not_drop() -> None:
    rule = after(ZeroRule(), [float(step % 10 == 0) for step in range(1000)])
    assert after(rule, [0.0] * 5).judge().level is Level.NONE


def test_a_metric_that_has_been_near_zero_does_not_drop() -> None:
    rule = after(ZeroRule(), [3.0 if step % 300 == 299 else 50.0 for step in range(1000)])
    assert after(rule, [0.0] * 5).judge().level is Level.NONE


def test_a_drop_that_lasts_becomes_usual() -> None:
    rule = after(ZeroRule(), [50.0] * 400)
    levels = {rows: after(rule, [0.0] * rows).judge().level for rows in (98, 99, 100, 400)}
    assert levels == {98: Level.CRITICAL, 99: Level.CRITICAL, 100: Level.NONE, 400: Level.NONE}


@pytest.mark.parametrize(
    ("missed", "level"), [(1, Level.NONE), (3, Level.NONE), (4, Level.WARNING), (11, Level.CRITICAL)]
)
def test_silence_is_judged_by_how_often_data_should_come(missed: int, level: Level) -> None:
    assert judge_silence(MONDAY, MONDAY + missed * MINUTE, every=MINUTE).level is level


def test_a_watched_metric_needs_nothing_but_its_state() -> None:
    values = daily(1500, 5 * MINUTE)
    values[1300:1320] = [100.0] * 20
    values[1400:1465] = [40.0] * 65
    values[1480:] = [0.0] * 20
    state, reported = None, []
    for step, value in enumerate(values):
        seen = watch_metric(state, MONDAY + step * 5 * MINUTE, value)
        state = seen.state
        reported.append((seen.judgement.level, seen.lasting))
    assert (Level.WARNING, True) not in reported[500:1300]
    assert reported[1301] == (Level.WARNING, True)
    assert reported[1460] == (Level.WARNING, True)
    assert reported[1480] == (Level.NOTICE, False)
    assert reported[1482] == (Level.CRITICAL, True)
    assert len(state or b"") < 12_000


@pytest.mark.parametrize("state", [b"", b"12345678", (2).to_bytes(4, "little") + b"[]"])
def test_refuses_a_watched_state_it_cannot_read(state: bytes) -> None:
    with pytest.raises(BadInputError, match="start anew"):
        watch_metric(state, MONDAY, 1.0)
