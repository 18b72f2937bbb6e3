"""Needs across environments: their order, circles in it, and whether what is needed is healthy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from models.containers import ContainerState
from models.health import Health, HealthReport, ServiceHealth
from models.needs import NeedState

NeedsOf = Mapping[str, Collection[str]]
"""The needs of environments, by their names."""

_NOT_UP = frozenset({ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED, ServiceHealth.STARTING, ServiceHealth.UNKNOWN})

_READY_WITHIN = timedelta(minutes=1)
"""What ended so soon after its need was started may have ended because that was not ready."""


def circle_of(environment: str, needs: NeedsOf) -> tuple[str, ...]:
    """Return the environments on a way from one back to itself, that one first and last; empty without such a way."""
    ways: list[tuple[str, ...]] = [(environment,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for other in dict.fromkeys(need.partition("/")[0] for need in needs.get(way[-1], ())):
            if other == environment:
                return (*way, other)
            if other not in seen:
                seen.add(other)
                ways.append((*way, other))
    return ()


def dependants_of_environment(environment: str, needs: NeedsOf, services: Collection[str] | None = None) -> list[str]:
    """Return the environments that need one, directly or through others, nearest first.

    Where `services` are given, a need of another service of it does not count.
    """
    meant = {environment, *(f"{environment}/{service}" for service in services or ())}

    def is_hit(needed: Iterable[str]) -> bool:
        return any(
            need in meant or (services is None and need.partition("/")[0] == environment) for need in needed
        ) or any(need.partition("/")[0] in hit for need in needed)

    hit: list[str] = []
    while more := sorted(name for name in needs.keys() - {environment, *hit} if is_hit(needs[name])):
        hit += more
    return hit


def judge_need(
    need: str, report: HealthReport, containers: Sequence[ContainerState], *, stopped: bool, held: bool
) -> NeedState:
    """Judge a need by the health of its environment.

    `stopped`: a person stopped that environment. `held`: an operation is at work on it, so it may come up.
    """
    environment, _, service = need.partition("/")
    verdicts = [verdict for verdict in report.services if not service or verdict.service == service]
    if not verdicts:
        have = ", ".join(verdict.service for verdict in report.services)
        return NeedState(need=need, up=None, reason=f"{environment} has no such service: it has {have or 'none'}")
    down = [verdict for verdict in verdicts if verdict.health in _NOT_UP and (service or verdict.required)]
    own = [state for state in containers if not state.one_off and service in ("", state.service)]
    starts = [state.started_at for state in own if state.started_at is not None]
    return NeedState(
        need=need,
        up=not down and (bool(service) or report.overall is not Health.UNHEALTHY),
        reason="; ".join(f"{verdict.service} is {verdict.health}: {verdict.reason}" for verdict in down),
        since=max(starts, default=None),
        coming=held or (not stopped and bool(own)),
    )


def was_down_when_it_failed(state: NeedState, failed_at: datetime) -> bool:
    """Whether a need is down, or came up only after a service failed or shortly before."""
    return state.up is False or (state.since is not None and failed_at < state.since + _READY_WITHIN)


def down_words(states: Iterable[NeedState]) -> str:
    """Say which needs of an environment are down; empty where none is."""
    words = ", and ".join(state.words for state in states if state.up is False)
    return words and f"it needs {words}"
