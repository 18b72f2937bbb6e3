"""Watching: what an event or a look at a service calls for, and which of several failing ones is the cause."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.common.dependencies import first_causes
from core.recovery.policy import AT_ONCE
from models.compose import ServiceDeclaration
from models.containers import ContainerEvent, ContainerState
from models.health import UNHEALTHY_STATES, ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyType

SETTLE = timedelta(seconds=15)
"""How long the engine may take to bring a container back by itself, and dependants to notice that a cause is gone.
Failures within it count as failures at once."""

LOOP = 3
"""So many ends within LOOP_WITHIN are a loop that the engine's own restarts do not end."""

LOOP_WITHIN = timedelta(minutes=5)
"""The engine waits up to a minute before it restarts what keeps ending."""

AGAIN = timedelta(minutes=10)
"""A service that stays exactly as it was handed over is handed over again after this long."""

_RESTARTING = "the engine is restarting it"

WELL = frozenset({ServiceHealth.HEALTHY, ServiceHealth.COMPLETED, ServiceHealth.UNPROVEN})
"""As well as can be told: what has no check at all can show no more than that it runs."""

UNHEALTHY = "health_status: unhealthy"
_BAD = frozenset({"die", "oom", UNHEALTHY})


class Decision(StrEnum):
    """What is to be done about a sign."""

    HAND_OVER = "hand over"
    WAIT = "wait"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a service shows, what that calls for, and why.

    `fingerprint` is the same as long as its containers are in the same life and state. `ill`: it does not serve, so
    who needs it cannot, whatever it calls for. `crashed`: it ended by itself and the engine brings it back;
    `restarting`: it has not done so yet.
    """

    service: str
    decision: Decision
    reason: str
    fingerprint: str = ""
    ill: bool = False
    crashed: bool = False
    restarting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageContext:
    """What bears on all signs of a moment.

    `held` says who operates on the environment, None where nobody does. `muted` are the services
    under maintenance. `recovering` are the services being recovered. `failed` maps a service to when it
    last failed or was recovered, `handed` to the likeness and the moment it was last handed over with, `put_off` to
    when its next attempt may begin, which may be past. `ending` are services that were asked to end and have not yet.
    """

    dependencies: Sequence[Dependency] = ()
    held: str | None = None
    muted: Collection[str] = ()
    recovering: Collection[str] = ()
    failed: Mapping[str, datetime] | None = None
    handed: Mapping[str, tuple[str, datetime]] | None = None
    put_off: Mapping[str, datetime] | None = None
    ending: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageResult:
    """All signs of a moment, sorted out.

    `at_once` are the services that failed within SETTLE, where they are so many that they have one cause outside
    of them, and none of them is to be acted on; else it is empty.
    """

    dispatch: tuple[Finding, ...]
    wait: tuple[Finding, ...]
    leave: tuple[Finding, ...]
    at_once: tuple[str, ...] = ()


def is_bad(event: ContainerEvent) -> bool:
    """Whether an event is a reason to look at its service."""
    return event.action in _BAD


def judge_sign(
    declaration: ServiceDeclaration,
    container_states: Sequence[ContainerState],
    *,
    judge: Callable[[Sequence[ContainerState]], ServiceVerdict],
    ends: Sequence[datetime],
    stopped: Collection[str],
    now: datetime,
) -> Finding:
    """What a service's containers show after an event: whether anybody must do something about it.

    `judge` judges the service from its containers.
    `ends` are the moments its containers ended by themselves lately; `stopped` are containers that were stopped on
    request since their last start. The service's own probe is not asked: that is done before anything is proven.
    """
    mine = _containers(declaration.name, container_states)
    sign = _by_state(declaration, mine, judge, ends, stopped, now)
    ill = sign.decision is not Decision.LEAVE or judge(mine).health in UNHEALTHY_STATES
    return replace(sign, fingerprint=_fingerprint(mine), ill=ill)


def judge_verdict(
    verdict: ServiceVerdict,
    container_states: Sequence[ContainerState],
    *,
    stopped: bool,
    seen_so: datetime | None,
    now: datetime,
) -> Finding:
    """What a sweep's verdict on a service calls for.

    `stopped` is whether a person stopped it. `seen_so` is when its containers were first seen missing or paused,
    None where they were not: whoever replaces or copies a container takes it away or pauses it for a moment only.
    """
    mine = _containers(verdict.service, container_states)
    fingerprint = _fingerprint(mine)
    if verdict.health not in UNHEALTHY_STATES:
        return _sign(verdict.service, Decision.LEAVE, verdict.reason, fingerprint)
    sign = _sign(verdict.service, Decision.HAND_OVER, f"{verdict.health}: {verdict.reason}", fingerprint, ill=True)
    if stopped:
        return replace(sign, decision=Decision.LEAVE, reason="a person stopped it")
    if mine and all(seen.state == "created" for seen in mine):
        return replace(sign, decision=Decision.LEAVE, reason="it was never started")
    if (wish := taken_away(mine)) and (seen_so is None or now - seen_so < SETTLE):
        return replace(sign, decision=Decision.WAIT, reason=wish)
    if any(seen.state == "restarting" for seen in mine):
        return replace(sign, decision=Decision.WAIT, reason=_RESTARTING, restarting=True)
    if any(_has_just_begun(seen, now) for seen in mine):
        # The verdict may be of the life before, or of a check that came before the service was ready.
        return replace(sign, decision=Decision.WAIT, reason="it was started a moment ago")
    return sign


def taken_away(mine: Sequence[ContainerState]) -> str | None:
    """What somebody did to a service's containers that may last a moment only; None where nobody did."""
    if not mine:
        return "its containers were removed, perhaps to be replaced"
    return "it is paused, perhaps for a moment" if any(seen.state == "paused" for seen in mine) else None


