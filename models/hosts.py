"""Hosts: which machines operate environments, when each was last in contact, and what belongs to which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SILENT_AFTER = timedelta(seconds=60)
"""A host without contact for this long is silent."""

CONTACT_EVERY = timedelta(seconds=20)
"""How often a process that runs all the time reports contact: two may be lost before its host is silent."""

SKEW_ALERTS_OVER = timedelta(seconds=5)
"""A clock that differs more from the database's is an alert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Contact of a process with the stores since it was last without them, by the database's clock.

    While the stores were away no host could report, so who has just got them back cannot tell which one is silent.
    """

    since: datetime
    last: datetime

    def renew(self, at: datetime) -> Contact:
        """With one more; a gap is an outage, too: of a server that was frozen, no call fails."""
        return Contact(since=at if at - self.last >= 2 * CONTACT_EVERY else self.since, last=at)

    @property
    def is_settled(self) -> bool:
        """Whether every healthy host has been able to report since."""
        return self.last - self.since >= SILENT_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class HostIdentity:
    """A host by the random id of its data folder, and the name that users see."""

    host_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as the stores know it; times are of the database's clock.

    `clock_skew_seconds` is how far its clock is ahead of the database's, negative where it is behind. `backlog` counts
    the writes that wait in its journal. `silent_since` and `skewed_since` are set while that is an alert,
    `dismissed_at` since no contact is expected: a user dismissed the host, or it has only run single commands.
    """

    host_id: str
    name: str
    version: str
    engine: str
    first_contact: datetime
    last_contact: datetime
    clock_skew_seconds: float = 0
    backlog: int = 0
    silent_since: datetime | None = None
    skewed_since: datetime | None = None
    dismissed_at: datetime | None = None

    @property
    def label(self) -> str:
        """Its name, with its id: two hosts may have one name."""
        return f"{self.name} ({self.host_id})"

    def is_in_contact(self, now: datetime) -> bool:
        """Whether it is expected to be there and was heard of lately."""
        return self.dismissed_at is None and now - self.last_contact < SILENT_AFTER

    @property
    def is_gone(self) -> bool:
        """Whether no contact is expected, or its silence was noted by one who had the stores all the time."""
        return self.dismissed_at is not None or self.silent_since == self.last_contact


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedEnvironment:
    """The host that an environment belongs to, and since when."""

    environment: str
    host_id: str
    since: datetime


class HostEventKind(StrEnum):
    """What is reported of a host."""

    SILENT = "silent"
    SKEWED = "skewed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent:
    """What became true or ended of a host, reported once: its silence or the skew of its clock."""

    host: Host
    kind: HostEventKind
    since: datetime
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEnvironment:
    """An environment in a fleet: where it belongs, how it was judged last, and what is open about it.

    `host_id` is empty where no host has operated it, `health` where it was never judged. `alerts` and `tickets` count
    those that are not resolved. Times come from the clock of its host.
    """

    environment: str
    host_id: str = ""
    health: str = ""
    judged_at: datetime | None = None
    alerts: int = 0
    tickets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Every host and environment that the stores know; `at` is the time by the database's clock."""

    at: datetime
    this_host: str
    hosts: tuple[Host, ...]
    environments: tuple[FleetEnvironment, ...]

    def silent(self, host: Host) -> bool:
        """Whether a host that is expected to be in contact has been silent for too long."""
        return host.dismissed_at is None and self.at - host.last_contact >= SILENT_AFTER

    def has_skewed_clock(self, host: Host) -> bool:
        """Whether the clock of a host that is in contact is wrong."""
        return abs(host.clock_skew_seconds) > SKEW_ALERTS_OVER.total_seconds()
