"""Find which open alerts another open alert explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from models.metrics import HOST, Alert, AlertSeverity, Dependency, DependencyType

AHEAD = "_ahead"
"""Suffix of the alerts about predictions of a metric."""

BUDGET = "_budget"
"""Suffix of the alerts about an error budget."""

_SLOWNESS = "response_time"
_RESOURCES = {"cpu_usage": "cpu_usage", "load_1m": "cpu_usage", "memory_usage": "memory_usage"}
"""The resource behind a metric, which a service may take from the host."""


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
    for key in sorted(by_age, key=lambda key: (_is_budget(firing[key]), key not in critical.values())):
        first.setdefault(_subject(firing[key]), key)
    age = {key: place for place, key in enumerate(by_age)}
    below = {subject: _below(subject, needs) for subject in first}
    reached = {subject: below[subject] & critical.keys() for subject in below}
    explained = {}
    for key, alert in firing.items():
        subject = _subject(alert)
        # A root needs no failed service that does not need it in turn: so a dependency cycle has roots too.
        roots = [one for one in reached[subject] if all(one in reached[other] for other in reached[one])]
        root = _taker(alert, firing, by_age) or min((first[one] for one in roots), key=age.__getitem__, default=None)
        root = root or _slowest_below(alert, firing, below) or first[subject]
        if root != key:
            explained[key] = root
    return {key: _last(key, explained) for key in explained}


def _is_budget(alert: Alert) -> bool:
    """Whether an alert only counts failures that another alert of the service reports."""
    return alert.metric.endswith(BUDGET)


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
    slow = {one.service: key for key, one in firing.items() if one.metric == _SLOWNESS}
    waited_for = [one for one in sorted(below[alert.service] & slow.keys()) if one != alert.service]
    bottom = [one for one in waited_for if not (below[one] & slow.keys()) - {one}]
    return slow[bottom[0]] if bottom else None


def _below(service: str, needs: Sequence[Dependency]) -> set[str]:
    """Return the service and everything it depends on, directly or not."""
    todo, seen = [service], {service}
    while todo:
        one = todo.pop()
        for need in needs:
            hard = need.dependency_type is not DependencyType.OPTIONAL
            if need.service == one and hard and need.depends_on not in seen:
                seen.add(need.depends_on)
                todo.append(need.depends_on)
    return seen
