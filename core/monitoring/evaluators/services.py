"""Evaluate health, probe readings, restarts, sources, missing metrics and error budgets of services."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.monitoring import budgets
from core.monitoring.alerts import BUDGET
from core.monitoring.anomalies import judge_silence
from core.monitoring.snapshot import (
    BUDGET_STATE,
    HEALTH,
    NO_HEALTH_RESULT,
    RESTARTS,
    SOURCES,
    MonitoringSnapshot,
    MonitoringState,
)
from models.analysis import Level, Share, Signal
from models.health import UNHEALTHY_STATES, Concern, Reading, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Metric

UPTIME_BUDGET = "uptime" + BUDGET
ANSWER_BUDGET = "answer" + BUDGET

_LEVELS = {Concern.NONE: Level.NONE, Concern.WARNING: Level.WARNING, Concern.CRITICAL: Level.CRITICAL}
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
        signals += [_reading(verdict.service, one, snapshot) for probe in verdict.probes for one in probe.readings]
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
                signals.append(_missing(verdict.service, name, snapshot, state))
    return signals


def evaluate_error_budgets(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[Signal]:
    """Count this collection for each service and judge how fast its error budgets burn."""
    at, objective, signals = snapshot.at, snapshot.environment.objective_percent / 100, []
    for verdict in snapshot.verdicts.values():
        key = (verdict.service, BUDGET_STATE)
        counts = state.readable(key, lambda known: budgets.shares(known, at, ()))
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
    return snapshot.signal(service, reading.metric, _LEVELS[reading.concern], reading.words, lasting=True, **numbers)


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


def _missing(service: str, name: str, snapshot: MonitoringSnapshot, state: MonitoringState) -> Signal:
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
