"""Predict which resources will be full, and follow earlier predictions to their outcome."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from core.monitoring.alerts import AHEAD
from core.monitoring.forecasts import forecast, remember, remembered, score_prediction
from core.monitoring.snapshot import MonitoringSnapshot, MonitoringState
from models.analysis import Forecast, Level, Signal
from models.metrics import HOST, Metric, Prediction, PredictionOutcome
from models.retention import RetentionPolicy

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
            state.kept[key] = remember(state.readable(key, remembered), metric.sampled_at, metric.value)
    made = _predict_due(snapshot, state)
    scored = [_scored(one, snapshot) for one in snapshot.predictions]
    changed = [one for one, before in zip(scored, snapshot.predictions, strict=True) if one != before]
    state.predictions += [*made, *changed]
    current = [*scored, *made]
    predicted = {(one.service, one.metric + AHEAD) for one in current}
    return [_signal(one, snapshot.at) for one in current] + [
        Signal(service=service, metric=metric, at=snapshot.at, level=Level.NONE, reason="no prediction stands")
        for service, metric in state.firing
        if metric.endswith(AHEAD) and (service, metric) not in predicted
    ]


def _predict_due(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Prediction]:
    if snapshot.at.timestamp() - state.memory.forecast_at < _EVERY.total_seconds():
        return []
    state.memory.forecast_at = snapshot.at.timestamp()
    predicted = {(one.service, one.metric) for one in snapshot.predictions}
    candidates = [one for one in snapshot.observation.metrics if (one.service, one.name) not in predicted]
    return [made for one in candidates if (made := _predict(one, snapshot, state)) is not None]


def _predict(metric: Metric, snapshot: MonitoringSnapshot, state: MonitoringState) -> Prediction | None:
    full = _full(metric)
    if full is None or metric.value >= full[0]:
        return None
    trail = state.kept[metric.service, metric.name + _TRAIL]
    found = _forecast(trail, metric.name, full, snapshot.at)
    if found is None or found.latest is None:
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
        expected=found.expected,
        earliest=found.earliest,
        latest=found.latest,
        words=found.words,
    )


def _forecast(trail: bytes, metric: str, full: tuple[float, timedelta], at: datetime) -> Forecast | None:
    """Forecast from the longest history that shows a trend: a leak that began today is not visible in two weeks."""
    history = remembered(trail)
    threshold, rhythm = full
    for length in _HISTORY:
        recent = [one for one in history if at - one[0] <= length]
        found = forecast(recent, metric=metric, threshold=threshold, horizon=_HORIZON, rhythm=rhythm)
        if found is not None:
            return found
    return None


def _full(metric: Metric) -> tuple[float, timedelta] | None:
    if metric.service != HOST and metric.name == "memory_usage":
        return _FULL_MEMORY
    return _FULL.get((metric.service, metric.name))


def _scored(prediction: Prediction, snapshot: MonitoringSnapshot) -> Prediction:
    for metric in snapshot.observation.metrics:
        if (metric.service, metric.name) == (prediction.service, prediction.metric):
            return score_prediction(prediction, metric.sampled_at, metric.value)
    return prediction


def _signal(prediction: Prediction, at: datetime) -> Signal:
    return Signal(
        service=prediction.service,
        metric=prediction.metric + AHEAD,
        at=at,
        level=Level.WARNING if prediction.outcome is PredictionOutcome.OPEN else Level.NONE,
        reason=prediction.words,
        value=prediction.value,
        threshold=prediction.threshold,
        lasting=True,
    )