def fingerprint(service: str, container_states: Sequence[ContainerState]) -> str:
    """The same as long as the service's containers are in the same life and state."""
    return _fingerprint(_containers(service, container_states))


def _has_just_begun(seen: ContainerState, now: datetime) -> bool:
    young = seen.started_at is not None and now - seen.started_at < SETTLE
    return seen.state == "running" and seen.health != "unhealthy" and young


def sort_out(signs: Sequence[Finding], around: TriageContext, now: datetime) -> TriageResult:
    """Which services are handed over now, which wait, and which are left alone, each with the reason.

    First causes come first: a service that requires another failing one waits until that one is well and has
    been for SETTLE, also where that one is a person's to mend. Three or more first causes within SETTLE are one
    cause, and none of them is acted on.
    """
    checked = [_in_surroundings(sign, around, now) for sign in signs]
    bad = {sign.service for sign in checked if sign.decision is Decision.HAND_OVER}
    ill = (
        bad | {sign.service for sign in checked if sign.ill or sign.decision is Decision.WAIT} | set(around.recovering)
    )
    ill |= {name for name, at in (around.failed or {}).items() if now - at < SETTLE and name not in bad}
    required = [need for need in around.dependencies if need.dependency_type is DependencyType.REQUIRED]
    sorted_out = [_behind_its_cause(sign, required, ill) for sign in checked]
    causes = tuple(sign for sign in sorted_out if sign.decision is Decision.HAND_OVER)
    earlier = {name for name, at in (around.failed or {}).items() if now - at < SETTLE} | set(around.recovering)
    at_once = {sign.service for sign in causes} | earlier
    return TriageResult(
        dispatch=causes,
        wait=tuple(sign for sign in sorted_out if sign.decision is Decision.WAIT),
        leave=tuple(sign for sign in sorted_out if sign.decision is Decision.LEAVE),
        at_once=tuple(sorted(at_once)) if causes and len(at_once) >= AT_ONCE else (),
    )


