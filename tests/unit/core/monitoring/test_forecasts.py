from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core.monitoring.forecasts import forecast, remember, remembered_points

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
STEP = timedelta(minutes=10)
DAY = 144
History = list[tuple[datetime, float]]


def remembering(rows: int, memory: float, noise: np.random.Generator) -> np.ndarray:
    out, level = np.empty(rows), 0.0
    for row in range(rows):
        level = memory * level + noise.normal()
        out[row] = level
    return out


def history(values: np.ndarray) -> History:
    return [(MONDAY + row * STEP, float(value)) for row, value in enumerate(values)]


def leak(seed: int, memory: float, swing: float) -> tuple[History, datetime]:
    """A metric that rises from 30 towards 90, seen until a day before it gets there."""
    noise = np.random.default_rng(seed)
    slope = noise.uniform(0.3, 0.8)
    crosses = timedelta(hours=60 / slope)
    rows = int((crosses - timedelta(days=1)) / STEP)
    at = np.arange(rows)
    values = 30 + slope * at / 6 + swing * np.sin(2 * np.pi * at / DAY) + 2 * remembering(rows, memory, noise)
    return history(values), MONDAY + crosses


@pytest.mark.parametrize(("memory", "swing"), [(0.0, 0.0), (0.0, 8.0), (0.9, 0.0), (0.9, 8.0)])
def test_at_least_80_of_100_intervals_contain_the_true_crossing(memory: float, swing: float) -> None:
    said = covered = 0
    for seed in range(50):
        seen, crosses = leak(seed, memory, swing)
        reported = forecast(
            seen,
            metric="memory_percent",
            threshold=90.0,
            horizon=timedelta(days=5),
            rhythm=timedelta(days=1) if swing else timedelta(),
        )
        if reported is not None:
            assert reported.latest is not None
            said += 1
            covered += reported.earliest <= crosses <= reported.latest
    assert said >= 25
    assert covered >= 0.8 * said


@pytest.mark.parametrize("kind", ["white", "remembering", "daily"])
def test_says_nothing_of_series_that_go_nowhere(kind: str) -> None:
    false = days = 0
    for seed in range(8):
        noise = np.random.default_rng(seed)
        rows = 14 * DAY
        values = {
            "white": noise.normal(50, 3, rows),
            "remembering": 50 + remembering(rows, 0.98, noise),
            "daily": 50 + 15 * np.sin(2 * np.pi * np.arange(rows) / DAY) + noise.normal(0, 2, rows),
        }[kind]
        for day in range(3, 15):
            seen = history(values)[(day - 3) * DAY : day * DAY]
            reported = forecast(seen, metric="cpu_percent", threshold=75.0, horizon=timedelta(days=3))
            false += reported is not None
            days += 1
    assert false <= days / 100


def test_a_disk_that_fills_is_reported_with_its_time_and_interval() -> None:
    at = np.arange(2 * DAY)
    values = 60 + 0.4 * at / 6 + np.random.default_rng(1).normal(0, 0.3, len(at))
    reported = forecast(
        history(values), metric="disk_percent", threshold=95.0, horizon=timedelta(days=7), rhythm=timedelta()
    )
    assert reported is not None
    assert reported.slope_per_hour == pytest.approx(0.4, abs=0.02)
    assert reported.words.startswith("disk_percent rises by 0.4 % an hour and reaches 95 % in about 40 h (80 %: ")


def test_says_nothing_beyond_the_horizon_below_the_trend_or_after_the_fact() -> None:
    rising = history(np.linspace(10, 20, 3 * DAY))
    for threshold in (1000.0, 15.0):
        assert forecast(rising, metric="x", threshold=threshold, horizon=timedelta(days=7)) is None
    falling = history(np.linspace(20, 10, 3 * DAY))
    assert forecast(falling, metric="x", threshold=30.0, horizon=timedelta(days=700)) is None


def test_says_nothing_with_too_little_history() -> None:
    rising = history(np.linspace(10, 20, DAY))
    assert forecast(rising, metric="x", threshold=21.0, horizon=timedelta(days=7)) is None
    assert forecast(rising[:5], metric="x", threshold=21.0, horizon=timedelta(days=7)) is None


def test_a_constant_metric_has_no_forecast() -> None:
    still = history(np.full(3 * DAY, 50.0))
    assert forecast(still, metric="x", threshold=60.0, horizon=timedelta(days=700)) is None


def test_gaps_in_a_history_are_no_trend() -> None:
    seen = history(np.linspace(30, 60, 4 * DAY))
    holed = seen[: DAY // 2] + seen[DAY:]
    reported = forecast(holed, metric="x", threshold=70.0, horizon=timedelta(days=3))
    assert reported is not None
    assert reported.slope_per_hour == pytest.approx(30 / 96, rel=0.05)


def test_a_trail_holds_the_mean_of_each_half_hour() -> None:
    trail = None
    for minutes, value in ((0, 10.0), (10, 20.0), (40, 7.0)):
        trail = remember(trail, MONDAY + timedelta(minutes=minutes), value)

    assert [value for _, value in remembered_points(trail)] == [15.0, 7.0]
