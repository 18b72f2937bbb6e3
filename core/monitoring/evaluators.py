"""Evaluators of one collection: each turns a snapshot and the state into signals."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.monitoring import budgets
from core.monitoring.alerts import BUDGET
from core.monitoring.anomalies import DetectorResult, judge_silence, watch_metric
from core.monitoring.baselines import baseline, describe_value, judge, learn
from core.monitoring.snapshot import (
    BUDGET_STATE,
    HEALTH,
    NO_HEALTH_RESULT,
    RESTARTS,
    SNAPSHOTS,
    SOURCES,
    Key,
    MonitoringSnapshot,
    MonitoringState,
)
from models.analysis import Judgement, Level, Share, Signal
from models.failures import BadInputError
from models.health import UNHEALTHY_STATES, Reading, ServiceHealth, ServiceVerdict
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
    learnt = state.readable(key, lambda previous: baseline(previous, service="", metric=""))
    usual = judge(learnt, metric.sampled_at, metric.value, metric=metric.name)
    state.kept[key] = learn(learnt, metric.sampled_at, metric.value, frozen=frozen)
    detected = _detect(metric, state, frozen=frozen)
    reference = baseline(learnt, service="", metric="")
    result = _damp(_worst(usual, detected, reference), metric, reference, detected)
    limit = _judge_limit(metric, snapshot)
    if limit is not None and limit.level.rank > result.judgement.level.rank:
        result = _Result(limit)
    enough = reference is not None and reference.warning is not None
    settled = enough or limit is not None or (detected is not None and detected.score.settled)
    return replace(result, settled=settled)


def _worst(usual: Judgement, detected: DetectorResult | None, reference: Baseline | None) -> _Result:
    """Combine both judgements: the detector finds unusual values, the baseline describes them in the metric's unit."""
    if detected is None:
        return _Result(usual)
    enough = reference is not None and reference.warning is not None
    odd = detected.judgement
    if detected.low or (not enough and odd.level is Level.WARNING):
        odd = _limit_to_notice(odd)
    if odd.reason and enough:
        odd = replace(odd, reason=f"{usual.reason} ({odd.reason})")
    return max(_Result(usual), _Result(odd, detected.lasting), key=lambda result: result.judgement.level.rank)


def _damp(result: _Result, metric: Metric, reference: Baseline | None, detected: DetectorResult | None) -> _Result:
    """Reduce a small change, or a capacity with enough room left, to a notice."""
    middle = reference.value if reference is not None else None
    warning = reference.warning if reference is not None else None
    if detected is not None and middle is None:
        middle = detected.score.usual
    small = middle is not None and abs(metric.value - middle) < _smallest_change(metric.name, middle)
    if small or (metric.name in _CAPACITIES and metric.value <= max(warning or 0.0, _HALF_FULL)):
        return _Result(_limit_to_notice(result.judgement))
    return result


def _detect(metric: Metric, state: MonitoringState, *, frozen: bool) -> DetectorResult | None:
    """Run the detector, except where an operation moves the metric or the service is unhealthy."""
    key = (metric.service, metric.name + _DETECTOR)
    if frozen and (metric.service, metric.name) not in state.firing:
        return None
    previous = state.previous.get(key)
    try:
        result = watch_metric(None if previous is None else zlib.decompress(previous), metric.sampled_at, metric.value)
    except (BadInputError, zlib.error):
        state.unreadable.append("/".join(key))
        result = watch_metric(None, metric.sampled_at, metric.value)
    state.kept[key] = zlib.compress(result.state, 1)
    return result


def _is_frozen(key: Key, snapshot: MonitoringSnapshot, state: MonitoringState) -> bool:
    """Whether nothing is learnt from a metric now."""
    service, quiet = key[0], snapshot.quiet
    if service in quiet.busy or service in quiet.settling or snapshot.is_unhealthy(service):
        return True
    if service == HOST and (quiet.busy or quiet.settling):
        return True
    if snapshot.is_in_maintenance(service):
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
    value, most = describe_value(metric.name, metric.value), describe_value(metric.name, limit)
    return Judgement(level=Level.WARNING, reason=f"{name} is {value}, the environment allows {most}", threshold=limit)


def _smallest_change(metric: str, usual: float) -> float:
    room = _SHARE_OF_ROOM * (100.0 - usual) if metric in _CAPACITIES else 0.0
    return max(_SMALLEST_CHANGE.get(metric, 0.0), room)


def _limit_to_notice(judged: Judgement) -> Judgement:
    return replace(judged, level=Level.NOTICE) if judged.level.rank > Level.NOTICE.rank else judged


UPTIME_BUDGET = "uptime" + BUDGET
ANSWER_BUDGET = "answer" + BUDGET

_MANY_RESTARTS = 3
_SILENCE_METRICS = ("cpu_usage", "memory_usage")

_RECENT = timedelta(minutes=5)
"""A budget burns only if something failed within this time and the five minutes it is counted in."""

_BURN_WINDOWS = tuple(
    {_RECENT, *(rule.long for rule in budgets.BURN_RULES), *(rule.short for rule in budgets.BURN_RULES)}
)