def _by_state(
    declaration: ServiceDeclaration,
    mine: Sequence[ContainerState],
    judge: Callable[[Sequence[ContainerState]], ServiceVerdict],
    ends: Sequence[datetime],
    stopped: Collection[str],
    now: datetime,
) -> Finding:
    name = declaration.name
    meant = [seen for seen in mine if seen.state != "exited" or seen.container_id not in stopped]
    if mine and not meant:
        return _sign(name, Decision.LEAVE, "a person stopped it")
    mine = meant
    if wish := taken_away(mine):
        return _sign(name, Decision.WAIT, wish)
    if all(seen.state == "created" for seen in mine):
        return _sign(name, Decision.LEAVE, "it was never started")
    lately = [now - end for end in ends if now - end < LOOP_WITHIN]
    if len(lately) >= LOOP and declaration.restart != "no":
        words = f"it ended {len(lately)} times within {max(lately).total_seconds():.0f} s"
        return _sign(name, Decision.HAND_OVER, f"in a crash loop: {words}")
    # A container that ends with a restart policy is "restarting" from that moment; one that is "exited" is not
    # restarted by the engine, whatever its policy.
    if any(seen.state == "restarting" for seen in mine):
        return replace(_sign(name, Decision.WAIT, _RESTARTING, crashed=True), restarting=True)
    verdict = judge(mine)
    if verdict.health in UNHEALTHY_STATES:
        return _sign(name, Decision.HAND_OVER, f"{verdict.health}: {verdict.reason}")
    if verdict.health is ServiceHealth.COMPLETED:
        return _sign(name, Decision.LEAVE, f"a job that is done: {verdict.reason}")
    if any(ago < SETTLE for ago in lately):
        return _sign(name, Decision.WAIT, "the engine restarted it", crashed=True)
    return _sign(name, Decision.LEAVE, verdict.reason)


def _in_surroundings(sign: Finding, around: TriageContext, now: datetime) -> Finding:
    """The sign, held back where who operates, plans or recovers here has it in hand already."""
    if sign.decision is Decision.LEAVE:
        return sign
    if sign.service in around.recovering:
        return replace(sign, decision=Decision.LEAVE, reason="it is being recovered")
    if around.held is not None:
        return replace(sign, decision=Decision.WAIT, reason=f"{around.held} has the environment in hand")
    if sign.service in around.muted:
        return replace(sign, decision=Decision.WAIT, reason="it is under maintenance")
    if sign.service in around.ending:
        return replace(sign, decision=Decision.WAIT, reason="somebody asked it to end")
    due = (around.put_off or {}).get(sign.service)
    if due is not None and due > now:
        return replace(sign, decision=Decision.WAIT, reason="its next attempt waits for its time")
    if due is not None and sign.restarting:
        # The engine has had its time as well, and waits longer before each of its restarts.
        return replace(
            sign, decision=Decision.HAND_OVER, reason="in a crash loop: it ends again whenever it is restarted"
        )
    fingerprint, at = (around.handed or {}).get(sign.service, (None, now))
    if sign.decision is Decision.HAND_OVER and fingerprint == sign.fingerprint and now - at < AGAIN:
        return replace(sign, decision=Decision.LEAVE, reason=f"it was handed over as it is at {at:%H:%M:%S} UTC")
    return sign


def _behind_its_cause(sign: Finding, dependencies: Sequence[Dependency], ill: Collection[str]) -> Finding:
    if sign.decision is not Decision.HAND_OVER:
        return sign
    verdicts = [
        ServiceVerdict(service=name, health=ServiceHealth.UNHEALTHY, reason="") for name in {*ill, sign.service}
    ]
    if any(cause.service == sign.service for cause in first_causes(verdicts, dependencies)):
        return sign
    needed = sorted({need.depends_on for need in dependencies if need.service == sign.service} & set(ill))
    return replace(sign, decision=Decision.WAIT, reason=f"it needs {', '.join(needed)}, which is looked after first")


def _containers(service: str, container_states: Sequence[ContainerState]) -> list[ContainerState]:
    return [seen for seen in container_states if seen.service == service and not seen.one_off]


def _fingerprint(mine: Sequence[ContainerState]) -> str:
    return " ".join(f"{seen.container_id[:12]}/{seen.state}/{seen.health}/{seen.started_at}" for seen in mine)


def _sign(
    service: str, decision: Decision, reason: str, fingerprint: str = "", *, ill: bool = False, crashed: bool = False
) -> Finding:
    return Finding(service=service, decision=decision, reason=reason, fingerprint=fingerprint, ill=ill, crashed=crashed)
