"""Evaluate alerts from signals.

A metric opens an alert after enough bad samples and keeps it until it has been good for long enough. One cause opens
one alert: those that a failed dependency explains are listed in its alert.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

import orjson
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from core.common.dependencies import needs_of, reachable
from core.monitoring.snapshot import MaintenanceWindow
from models.analysis import AlertChange, AlertEvent, Level, Signal
from models.failures import BadInputError
from models.metrics import HOST, Alert, AlertSeverity, AlertState, Dependency, DependencyType

AHEAD = "_ahead"
"""Suffix of the alerts about predictions of a metric."""

BUDGET = "_budget"
"""Suffix of the alerts about an error budget."""

_SLOWNESS = "response_time"
_RESOURCES = {"cpu_usage": "cpu_usage", "load_1m": "cpu_usage", "memory_usage": "memory_usage"}
"""The resource behind a metric, which a service may take from the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """Thresholds of alerting.

    An alert opens when `enter` of the last `looks` samples were at least a warning, is critical when as many were
    critical, and closes after `leave` good samples in a row that span `keep_firing`. Then the metric opens none for
    `rest`, unless it is critical. An open alert that is not acknowledged is repeated after `remind_first`, then every
    `remind_again`. Flapping begins and ends at these shares of changes among the last 21 samples, newer ones weigh
    more.
    """

    looks: int = 3
    enter: int = 2
    leave: int = 5
    keep_firing: timedelta = timedelta(minutes=5)
    rest: timedelta = timedelta(minutes=10)
    remind_first: timedelta = timedelta(hours=1)
    remind_again: timedelta = timedelta(hours=4)
    flapping_from: float = 0.5
    flapping_until: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvaluation:
    """Result of one evaluation: the state to store, the changes, and the open alerts.

    `explained` are open alerts with the id of the alert in `open` that causes them: they are not reported. `closed`
    are all that ended in this evaluation.
    """

    state: bytes
    events: tuple[AlertEvent, ...]
    open: tuple[Alert, ...]
    explained: tuple[tuple[Alert, str], ...] = ()
    closed: tuple[Alert, ...] = ()


def evaluate_alerts(
    state: bytes | None,
    signals: Iterable[Signal],
    *,
    environment: str,
    now: datetime,
    policy: AlertPolicy | None = None,
    dependencies: Iterable[Dependency] = (),
    maintenance: Iterable[MaintenanceWindow] = (),
    busy: AbstractSet[str] = frozenset(),
) -> AlertEvaluation:
    """Evaluate the signals of one collection, at most one a metric: which alerts open, change and close.

    `busy` are services under an operation: they open no alert and nothing is learnt from them. A metric without a
    signal, or with a missing value, keeps its alert. Raises BadInputError for a state of another kind.
    """
    policy = policy or AlertPolicy()
    windows, needs = tuple(maintenance), tuple(dependencies)
    watches = _read(state)
    reported: list[tuple[AlertChange, str]] = []
    for signal in signals:
        key = f"{signal.service}/{signal.metric}"
        watch = watches.get(key, _MetricHistory(service=signal.service, metric=signal.metric))
        quiet = signal.service in busy or any(window.covers(signal.service, now) for window in windows)
        watch, changes = _step(watch, signal, environment, policy, quiet)
        watches[key] = watch
        reported += [(change, key) for change in changes]
    opened = {key: watch.alert for key, watch in watches.items() if watch.alert is not None}
    parents = explain_alerts(opened, needs)
    for key, watch in watches.items():
        if watch.alert is None or key in parents:
            continue
        if watch.reported_at is None:
            # An alert that another one explained until now, or that is already good again, is not reported.
            if watch.good or _was_explained(watch, watches, now, policy):
                continue
            watches[key] = replace(watch, reported_at=now)
            reported.insert(0, (AlertChange.OPENED, key))
        elif _is_due(watch, now, policy):
            watches[key] = replace(watch, reported_at=now, reminders=watch.reminders + 1)
            reported.append((AlertChange.REMINDED, key))
    return AlertEvaluation(
        state=_write(watches),
        events=_events(reported, watches, parents),
        open=tuple(alert for key, alert in opened.items() if key not in parents),
        explained=tuple((opened[key], opened[root].alert_id) for key, root in parents.items()),
        closed=tuple(watch.closed for watch in watches.values() if watch.closed is not None),
    )


def update_alerts(
    state: bytes | None,
    now: datetime,
    *,
    is_over: Callable[[Alert], bool],
    acknowledged: AbstractSet[str] = frozenset(),
) -> tuple[bytes, tuple[Alert, ...], tuple[Alert, ...]]:
    """Close the alerts that are over, and acknowledge those with these ids, so that they are not repeated.

    Returns the state, every alert that is still open, explained ones too, and the closed ones. Raises BadInputError
    for a state of another kind.
    """
    watches, closed = _read(state), []
    for key, watch in watches.items():
        if (alert := watch.alert) is None:
            continue
        if alert.alert_id in acknowledged and alert.state is not AlertState.ACKNOWLEDGED:
            alert = replace(alert, state=AlertState.ACKNOWLEDGED, acknowledged_at=now)
        if is_over(alert):
            closed.append(replace(alert, state=AlertState.RESOLVED, resolved_at=now))
            watches[key] = replace(watch, alert=None, looks=(), good=0, good_since=None, closed_at=now)
        else:
            watches[key] = replace(watch, alert=alert)
    still_open = tuple(watch.alert for watch in watches.values() if watch.alert is not None)
    return _write(watches), still_open, tuple(closed)


