"""Memory of a watched service between two observations, and how events and recoveries change it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models.containers import ContainerEvent

SETTLE = timedelta(seconds=15)
"""How long the engine may take to bring a container back by itself, and dependants to notice that a cause is gone.
Failures within it count as failures at once."""

LOOP = 3
"""So many ends within LOOP_WITHIN are a loop that the engine's own restarts do not end."""

NO_SERVICE = ""
"""Key of failures that concern no single service: of several at once, or of the engine."""

_END_SIGNALS = frozenset({"2", "3", "15"})
"""SIGINT, SIGQUIT and SIGTERM, with which images ask their program to end."""


def asks_to_end(event: ContainerEvent) -> bool:
    """Whether an event is the signal by which a stop begins; the engine reports the stop only after the end."""
    return event.action == "kill" and event.attributes.get("signal") in _END_SIGNALS


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTracker:
    """Memory of one service.

    - `ends`: when its containers last ended without a request; `last_end` is the latest of these events.
    - `stopped`: containers stopped on request since their last start.
    - `end_requested_at`: when a container was told to end, until the engine reports its stop.
    - `missing_since`: when its containers were first seen removed or paused.
    - `crash`: when it last ended by itself and when that was observed; None once it is healthy.
    - `failed_at`: when it last failed, or its last recovery ended.
    - `dispatched`: fingerprint and moment of its last recovery.
    - `held_as_one`: it was not recovered then, because it failed together with others; until it is healthy.
    - `next_attempt_at`: from when a postponed attempt may begin.
    """

    ends: tuple[datetime, ...] = ()
    last_end: ContainerEvent | None = None
    stopped: frozenset[str] = frozenset()
    end_requested_at: datetime | None = None
    missing_since: datetime | None = None
    crash: tuple[datetime, datetime] | None = None
    recovering: bool = False
    failed_at: datetime | None = None
    dispatched: tuple[str, datetime] | None = None
    held_as_one: bool = False
    next_attempt_at: datetime | None = None

    def apply_event(self, event: ContainerEvent) -> ServiceTracker:
        """Return the memory after an event; a recovery's own events are no ends of the service."""
        if asks_to_end(event):
            return replace(self, end_requested_at=event.happened_at)
        if event.action == "stop":
            return replace(self, stopped=self.stopped | {event.container_id}, end_requested_at=None)
        if event.action == "destroy":
            return replace(self, stopped=self.stopped - {event.container_id})
        if event.action == "start":
            return replace(self, stopped=self.stopped - {event.container_id}, end_requested_at=None)
        if event.action != "die":
            return self
        if self.end_requested_at is not None:
            return replace(self, end_requested_at=event.happened_at)
        # The engine reports the stop of a program that ends at once before its end.
        if self.recovering or event.container_id in self.stopped:
            return self
        return replace(self, ends=(*self.ends, event.happened_at)[-LOOP:], last_end=event)

    def apply_missed_events(self) -> ServiceTracker:
        """Return the memory without what a start that was missed would have ended."""
        return replace(self, stopped=frozenset(), end_requested_at=None)

    def apply_dispatch(self, fingerprint: str, now: datetime, *, held_as_one: bool = False) -> ServiceTracker:
        """Return the memory after its failure was dispatched to recovery, by itself or as one with others."""
        dispatched = (fingerprint, now)
        return replace(self, failed_at=now, dispatched=dispatched, held_as_one=held_as_one, next_attempt_at=None)

    def apply_recovery(self, next_attempt_at: datetime | None, now: datetime) -> ServiceTracker:
        """Return the memory when a recovery has ended; a postponed one is dispatched again when it is due."""
        tracker = replace(self, recovering=False, ends=(), failed_at=now)
        if next_attempt_at is None:
            return tracker
        return replace(tracker, dispatched=None, next_attempt_at=next_attempt_at)

    def apply_sweep(self, containers: Collection[str], now: datetime, *, missing: bool) -> ServiceTracker:
        """Return the memory after a sweep saw these containers of the service."""
        since = (self.missing_since or now) if missing else None
        return replace(self, stopped=self.stopped.intersection(containers), missing_since=since)

    def is_recovering_since(self, period: timedelta, now: datetime) -> bool:
        """Whether a recovery of it runs that began that shortly ago."""
        return self.recovering and self.dispatched is not None and now - self.dispatched[1] < period

    def failed_within(self, period: timedelta, now: datetime) -> bool:
        """Whether it failed, or a recovery of it ended, that shortly ago."""
        return self.failed_at is not None and now - self.failed_at < period
