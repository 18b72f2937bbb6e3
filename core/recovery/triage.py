"""Triage: from observations of services to decisions, causes first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from core.common.dependencies import dependants_of
from core.recovery.policy import AT_ONCE
from core.recovery.tracker import LOOP, NO_SERVICE, SETTLE, ServiceTracker
from models.compose import ServiceDeclaration
from models.containers import ContainerEvent, ContainerState, replicas
from models.health import UNHEALTHY_STATES, ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyType
from models.operations import RECOVERY_OF
from models.recovery import PersonStop

LOOP_WITHIN = timedelta(minutes=5)
"""The engine waits up to a minute before it restarts what keeps ending."""

AGAIN = timedelta(minutes=10)
"""A service that is observed unchanged since its last recovery is recovered again after this long."""

_RESTARTING = "the engine is restarting it"
STOPPED = PersonStop(certain=True, reason="a person stopped it")
WELL = frozenset({ServiceHealth.HEALTHY, ServiceHealth.COMPLETED, ServiceHealth.UNPROVEN})
"""States of a service that serves; one without any check can show no more than that it runs."""

UNHEALTHY = "health_status: unhealthy"
_FAILURE_EVENTS = frozenset({"die", "oom", UNHEALTHY})


class Decision(StrEnum):
    """What is done about an observation."""

    RECOVER = "recover"
    WAIT = "wait"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceObservation:
    """State of a service at one moment, the decision it calls for by itself, and the reason.

    `fingerprint` stays the same while its containers stay in the same state. `unhealthy`: it does not serve, so
    those that need it cannot either. `starting`: it runs, and its check has not passed yet. `crashed`: it ended by
    itself and the engine restarts it; `restarting`: the engine has not done so yet.
    """

    service: str
    decision: Decision
    reason: str
    fingerprint: str = ""
    unhealthy: bool = False
    starting: bool = False
    crashed: bool = False
    restarting: bool = False

    @property
    def text(self) -> str:
        """The failure as it is reported to recovery."""
        return self.reason if self.service == NO_SERVICE else f"service {self.service} is {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageContext:
    """State that decides over all observations of a moment.

    `held` names the operation that holds the environment, None without one. `muted` are services under maintenance,
    `with_engine` those that ended because the engine or its host did. `needs_down` says which other environments, that
    all services need, are down; it is empty where none is.
    """

    dependencies: Sequence[Dependency] = ()
    held: str | None = None
    muted: Collection[str] = ()
    with_engine: Collection[str] = ()
    needs_down: str = ""
    trackers: Mapping[str, ServiceTracker] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFailure:
    """One failure to recover from: of a service, or with NO_SERVICE where `failing` services fail at once."""

    service: str
    text: str
    fingerprint: str = ""
    failing: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageResult:
    """All observations of a moment by decision.

    `at_once` are the services that fail now and began to within SETTLE, where they are so many that they have one
    cause outside of them, so that none of them is acted on; else it is empty.
    """

    recover: tuple[ServiceObservation, ...]
    wait: tuple[ServiceObservation, ...]
    ignore: tuple[ServiceObservation, ...]
    at_once: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[ServiceFailure, ...]:
        """The failures to recover from: one a service, or a single one for all that fail at once."""
        if not self.at_once:
            return tuple(
                ServiceFailure(service=observation.service, text=observation.text, fingerprint=observation.fingerprint)
                for observation in self.recover
            )
        named = "; ".join(f"{observation.service} is {observation.reason}" for observation in self.recover)
        text = f"{', '.join(self.at_once)} failed within {SETTLE.seconds} s: {named}"
        return (ServiceFailure(service=NO_SERVICE, text=text, failing=len(self.at_once)),)


def may_be_failure(event: ContainerEvent) -> bool:
    """Whether an event is a reason to observe its service."""
    return event.action in _FAILURE_EVENTS


def observe_containers(
    declaration: ServiceDeclaration,
    container_states: Sequence[ContainerState],
    *,
    judge: Callable[[Sequence[ContainerState]], ServiceVerdict],
    tracker: ServiceTracker,
    now: datetime,
) -> ServiceObservation:
    """Observe a service after an event, by its containers.

    `judge` judges the service from its containers. Its own probe is not asked: recovery asks it before it acts again.
    """
    containers = replicas(container_states, declaration.name)
    observation = _observe_state(declaration, containers, judge, tracker, now)
    health = judge(containers).health
    unhealthy = observation.decision is not Decision.IGNORE or health in UNHEALTHY_STATES
    starting = health is ServiceHealth.STARTING
    return replace(observation, fingerprint=_fingerprint(containers), unhealthy=unhealthy, starting=starting)


def observe_verdict(
    verdict: ServiceVerdict,
    container_states: Sequence[ContainerState],
    *,
    stopped: PersonStop | None,
    tracker: ServiceTracker,
    now: datetime,
) -> ServiceObservation:
    """Observe a service in a sweep, by its verdict.

    `stopped` is what the records show of a person's stop; its tracker may know of one by the events as well.
    """
    containers = replicas(container_states, verdict.service)
    observation = observe_health(verdict, container_states)
    if not observation.unhealthy:
        return observation
    if stopped or (containers and not _not_stopped(containers, tracker)):
        return replace(observation, decision=Decision.IGNORE, reason=(stopped or STOPPED).reason)
    if containers and all(container.state == "created" for container in containers):
        return replace(observation, decision=Decision.IGNORE, reason="it was never started")
    if (reason := taken_away(containers)) and (tracker.missing_since is None or now - tracker.missing_since < SETTLE):
        # To replace or copy a container takes it away or pauses it for a moment only.
        return replace(observation, decision=Decision.WAIT, reason=reason)
    if any(container.state == "restarting" for container in containers):
        return replace(observation, decision=Decision.WAIT, reason=_RESTARTING, restarting=True)
    recent = [state for state in containers if state.started_at is not None and abs(now - state.started_at) < SETTLE]
    if any(state.state == "running" and state.health != "unhealthy" for state in recent):
        # The verdict may be of the container before, or of a check that came before the service was ready.
        return replace(observation, decision=Decision.WAIT, reason="it was started a moment ago")
    return observation


def observe_health(verdict: ServiceVerdict, container_states: Sequence[ContainerState]) -> ServiceObservation:
    """Observe a service in a collection, by its verdict alone: recover what is down."""
    down = verdict.health in UNHEALTHY_STATES
    return ServiceObservation(
        service=verdict.service,
        decision=Decision.RECOVER if down else Decision.IGNORE,
        reason=f"{verdict.health}: {verdict.reason}" if down else verdict.reason,
        fingerprint=_fingerprint(replicas(container_states, verdict.service)),
        unhealthy=down,
        starting=verdict.health is ServiceHealth.STARTING,
    )


def perhaps_stopped(environment: str) -> PersonStop:
    """Why a service stays down that was not seen to fail, where no operation shows that it is meant to run."""
    reason = (
        f"it was down before it was watched, and no operation of {environment} is on record here, so a person may "
        f"have stopped it; to start it: roas start {environment}"
    )
    return PersonStop(certain=False, reason=reason)


def taken_away(containers: Sequence[ContainerState]) -> str | None:
    """Return what happened to a service's containers that may last a moment only; None if nothing did."""
    if not containers:
        return "its containers were removed, perhaps to be replaced"
    return (
        "it is paused, perhaps for a moment" if any(container.state == "paused" for container in containers) else None
    )


