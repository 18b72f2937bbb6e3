"""Reconciler: one queue a service, filled by events, sweeps and collections, and one triage for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from core.recovery.policy import PROVEN_AFTER
from core.recovery.tracker import NO_SERVICE, SETTLE, ServiceTracker
from core.recovery.triage import (
    Decision,
    ServiceObservation,
    TriageContext,
    TriageResult,
    may_be_failure,
    taken_away,
    triage,
)
from models.containers import ContainerEvent, ContainerState
from models.recovery import RecoveryMethod, RecoveryOutcome


class Reconciler:
    """Trackers and queues of an environment's services; a service has at most one recovery at a time.

    A queue holds one entry: events of a service that come before it is observed lead to one observation, and so do
    those that come during its recovery.
    """

    def __init__(self) -> None:
        self.trackers: dict[str, ServiceTracker] = {}
        self._queued: set[str] = set()

    @property
    def queued_services(self) -> frozenset[str]:
        """The services to observe."""
        return frozenset(self._queued)

    def take(self) -> frozenset[str]:
        """Empty the queues, and return the services to observe."""
        queued, self._queued = frozenset(self._queued), set()
        return queued

    def tracker(self, service: str) -> ServiceTracker:
        """Return the memory of a service."""
        return self.trackers.get(service, ServiceTracker())

    def ends(self, service: str) -> dict[str, datetime]:
        """Return when a container of a service was last seen to end without a request, by its id."""
        end = self.tracker(service).last_end
        return {} if end is None else {end.container_id: end.happened_at}

    def recovering_services(self) -> frozenset[str]:
        """Return the services whose recovery runs."""
        return frozenset(name for name, tracker in self.trackers.items() if tracker.recovering)

    def receive(self, events: Sequence[ContainerEvent]) -> frozenset[str]:
        """Queue the services to which events happened that may be failures; return those that were stopped.

        A service that is being recovered is neither: its events are taken for the recovery's own.
        """
        stopped: set[str] = set()
        for event in events:
            tracker = self.tracker(event.service)
            self.trackers[event.service] = tracker.apply_event(event)
            if may_be_failure(event) and not tracker.recovering:
                self._queued.add(event.service)
            if event.action == "stop" and not tracker.recovering:
                stopped.add(event.service)
        return frozenset(stopped)

    def forget_requests(self, services: Iterable[str]) -> None:
        """Forget that services were stopped or told to end: an event that ends this was perhaps missed."""
        self.trackers |= {name: self.tracker(name).apply_missed_events() for name in services}

    def put_off(self, observations: Sequence[ServiceObservation], changed: Collection[str]) -> list[ServiceObservation]:
        """Queue the failing services that changed after they were observed, and let these observations wait."""
        late = {
            observation.service
            for observation in observations
            if observation.decision is Decision.RECOVER and observation.service in changed
        }
        self._queued |= late
        reason = "it changed during the sweep"
        return [
            replace(observation, decision=Decision.WAIT, reason=reason) if observation.service in late else observation
            for observation in observations
        ]

    def decide(self, observations: Sequence[ServiceObservation], context: TriageContext, now: datetime) -> TriageResult:
        """Triage observations, and remember what is dispatched: the caller recovers from the result's failures."""
        result = triage(observations, replace(context, trackers=self.trackers), now)
        for observation in result.ignore:
            if not observation.unhealthy:
                tracker = self.tracker(observation.service)
                self.trackers[observation.service] = replace(tracker, next_attempt_at=None, held_as_one=False)
        for observation in result.recover:
            tracker, as_one = self.tracker(observation.service), bool(result.at_once)
            self.trackers[observation.service] = tracker.apply_dispatch(
                observation.fingerprint, now, held_as_one=as_one
            )
        return result

    def begin(self, service: str) -> None:
        """Remember that a recovery of a service runs."""
        self.trackers[service] = replace(self.tracker(service), recovering=True)

    def finish(self, service: str, outcome: RecoveryOutcome | None, now: datetime) -> datetime | None:
        """Remember how a recovery ended, None where it failed to run; return when the next attempt may begin."""
        next_attempt_at = None
        if outcome is not None and outcome.method is RecoveryMethod.DEFERRED:
            next_attempt_at = outcome.again_at or now + SETTLE
        self.trackers[service] = self.tracker(service).apply_recovery(next_attempt_at, now)
        if service != NO_SERVICE:
            # Its events during the recovery were taken for the recovery's own.
            self._queued.add(service)
        return next_attempt_at

    def new_crash(self, service: str, now: datetime) -> str | None:
        """Note that the engine restarts a service; return the exit code of an end that was not noted before."""
        tracker = self.tracker(service)
        end = tracker.last_end
        if end is None or (tracker.crash is not None and tracker.crash[0] == end.happened_at):
            return None
        self.trackers[service] = replace(tracker, crash=(end.happened_at, now))
        return str(end.attributes.get("exitCode", "unknown"))

    def back_after_crash(self, healthy: Collection[str], now: datetime) -> tuple[list[str], list[timedelta]]:
        """Forget the crashes of services that are healthy since SETTLE; return these, and how long others need.

        One that was handed to recovery lately is left out: in a crash loop it is healthy after each restart.
        """
        crashed = {
            name: tracker.crash[1]
            for name, tracker in self.trackers.items()
            if tracker.crash and name in healthy and not tracker.failed_within(PROVEN_AFTER, now)
        }
        back = [name for name, at in crashed.items() if now - at >= SETTLE]
        for name in back:
            self.trackers[name] = replace(self.trackers[name], crash=None)
        return back, [at + SETTLE - now for name, at in crashed.items() if name not in back]

    def sweep(self, services: Collection[str], container_states: Sequence[ContainerState], now: datetime) -> None:
        """Forget services that are gone, and note whose containers are removed or paused."""
        for name in [
            name for name, tracker in self.trackers.items() if name not in services and not tracker.recovering
        ]:
            del self.trackers[name]
        existing = {container.container_id for container in container_states}
        for name in services:
            containers = [
                container for container in container_states if container.service == name and not container.one_off
            ]
            self.trackers[name] = self.tracker(name).apply_sweep(
                existing, now, missing=taken_away(containers) is not None
            )
