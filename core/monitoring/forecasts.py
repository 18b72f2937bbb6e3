"""Predict when a metric will pass a threshold, only if its trend is certain, and follow predictions to their outcome.

A history is divided into buckets (24 a rhythm, or 96 without one), its daily rhythm is removed, and a robust line is
fitted; the interval of the crossing allows for correlated noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median

import numpy as np

from core.common.significance import Floats, mann_kendall, student_quantile, theil_sen, winsorized_deviation
from core.monitoring.alerts import AHEAD
from core.monitoring.baselines import describe_value
from core.monitoring.snapshot import MonitoringSnapshot, MonitoringState
from models.analysis import Forecast, Level, Signal
from models.failures import BadInputError
from models.metrics import HOST, Metric, Prediction, PredictionOutcome
from models.storage import RetentionPolicy

_SIGNIFICANT = 0.01
_COVERAGE = 0.80
_FEWEST_BUCKETS = 20
_BUCKETS = 96
_SLOTS = 24
_STEP_SECONDS = 1800
_STEPS_KEPT = 14 * 48
_TURNED_BACK = 0.25
"""So much of the way to the threshold a metric must go back: a ripple averts nothing."""


_EVERY = timedelta(minutes=15)
_HORIZON = timedelta(hours=72)
_HISTORY = (timedelta(days=14), timedelta(days=3), timedelta(days=1))
_ONE_DAY = timedelta(days=1)
_TRAIL = "/trail"

# The value at which a metric is full, and the rhythm that must not be taken for a trend.
_FULL = {
    (HOST, "disk_usage"): (95.0, timedelta(0)),
    (HOST, "inodes_usage"): (95.0, timedelta(0)),
    (HOST, "memory_usage"): (95.0, _ONE_DAY),
    (HOST, "store_bytes"): (float(RetentionPolicy().store_bytes), timedelta(0)),
}
_FULL_MEMORY = (95.0, _ONE_DAY)


def evaluate_predictions(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Score earlier predictions and make new ones; each open prediction is a warning."""
    for metric in snapshot.observation.metrics:
        if _full(metric) is not None:
            key = (metric.service, metric.name + _TRAIL)
            state.kept[key] = remember(state.readable(key, remembered_points), metric.sampled_at, metric.value)
    made = _predict_due(snapshot, state)
    scored = [_score(prediction, snapshot) for prediction in snapshot.predictions]
    changed = [
        prediction for prediction, before in zip(scored, snapshot.predictions, strict=True) if prediction != before
    ]
    state.predictions += [*made, *changed]
    current = [*scored, *made]
    predicted = {(prediction.service, prediction.metric + AHEAD) for prediction in current}
    over = [key for key in state.firing if key[1].endswith(AHEAD) and key not in predicted]
    ended = [snapshot.signal(*key, Level.NONE, "no prediction stands") for key in over]
    return [*(_signal(prediction, snapshot) for prediction in current), *ended]


def _predict_due(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Prediction]:
    if snapshot.at.timestamp() - state.memory.forecast_at < _EVERY.total_seconds():
        return []
    state.memory.forecast_at = snapshot.at.timestamp()
    predicted = {(prediction.service, prediction.metric) for prediction in snapshot.predictions}
    candidates = [metric for metric in snapshot.observation.metrics if (metric.service, metric.name) not in predicted]
    return [made for metric in candidates if (made := _predict(metric, snapshot, state)) is not None]


def _predict(metric: Metric, snapshot: MonitoringSnapshot, state: MonitoringState) -> Prediction | None:
    full = _full(metric)
    if full is None or metric.value >= full[0]:
        return None
    trail = state.kept[metric.service, metric.name + _TRAIL]
    crossing = _forecast(trail, metric.name, full, snapshot.at)
    if crossing is None or crossing.latest is None:
        return None
    environment = snapshot.environment.name
    identity = f"{environment}/{metric.service}/{metric.name}/{snapshot.at.isoformat()}"
    return Prediction(
        prediction_id=f"prediction-{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
        environment=environment,
        service=metric.service,
        metric=metric.name,
        value=metric.value,
        threshold=full[0],
        falling=False,
        made_at=snapshot.at,
        expected=crossing.expected,
        earliest=crossing.earliest,
        latest=crossing.latest,
        words=crossing.words,
    )


def _forecast(trail: bytes, metric: str, full: tuple[float, timedelta], at: datetime) -> Forecast | None:
    """Forecast from the longest history that shows a trend: a leak that began today is not visible in two weeks."""
    history, (threshold, rhythm) = remembered_points(trail), full
    recent = ([point for point in history if at - point[0] <= length] for length in _HISTORY)
    forecasts = (
        forecast(points, metric=metric, threshold=threshold, horizon=_HORIZON, rhythm=rhythm) for points in recent
    )
    return next((crossing for crossing in forecasts if crossing is not None), None)