def _not_stopped(containers: Sequence[ContainerState], tracker: ServiceTracker) -> list[ContainerState]:
    return [state for state in containers if state.state != "exited" or state.container_id not in tracker.stopped]


def triage(observations: Sequence[ServiceObservation], context: TriageContext, now: datetime) -> TriageResult:
    """Decide which services are recovered now, which wait, and which are ignored, each with the reason.

    Causes come first: a service that requires another failing one waits until that one is healthy and has been for
    SETTLE, also where a person must recover that one, or while it is starting. Three or more causes that fail now, and
    began to within SETTLE, are one cause outside of them: none of them is acted on until fewer fail. A start of the
    engine is such a cause as well, but a known one that is over: what it left down is brought up.
    """
    recent = {
        name for name, tracker in context.trackers.items() if name != NO_SERVICE and tracker.failed_within(SETTLE, now)
    }
    recovering = {name for name, tracker in context.trackers.items() if name != NO_SERVICE and tracker.recovering}
    is_storm = len(_still_held(observations, context)) >= AT_ONCE
    current = [_without_what_is_known(observation, context, now, is_storm=is_storm) for observation in observations]
    failing = {observation.service for observation in current if observation.decision is Decision.RECOVER}
    unhealthy = {
        observation.service
        for observation in current
        if observation.unhealthy or observation.starting or observation.decision is Decision.WAIT
    }
    unhealthy |= failing | recovering | recent
    required = [need for need in context.dependencies if need.dependency_type is DependencyType.REQUIRED]
    ordered = [
        _behind_its_cause(observation, required, unhealthy, failing | recovering | recent) for observation in current
    ]
    causes, wait, ignore = (
        tuple(observation for observation in ordered if observation.decision is decision) for decision in Decision
    )
    at_once = {observation.service for observation in causes}
    at_once |= {name for name in recovering if context.trackers[name].is_recovering_since(SETTLE, now)}
    at_once -= frozenset(context.with_engine)
    alike = tuple(sorted(at_once)) if causes and len(at_once) >= AT_ONCE else ()
    return TriageResult(recover=causes, wait=wait, ignore=ignore, at_once=alike)