_KEPT_LOOKS = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class _MetricHistory:
    """History of one metric. `looks` are the last 21 levels by rank, the newest last."""

    service: str
    metric: str
    looks: tuple[int, ...] = ()
    good: int = 0
    good_since: datetime | None = None
    alert: Alert | None = None
    flapping: bool = False
    closed_at: datetime | None = None
    # Version 0.1 called it "told_at".
    reported_at: Annotated[datetime | None, Field(validation_alias=AliasChoices("reported_at", "told_at"))] = None
    reminders: int = 0
    closed: Alert | None = None


_STATE = TypeAdapter(dict[str, _MetricHistory])


def _step(
    watch: _MetricHistory, signal: Signal, environment: str, policy: AlertPolicy, quiet: bool
) -> tuple[_MetricHistory, list[AlertChange]]:
    if signal.missing or quiet:
        return replace(watch, closed=None), []
    bad = signal.level.rank >= Level.WARNING.rank
    looks = (*watch.looks, signal.level.rank)[-_KEPT_LOOKS:]
    watch = replace(
        watch,
        looks=looks,
        good=0 if bad else watch.good + 1,
        good_since=None if bad else watch.good_since or signal.at,
        closed=None,
    )
    changes: list[AlertChange] = []
    critical = _enough(watch, signal, Level.CRITICAL, policy)
    if watch.alert is None:
        rests = watch.closed_at is not None and signal.at - watch.closed_at < policy.rest
        if critical or (not rests and _enough(watch, signal, Level.WARNING, policy)):
            watch = replace(watch, alert=_open_alert(signal, environment, critical), reported_at=None, reminders=0)
    elif critical and watch.alert.severity is not AlertSeverity.CRITICAL:
        raised = replace(watch.alert, severity=AlertSeverity.CRITICAL, state=AlertState.OPEN, reason=signal.reason)
        watch = replace(watch, alert=replace(raised, value=signal.value, threshold=signal.threshold))
        changes.append(AlertChange.RAISED)
    flapping = _is_flapping(looks, watch.flapping, policy)
    if watch.alert is not None and flapping and not watch.flapping:
        changes.append(AlertChange.FLAPPING)
    watch = replace(watch, flapping=flapping)
    healed = watch.good >= policy.leave and signal.at - (watch.good_since or signal.at) >= policy.keep_firing
    if watch.alert is not None and not flapping and healed:
        resolved = replace(watch.alert, state=AlertState.RESOLVED, resolved_at=signal.at)
        watch = replace(watch, alert=None, closed=resolved, closed_at=signal.at)
        changes.append(AlertChange.RESOLVED)
    return watch, changes


def _enough(watch: _MetricHistory, signal: Signal, level: Level, policy: AlertPolicy) -> bool:
    if signal.level.rank < level.rank:
        return False
    recent = sum(rank >= level.rank for rank in watch.looks[-policy.looks :])
    return signal.lasting or recent >= policy.enter


def _is_flapping(looks: Sequence[int], was: bool, policy: AlertPolicy) -> bool:
    """Whether the weighted share of changes is flapping; weights from 0.8 for the oldest to 1.2, as in Nagios."""
    if len(looks) < _KEPT_LOOKS:
        return was
    bad = [rank >= Level.WARNING.rank for rank in looks]
    if not any(bad):
        return False
    steps = len(bad) - 1
    share = sum(0.8 + 0.4 * step / (steps - 1) for step in range(steps) if bad[step] != bad[step + 1]) / steps
    return share > (policy.flapping_until if was else policy.flapping_from)


def _was_explained(
    watch: _MetricHistory, watches: Mapping[str, _MetricHistory], now: datetime, policy: AlertPolicy
) -> bool:
    """Whether another alert of the service was open when this one opened, and closed within the rest time."""
    return watch.alert is not None and any(
        history.service == watch.service
        and history.closed_at is not None
        and watch.alert.opened_at <= history.closed_at
        and now - history.closed_at < policy.rest
        for history in watches.values()
    )


def _is_due(watch: _MetricHistory, now: datetime, policy: AlertPolicy) -> bool:
    if watch.alert is None or watch.reported_at is None or watch.alert.state is AlertState.ACKNOWLEDGED:
        return False
    return now - watch.reported_at >= (policy.remind_again if watch.reminders else policy.remind_first)