def _full(metric: Metric) -> tuple[float, timedelta] | None:
    if metric.service != HOST and metric.name == "memory_usage":
        return _FULL_MEMORY
    return _FULL.get((metric.service, metric.name))


def _score(prediction: Prediction, snapshot: MonitoringSnapshot) -> Prediction:
    for metric in snapshot.observation.metrics:
        if (metric.service, metric.name) == (prediction.service, prediction.metric):
            return score_prediction(prediction, metric.sampled_at, metric.value)
    return prediction


def _signal(prediction: Prediction, snapshot: MonitoringSnapshot) -> Signal:
    level = Level.WARNING if prediction.outcome is PredictionOutcome.OPEN else Level.NONE
    numbers = {"value": prediction.value, "threshold": prediction.threshold}
    return snapshot.signal(
        prediction.service, prediction.metric + AHEAD, level, prediction.words, lasting=True, **numbers
    )


def forecast(
    history: Sequence[tuple[datetime, float]],
    *,
    metric: str,
    threshold: float,
    horizon: timedelta,
    rhythm: timedelta = timedelta(days=1),
) -> Forecast | None:
    """When the metric will rise above the threshold, or None if nothing can be said.

    `history` is in order of time, in the metric's unit. It must cover two rhythms; a metric without one (a
    disk, a store, a certificate) takes timedelta(0). Speaks only if the trend has p < 0.01 and even the late
    end of the 80 % interval lies within the horizon from the last value.
    """
    if len(history) < _FEWEST_BUCKETS:
        return None
    began, last = history[0][0], history[-1][0]
    span = last - began
    if span <= timedelta(0) or span < 2 * rhythm:
        return None
    hours = np.array([(at - began) / timedelta(hours=1) for at, _ in history])
    values = np.array([value for _, value in history])
    line = _fit_line(hours, values, rhythm / timedelta(hours=1))
    if line is None or line.slope <= 0 or line.p_value >= _SIGNIFICANT:
        return None
    now = float(hours[-1])
    crossing = None if line.value_at(now) >= threshold else _crossing(line, threshold, now)
    if crossing is None or crossing[2] - now > horizon / timedelta(hours=1):
        return None
    earliest, expected, latest = (began + timedelta(hours=hour) for hour in crossing)
    return Forecast(
        metric=metric,
        threshold=threshold,
        value=line.value_at(now),
        slope_per_hour=line.slope,
        expected=expected,
        earliest=earliest,
        latest=latest,
        p_value=line.p_value,
        words=f"{metric} rises by {describe_value(metric, line.slope)} an hour and "
        f"reaches {describe_value(metric, threshold)} in about {_describe(expected - last)} "
        f"(80 %: {_describe(earliest - last)} to {_describe(latest - last)})",
    )


def remember(trail: bytes | None, at: datetime, value: float) -> bytes:
    """The trail of a metric after one more value: means of half hours, of two weeks, in a few kilobytes.

    Raises BadInputError for a trail of another kind.
    """
    steps = _trail(trail)
    number = int(at.timestamp()) // _STEP_SECONDS
    if not len(steps) or steps[-1, 0] < number:
        steps = np.concatenate([steps, np.array([[number, 0.0, 0.0]])])
    steps[-1, 1:] += (value, 1.0)
    return steps[steps[:, 0] > number - _STEPS_KEPT].tobytes()


def remembered_points(trail: bytes | None) -> list[tuple[datetime, float]]:
    """The means of a trail at the middle of their half hours, oldest first.

    Raises BadInputError for a trail of another kind.
    """
    steps = _trail(trail)
    middles = (steps[:, 0] + 0.5) * _STEP_SECONDS
    means = steps[:, 1] / np.maximum(steps[:, 2], 1.0)
    return [(datetime.fromtimestamp(at, UTC), mean) for at, mean in zip(middles.tolist(), means.tolist(), strict=True)]