def services_ended_with_engine(
    container_states: Sequence[ContainerState], started_at: datetime | None
) -> frozenset[str]:
    """Return the services that are down since an engine started, or since it or its host had ended before that."""
    if started_at is None:
        return frozenset()
    containers = replicas(container_states)
    unaffected_services = {
        container.service
        for container in containers
        if container.state != "exited" or container.finished_at is None or container.finished_at > started_at + SETTLE
    }
    return frozenset(container.service for container in containers) - unaffected_services


def _still_held(observations: Sequence[ServiceObservation], context: TriageContext) -> set[str]:
    """The services that were held as one and still fail; what is not observed now has not changed."""
    over = {observation.service for observation in observations if observation.decision is Decision.IGNORE}
    return {name for name, tracker in context.trackers.items() if tracker.held_as_one and name not in over}


def _observe_state(
    declaration: ServiceDeclaration,
    containers: Sequence[ContainerState],
    judge: Callable[[Sequence[ContainerState]], ServiceVerdict],
    tracker: ServiceTracker,
    now: datetime,
) -> ServiceObservation:
    def observe(decision: Decision, reason: str, **more: Any) -> ServiceObservation:
        return ServiceObservation(service=declaration.name, decision=decision, reason=reason, **more)

    remaining = _not_stopped(containers, tracker)
    if containers and not remaining:
        return observe(Decision.IGNORE, STOPPED.reason)
    containers = remaining
    if reason := taken_away(containers):
        return observe(Decision.WAIT, reason)
    if all(container.state == "created" for container in containers):
        return observe(Decision.IGNORE, "it was never started")
    lately = [now - end for end in tracker.ends if now - end < LOOP_WITHIN]
    if len(lately) >= LOOP and declaration.restart != "no":
        words = f"it ended {len(lately)} times within {max(lately).total_seconds():.0f} s"
        return observe(Decision.RECOVER, f"in a crash loop: {words}")
    # A container that ends with a restart policy is "restarting" from that moment; one that is "exited" is not
    # restarted by the engine, whatever its policy.
    if any(container.state == "restarting" for container in containers):
        return observe(Decision.WAIT, _RESTARTING, crashed=True, restarting=True)
    verdict = judge(containers)
    if verdict.health in UNHEALTHY_STATES:
        return observe(Decision.RECOVER, f"{verdict.health}: {verdict.reason}")
    if verdict.health is ServiceHealth.COMPLETED:
        return observe(Decision.IGNORE, f"a job that is done: {verdict.reason}")
    if any(ago < SETTLE for ago in lately):
        return observe(Decision.WAIT, "the engine restarted it", crashed=True)
    return observe(Decision.IGNORE, verdict.reason)