def _open_alert(signal: Signal, environment: str, critical: bool) -> Alert:
    # The id follows from the subject and the beginning, so a repeated evaluation opens the alert once.
    words = f"{environment}/{signal.service}/{signal.metric}/{signal.at.isoformat()}"
    return Alert(
        alert_id=f"alert-{hashlib.sha256(words.encode()).hexdigest()[:16]}",
        environment=environment,
        service=signal.service,
        metric=signal.metric,
        severity=AlertSeverity.CRITICAL if critical else AlertSeverity.WARNING,
        reason=signal.reason,
        opened_at=signal.at,
        value=signal.value,
        threshold=signal.threshold,
    )


def _events(
    reported: Sequence[tuple[AlertChange, str]], watches: Mapping[str, _MetricHistory], parents: Mapping[str, str]
) -> tuple[AlertEvent, ...]:
    events = []
    for change, key in reported:
        watch = watches[key]
        alert = watch.closed if change is AlertChange.RESOLVED else watch.alert
        # An explained alert was not reported, so its changes are not reported either.
        if alert is None or key in parents or watch.reported_at is None:
            continue
        children = tuple(sorted(child for child, root in parents.items() if root == key))
        events.append(AlertEvent(change=change, alert=alert, children=children))
    return tuple(events)


def _write(watches: Mapping[str, _MetricHistory]) -> bytes:
    histories = {
        key: replace(watch, closed=None)
        for key, watch in watches.items()
        if watch.alert or watch.closed_at or max(watch.looks, default=0) >= Level.WARNING.rank
    }
    return orjson.dumps(histories, option=orjson.OPT_SERIALIZE_NUMPY)


def _read(state: bytes | None) -> dict[str, _MetricHistory]:
    try:
        return {} if state is None else _STATE.validate_json(state)
    except ValidationError as error:
        raise BadInputError("The state of the alerts is not readable;", advice="start anew.") from error


def explain_alerts(firing: Mapping[str, Alert], needs: Sequence[Dependency]) -> dict[str, str]:
    """Map the key of each open alert that another one explains to the key of its root cause.

    - A critical alert of a service explains the alerts of all services that depend on it, directly or not.
    - Any alert of a service explains its later and lesser alerts; an alert of an error budget explains none.
    - Slowness of a service explains slowness of those that wait for it.
    - A service that takes a resource explains that the host lacks it.
    """
    by_age = sorted(firing, key=lambda key: (firing[key].opened_at, key))
    critical: dict[str, str] = {}
    first: dict[str, str] = {}
    for key in by_age:
        if firing[key].severity is AlertSeverity.CRITICAL:
            critical.setdefault(_subject(firing[key]), key)
    # A budget only counts failures that another alert of the service reports.
    for key in sorted(by_age, key=lambda key: (firing[key].metric.endswith(BUDGET), key not in critical.values())):
        first.setdefault(_subject(firing[key]), key)
    age = {key: place for place, key in enumerate(by_age)}
    hard = needs_of(need for need in needs if need.dependency_type is not DependencyType.OPTIONAL)
    below = {subject: {subject, *reachable(subject, hard)} for subject in first}
    reached = {subject: below[subject] & critical.keys() for subject in below}
    explained = {}
    for key, alert in firing.items():
        subject = _subject(alert)
        # A root needs no failed service that does not need it in turn: so a dependency cycle has roots too.
        roots = [
            service for service in reached[subject] if all(service in reached[other] for other in reached[service])
        ]
        root = _taker(alert, firing, by_age) or min(
            (first[service] for service in roots), key=age.__getitem__, default=None
        )
        root = root or _slowest_below(alert, firing, below) or first[subject]
        if root != key:
            explained[key] = root
    return {key: _last(key, explained) for key in explained}


def _subject(alert: Alert) -> str:
    """Return the service of an alert, or the resource if it is of the host: resources fail independently."""
    if alert.service != HOST:
        return alert.service
    resource = alert.metric.removesuffix(AHEAD)
    return f"{HOST}/{_RESOURCES.get(resource, resource)}"


def _last(key: str, explained: Mapping[str, str]) -> str:
    """Follow a chain of causes to its end: each step leads to a dependency, a resource or an earlier alert."""
    while key in explained:
        key = explained[key]
    return key


def _taker(alert: Alert, firing: Mapping[str, Alert], by_age: Sequence[str]) -> str | None:
    """Return the alert of the service that takes the resource the host lacks."""
    resource = _RESOURCES.get(alert.metric)
    if alert.service != HOST or resource is None:
        return None
    return next((key for key in by_age if firing[key].service != HOST and firing[key].metric == resource), None)


def _slowest_below(alert: Alert, firing: Mapping[str, Alert], below: Mapping[str, AbstractSet[str]]) -> str | None:
    """Return the alert of the slow service that a slow one waits for, directly or not."""
    if alert.metric != _SLOWNESS:
        return None
    slow = {firing_alert.service: key for key, firing_alert in firing.items() if firing_alert.metric == _SLOWNESS}
    waited_for = [service for service in sorted(below[alert.service] & slow.keys()) if service != alert.service]
    bottom = [service for service in waited_for if not (below[service] & slow.keys()) - {service}]
    return slow[bottom[0]] if bottom else None
