"""Judge each metric by its baseline, by the anomaly detector and by the limits of its environment."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from core.monitoring.anomalies import DetectorResult, watch_metric
from core.monitoring.baselines import baseline, in_words, judge, learn
from core.monitoring.snapshot import Key, MonitoringSnapshot, MonitoringState
from models.analysis import Judgement, Level, Signal
from models.failures import BadInputError
from models.metrics import HOST, Baseline, Metric

JUDGED = frozenset(
    {"cpu_usage", "memory_usage", "response_time", "disk_usage", "inodes_usage", "load_1m", "store_bytes"}
)
"""The metrics with a baseline and a detector; the others are only stored."""

_LEARN_AFTER = timedelta(days=1)
"""A metric that stays unusual for this long becomes its new baseline; otherwise its alert would never end."""

_SMALLEST_CHANGE = {
    "cpu_usage": 5.0,
    "memory_usage": 2.0,
    "response_time": 50.0,
    "disk_usage": 1.0,
    "inodes_usage": 1.0,
    "load_1m": 1.0,
    "store_bytes": 16.0 * 1024 * 1024,
}
"""How far a metric must be from its baseline, in its unit, to be more than a notice."""

_CAPACITIES = frozenset({"memory_usage", "disk_usage", "inodes_usage"})
_HALF_FULL = 50.0
"""Below this, a capacity is no more than a notice: a new program fills its memory for hours, and what keeps
filling it is predicted."""

_SHARE_OF_ROOM = 0.1
"""A change of a capacity counts relative to the room left: two points are much at 95 %, nothing at 20 %."""

_DETECTOR = "/detector"
_SURPRISE = {Level.NONE: 0.0, Level.NOTICE: 0.1, Level.WARNING: 0.6, Level.CRITICAL: 1.0}


@dataclass(frozen=True, slots=True)
class _Result:
    """The worst judgement of a value; whether it has lasted already; whether there is enough history to judge."""

    judgement: Judgement
    lasting: bool = False
    settled: bool = False


def evaluate_metrics(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Judge each metric by its earlier values, then learn from it."""
    return [_evaluate(metric, snapshot, state) for metric in snapshot.observation.metrics if metric.name in JUDGED]


def _evaluate(metric: Metric, snapshot: MonitoringSnapshot, state: MonitoringState) -> Signal:
    key = (metric.service, metric.name)
    state.memory.seen["/".join(key)] = metric.sampled_at.timestamp()
    result = _judge(metric, snapshot, state)
    state.judgements.append((metric, result.judgement))
    if result.settled:
        surprise = _SURPRISE[result.judgement.level]
        state.surprises[metric.service] = max(state.surprises.get(metric.service, 0.0), surprise)
    usual = baseline(state.kept.get(key, state.previous.get(key)), service=metric.service, metric=metric.name)
    if usual is not None:
        state.baselines.append(usual)
    return Signal(
        service=metric.service,
        metric=metric.name,
        at=metric.sampled_at,
        level=result.judgement.level,
        reason=result.judgement.reason,
        value=metric.value,
        threshold=result.judgement.threshold,
        lasting=result.lasting,
    )


def _judge(metric: Metric, snapshot: MonitoringSnapshot, state: MonitoringState) -> _Result:
    key = (metric.service, metric.name)
    frozen = _is_frozen(key, snapshot, state)
    learnt = state.readable(key, lambda known: baseline(known, service="", metric=""))
    usual = judge(learnt, metric.sampled_at, metric.value, metric=metric.name)
    state.kept[key] = learn(learnt, metric.sampled_at, metric.value, frozen=frozen)
    detected = _detect(metric, state, frozen=frozen)
    known = baseline(learnt, service="", metric="")
    result = _damped(_worst(usual, detected, known), metric, known, detected)
    limit = _judge_limit(metric, snapshot)
    if limit is not None and limit.level.rank > result.judgement.level.rank:
        result = _Result(limit)
    enough = known is not None and known.warning is not None
    settled = enough or limit is not None or (detected is not None and detected.score.settled)
    return replace(result, settled=settled)