def _without_what_is_known(
    observation: ServiceObservation, context: TriageContext, now: datetime, *, is_storm: bool
) -> ServiceObservation:
    """Hold an observation back while an operation, a recovery or a person deals with the service already."""
    tracker = context.trackers.get(observation.service, ServiceTracker())
    if observation.decision is Decision.IGNORE:
        return observation
    if tracker.recovering:
        return replace(observation, decision=Decision.IGNORE, reason="it is being recovered")
    if context.held is not None:
        # What fails in an operation is recorded by it, once; a recovery records only its own service.
        crashed = observation.crashed and RECOVERY_OF in context.held
        reason = f"{context.held} holds the environment"
        return replace(observation, decision=Decision.WAIT, reason=reason, crashed=crashed)
    if observation.service in context.muted:
        return replace(observation, decision=Decision.WAIT, reason="it is under maintenance")
    if context.needs_down and observation.service != NO_SERVICE:
        # What it says meanwhile, and how often it ends, shows nothing but that.
        return replace(observation, decision=Decision.WAIT, reason=context.needs_down, crashed=False, restarting=False)
    if tracker.end_requested_at is not None and abs(now - tracker.end_requested_at) < SETTLE:
        return replace(observation, decision=Decision.WAIT, reason="it was asked to end")
    next_attempt_at = tracker.next_attempt_at
    if next_attempt_at is not None and next_attempt_at > now:
        return replace(observation, decision=Decision.WAIT, reason="its next attempt waits for its time")
    if next_attempt_at is not None and observation.restarting:
        # The engine has had its time as well, and waits longer before each of its restarts.
        reason = "in a crash loop: it ends again whenever it is restarted"
        return replace(observation, decision=Decision.RECOVER, reason=reason)
    if tracker.held_as_one and not is_storm:
        return observation
    fingerprint, at = tracker.dispatched or (None, now)
    if observation.decision is Decision.RECOVER and fingerprint == observation.fingerprint and now - at < AGAIN:
        reason = f"its recovery began in the same state at {at:%H:%M:%S} UTC"
        return replace(observation, decision=Decision.IGNORE, reason=reason)
    return observation


def _behind_its_cause(
    observation: ServiceObservation,
    dependencies: Sequence[Dependency],
    unhealthy: AbstractSet[str],
    began: AbstractSet[str],
) -> ServiceObservation:
    """Let a service wait for an unhealthy one that it needs; in a cycle, where all wait for another, none does.

    One that `began` to fail now holds those back, too, which need it through another: that one may fail in a moment.
    """
    dependants = {need.service for need in dependencies if need.depends_on in unhealthy}
    name, behind = observation.service, {cause: dependants_of([cause], dependencies) for cause in began}
    dependants = dependants.union(*behind.values())
    if observation.decision is not Decision.RECOVER or name not in dependants or unhealthy <= dependants:
        return observation
    direct = {need.depends_on for need in dependencies if need.service == name} & unhealthy
    needed = sorted(direct or {cause for cause in began if name in behind[cause]})
    reason = f"it needs {', '.join(needed)}, which is recovered first"
    return replace(observation, decision=Decision.WAIT, reason=reason)


def _fingerprint(containers: Sequence[ContainerState]) -> str:
    return " ".join(
        f"{container.container_id[:12]}/{container.state}/{container.health}/{container.started_at}"
        for container in containers
    )