def score_prediction(prediction: Prediction, now: datetime, value: float) -> Prediction:
    """Return the prediction with its outcome, if this value of its metric decides it.

    A hit: the threshold is passed. Averted: the metric is back on the safe side of where it was when predicted. A
    miss: the late end of its interval is exceeded by half.
    """
    sign = -1.0 if prediction.falling else 1.0
    if sign * value >= sign * prediction.threshold:
        outcome = PredictionOutcome.HIT
    elif sign * (value - prediction.value) < -_TURNED_BACK * abs(prediction.threshold - prediction.value):
        outcome = PredictionOutcome.AVERTED
    elif now > prediction.latest + (prediction.latest - prediction.made_at) / 2:
        outcome = PredictionOutcome.MISS
    else:
        return prediction
    return replace(prediction, outcome=outcome, scored_at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    slope: float
    middle_hour: float
    middle_value: float
    noise: float
    effective: float
    spread: float
    p_value: float

    def value_at(self, hour: float) -> float:
        return self.middle_value + self.slope * (hour - self.middle_hour)


def _fit_line(hours: Floats, values: Floats, rhythm: float) -> _Line | None:
    times, levels = _buckets(hours, values, rhythm)
    if len(times) < _FEWEST_BUCKETS:
        return None
    freedom = len(times) - 2
    if rhythm > 0:
        levels, slots = _without_rhythm(times, levels, rhythm)
        freedom -= slots - 1
    if np.ptp(levels) <= 1e-12 * max(1.0, float(np.abs(levels).max())):
        return None
    slope = theil_sen(levels, times)
    residuals = levels - slope * times
    centre = float(np.median(residuals))
    # Removing the rhythm also removes noise, so the degrees of freedom are reduced.
    noise = winsorized_deviation(residuals, 0.02) * math.sqrt(len(times) / max(1, freedom))
    remembers = _remembers(residuals - centre)
    effective = len(times) * (1 - remembers) / (1 + remembers)
    middle = float(times.mean())
    return _Line(
        slope=slope,
        middle_hour=middle,
        middle_value=centre + slope * middle,
        noise=noise,
        effective=effective,
        spread=float(times.var()),
        p_value=mann_kendall(levels, (1 + remembers) / (1 - remembers)),
    )


def _buckets(hours: Floats, values: Floats, rhythm: float) -> tuple[Floats, Floats]:
    width = rhythm / _SLOTS if rhythm > 0 else float(hours[-1] - hours[0]) / _BUCKETS
    place = np.minimum((hours / width).astype(int), int(hours[-1] / width))
    present = np.unique(place)
    edges = np.searchsorted(place, np.append(present, present[-1] + 1))
    # Of a few numbers each, where NumPy takes ten times as long and more; at a few hundred both are as fast.
    levels = [median(values[low:high].tolist()) for low, high in pairwise(edges.tolist())]
    return (present + 0.5) * width, np.array(levels)


def _without_rhythm(times: Floats, levels: Floats, rhythm: float) -> tuple[Floats, int]:
    """Take away what each time of the day has in common, judging the trend only between equal times.

    The second value is how many times of the day there were.
    """
    slot = (times % rhythm / rhythm * _SLOTS).astype(int)
    slopes: list[float] = []
    for hour in np.unique(slot):
        at, level = times[slot == hour], levels[slot == hour]
        first, second = np.triu_indices(len(at), 1)
        slopes.extend(((level[second] - level[first]) / (at[second] - at[first])).tolist())
    residuals = levels - (float(np.median(slopes)) if slopes else 0.0) * times
    usual = {hour: median(residuals[slot == hour].tolist()) for hour in np.unique(slot)}
    # The mean over the times of the day, not over the history: its last day may be cut anywhere.
    centre = sum(usual.values()) / len(usual)
    return np.array([float(level) - usual[hour] + centre for level, hour in zip(levels, slot, strict=True)]), len(usual)


def _remembers(residuals: Floats) -> float:
    """The correlation of neighbours, 0-0.95; pulled up a little, since few buckets make it look small."""
    if len(residuals) < 3 or not float(np.var(residuals)) > 0:
        return 0.0
    correlation = float((residuals[1:] * residuals[:-1]).sum() / (residuals**2).sum())
    return min(0.95, max(0.0, correlation + (1 + 4 * correlation) / len(residuals)))


def _crossing(line: _Line, aim: float, now: float) -> tuple[float, float, float] | None:
    """Earliest, expected and latest hour, by Fieller's theorem with the noise of one value on top."""
    freedom = max(2.0, line.effective - 2)
    reach = (student_quantile(0.5 + _COVERAGE / 2, freedom) * line.noise) ** 2
    gap = aim - line.middle_value
    a = line.slope**2 - reach / (line.effective * line.spread)
    b = -2 * gap * line.slope
    c = gap**2 - reach * (1 + 1 / line.effective)
    inside = b * b - 4 * a * c
    if a <= 0 or inside < 0:
        return None
    root = math.sqrt(inside)
    low, high = (-b - root) / (2 * a), (-b + root) / (2 * a)
    expected = line.middle_hour + gap / line.slope
    return max(now, line.middle_hour + low), max(now, expected), max(now, line.middle_hour + high)


def _describe(time: timedelta) -> str:
    hours = max(0.0, time / timedelta(hours=1))
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def _trail(trail: bytes | None) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """One row for half an hour: its number since 1970, the sum of its values, and how many they are."""
    if trail is None:
        return np.empty((0, 3))
    try:
        return np.frombuffer(trail, np.float64).reshape(-1, 3).copy()
    except ValueError as error:
        raise BadInputError("The trail of a metric is not readable;", advice="begin it anew.") from error