def _worst(usual: Judgement, detected: DetectorResult | None, known: Baseline | None) -> _Result:
    """Combine both judgements: the detector finds unusual values, the baseline describes them in the metric's unit."""
    if detected is None:
        return _Result(usual)
    enough = known is not None and known.warning is not None
    odd = detected.judgement
    if detected.low or (not enough and odd.level is Level.WARNING):
        odd = _at_most_a_notice(odd)
    if odd.reason and enough:
        odd = replace(odd, reason=f"{usual.reason} ({odd.reason})")
    return max(_Result(usual), _Result(odd, detected.lasting), key=lambda one: one.judgement.level.rank)


def _damped(result: _Result, metric: Metric, known: Baseline | None, detected: DetectorResult | None) -> _Result:
    """Reduce a small change, or a capacity with enough room left, to a notice."""
    middle = known.value if known is not None else None
    warning = known.warning if known is not None else None
    if detected is not None and middle is None:
        middle = detected.score.usual
    small = middle is not None and abs(metric.value - middle) < _smallest_change(metric.name, middle)
    if small or (metric.name in _CAPACITIES and metric.value <= max(warning or 0.0, _HALF_FULL)):
        return _Result(_at_most_a_notice(result.judgement))
    return result


def _detect(metric: Metric, state: MonitoringState, *, frozen: bool) -> DetectorResult | None:
    """Run the detector, except where an operation moves the metric or the service is unhealthy."""
    key = (metric.service, metric.name + _DETECTOR)
    if frozen and (metric.service, metric.name) not in state.firing:
        return None
    previous = state.previous.get(key)
    try:
        found = watch_metric(None if previous is None else zlib.decompress(previous), metric.sampled_at, metric.value)
    except (BadInputError, zlib.error):
        state.unreadable.append("/".join(key))
        found = watch_metric(None, metric.sampled_at, metric.value)
    state.kept[key] = zlib.compress(found.state, 1)
    return found


def _is_frozen(key: Key, snapshot: MonitoringSnapshot, state: MonitoringState) -> bool:
    """Whether nothing is learnt from a metric now."""
    service, quiet = key[0], snapshot.quiet
    if service in quiet.busy or service in quiet.settling or snapshot.is_unhealthy(service):
        return True
    if service == HOST and (quiet.busy or quiet.settling):
        return True
    if snapshot.in_maintenance(service):
        return True
    alert = state.firing.get(key)
    return alert is not None and snapshot.at - alert.opened_at < _LEARN_AFTER


def _judge_limit(metric: Metric, snapshot: MonitoringSnapshot) -> Judgement | None:
    """Judge a metric by the limits that its environment declares, whatever is usual for it."""
    limits = snapshot.environment.service(metric.service).limits
    allowed: Mapping[str, float | None] = {
        "cpu_usage": limits.cpu_percent,
        "memory_usage": limits.memory_percent,
        "response_time": limits.response_time_ms,
    }
    limit = allowed.get(metric.name)
    if limit is None or metric.value <= limit:
        return None
    name = metric.name.replace("_", " ").replace("cpu", "CPU")
    value, most = in_words(metric.name, metric.value), in_words(metric.name, limit)
    return Judgement(level=Level.WARNING, reason=f"{name} is {value}, the environment allows {most}", threshold=limit)


def _smallest_change(metric: str, usual: float) -> float:
    room = _SHARE_OF_ROOM * (100.0 - usual) if metric in _CAPACITIES else 0.0
    return max(_SMALLEST_CHANGE.get(metric, 0.0), room)


def _at_most_a_notice(judged: Judgement) -> Judgement:
    return replace(judged, level=Level.NOTICE) if judged.level.rank > Level.NOTICE.rank else judged