def evaluate_health(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Judge the health and the probe readings of each service."""
    signals = []
    for verdict in snapshot.verdicts.values():
        signals.append(_health(verdict, snapshot))
        signals += [
            _reading(verdict.service, reading, snapshot) for probe in verdict.probes for reading in probe.readings
        ]
    return signals


def evaluate_restarts(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Judge how often the engine restarted each service since the last collection."""
    return [
        _restarts(metric, snapshot, state) for metric in snapshot.observation.metrics if metric.name == "restarts_total"
    ]


def evaluate_sources(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Report the sources that did not answer."""
    # Several sources fail for one cause, in the same words.
    causes = dict.fromkeys(gap.partition(": ")[2] or gap for gap in snapshot.observation.gaps)
    level = Level.CRITICAL if snapshot.observation.verdicts is None else Level.WARNING
    reason = "; ".join(causes) or "every source answers"
    return [snapshot.signal(HOST, SOURCES, level if causes else Level.NONE, reason)]


def evaluate_snapshots(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Report snapshots of the data that are older than the environment's policy, or that no rehearsal has proven."""
    problems = snapshot.observation.snapshot_problems
    reason = "; ".join(problems) or "the snapshots are as new as they must be"
    # A record says it, and reading it again confirms nothing.
    return [snapshot.signal(HOST, SNAPSHOTS, Level.WARNING if problems else Level.NONE, reason, lasting=True)]


def evaluate_missing_metrics(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Report metrics of running services that stopped coming.

    Only collections count, not the time between them. If the source itself did not answer, `evaluate_sources`
    reports that instead.
    """
    if not snapshot.observation.statistics or snapshot.observation.verdicts is None:
        return []
    came = {(metric.service, metric.name) for metric in snapshot.observation.metrics}
    signals = []
    for verdict in snapshot.verdicts.values():
        unknown = verdict.health in UNHEALTHY_STATES or verdict.health in NO_HEALTH_RESULT
        for name in _SILENCE_METRICS:
            label = f"{verdict.service}/{name}"
            if unknown or label not in state.memory.seen or (verdict.service, name) in came:
                state.memory.absent.pop(label, None)
            else:
                signals.append(_missing_signal(verdict.service, name, snapshot, state))
    return signals


def evaluate_error_budgets(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Count this collection for each service and judge how fast its error budgets burn."""
    at, objective, signals = snapshot.at, snapshot.environment.objective_percent / 100, []
    for verdict in snapshot.verdicts.values():
        key = (verdict.service, BUDGET_STATE)
        counts = state.readable(key, lambda previous: budgets.shares(previous, at, ()))
        counts = _count(verdict, counts, snapshot)
        state.kept[key] = counts
        shares = dict(zip(_BURN_WINDOWS, budgets.shares(counts, at, _BURN_WINDOWS), strict=True))
        for place, name in enumerate((UPTIME_BUDGET, ANSWER_BUDGET)):
            # Without this, an alert would open half an hour after the failure ended.
            recent = shares[_RECENT][place]
            burning = {length: both[place] for length, both in shares.items()} if recent.good < recent.total else {}
            signals.append(
                budgets.judge_burn(burning, service=verdict.service, metric=name, at=at, objective=objective)
            )
    return signals


def _health(verdict: ServiceVerdict, snapshot: MonitoringSnapshot) -> Signal:
    worst = Level.CRITICAL if verdict.required else Level.WARNING
    level = worst if verdict.health in UNHEALTHY_STATES else Level.NONE
    missing = verdict.health in (ServiceHealth.UNKNOWN, ServiceHealth.STARTING)
    lasting = verdict.service in snapshot.observation.certain
    return snapshot.signal(verdict.service, HEALTH, level, verdict.reason, missing=missing, lasting=lasting)


def _reading(service: str, reading: Reading, snapshot: MonitoringSnapshot) -> Signal:
    # A reading is a state, not a measurement: reading it again confirms nothing, so it lasts already.
    numbers = {"value": reading.value, "threshold": reading.threshold}
    return snapshot.signal(service, reading.metric, reading.concern, reading.words, lasting=True, **numbers)


def _restarts(metric: Metric, snapshot: MonitoringSnapshot, state: MonitoringState) -> Signal:
    before = state.memory.restarts.get(metric.service)
    state.memory.restarts[metric.service] = metric.value
    more = 0.0 if before is None else max(0.0, metric.value - before)
    many = more >= _MANY_RESTARTS
    end = snapshot.observation.ends.get(metric.service)
    counted = f"{more:.0f} times since the last collection, {metric.value:.0f} in all"
    reason = f"the engine restarted it {counted}{f'; its last end: {end}' if end else ''}"
    level = Level.CRITICAL if many else Level.WARNING if more else Level.NONE
    return snapshot.signal(metric.service, RESTARTS, level, reason, value=metric.value, lasting=many)


def _missing_signal(service: str, name: str, snapshot: MonitoringSnapshot, state: MonitoringState) -> Signal:
    at, every = snapshot.at, timedelta(seconds=snapshot.environment.collect_every_seconds)
    label = f"{service}/{name}"
    missed = state.memory.absent[label] = state.memory.absent.get(label, 0) + 1
    since = max(datetime.fromtimestamp(state.memory.seen[label], at.tzinfo), at - missed * every)
    silence = judge_silence(since, at, every=every)
    more = {"threshold": silence.threshold, "missing": silence.level is Level.NONE}
    return snapshot.signal(service, name, silence.level, silence.reason, lasting=True, **more)


def _count(verdict: ServiceVerdict, counts: bytes | None, snapshot: MonitoringSnapshot) -> bytes:
    planned = snapshot.may_be_down(verdict.service)
    up = None if planned or verdict.health in NO_HEALTH_RESULT else verdict.health not in UNHEALTHY_STATES
    answers = Share(good=sum(probe.ok for probe in verdict.probes), total=len(verdict.probes))
    return budgets.count_sample(counts, snapshot.at, up=up, answers=None if planned else answers)
