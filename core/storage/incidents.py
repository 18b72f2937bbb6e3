"""Incidents of the stores and of hosts as an error and a ticket, so that users see them like any other failure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2s
from pathlib import Path

from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.hosts import HostEvent, HostEventKind
from models.recovery import Ticket, TicketEntry

OWN_SYSTEM = "roas"
"""The environment under which incidents of this system itself are recorded."""

_SHOWN = 5


def report_damage(file: Path, at: datetime) -> tuple[RecordedError, Ticket]:
    """A file of the stores was found damaged and is kept as `file`; the same file gives the same ids."""
    return _incident(
        f"{file.name} was found damaged; it is kept, and what could not be read of it is missing",
        file.name,
        at,
        (
            "roas db check   # how the stores are now",
            f"sqlite3 {file} .recover > recovered.sql   # what can still be read of a store"
            if ".corrupt-" in file.name
            else f"less {file}   # the rows that could not be read are in it as JSON",
            "roas restore FOLDER   # with all of the system stopped, if a backup is worth more than what came since",
            "dmesg | grep -i 'i/o error'   # a disk that loses data loses more",
            f"mv {file} ELSEWHERE   # once nothing of it is needed, then resolve this ticket",
        ),
    )


def report_loss(file: Path, at: datetime) -> tuple[RecordedError, Ticket]:
    """A store was not there any more, although the others were; an empty one began at `at`."""
    return _incident(
        f"{file.name} was missing, and begins empty",
        f"{file.name} at {at.isoformat()}",
        at,
        (
            f"ls -l {file.parent}   # was it moved, or renamed?",
            "roas restore FOLDER   # with all of the system stopped, if there is a backup",
        ),
    )


def report_gap(folder: str, since: datetime, until: datetime) -> tuple[RecordedError, Ticket]:
    """What recoveries did between two moments is on no record, because their journal was full."""
    return _incident(
        f"The record of recoveries has a gap from {since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S} UTC:"
        " their journal was full",
        f"{folder} at {since.isoformat()}",
        since,
        (
            "roas db check   # how the stores are now, and whether they were away",
            f"df -h {folder}   # the room that is left on the disk",
            "docker compose logs   # what the worker wrote in that time",
        ),
    )


def subject_of(event: HostEvent) -> str:
    """What an incident of a host is about, as its error and ticket name it."""
    return f"clock of {event.host.label}" if event.kind is HostEventKind.SKEWED else event.host.label


def report_host(event: HostEvent, environments: Sequence[str], reported_by: str) -> tuple[RecordedError, Ticket]:
    """A host is silent, or its clock is wrong. `environments` belong to it; `reported_by` is the host that noticed."""
    host, since = event.host, f"{event.since:%Y-%m-%d %H:%M:%S}"
    more = len(environments) - _SHOWN
    listed = (", ".join(environments[:_SHOWN]) + (f" and {more} more" if more > 0 else "")) or "nothing"
    if event.kind is HostEventKind.SKEWED:
        ahead = "ahead of" if host.clock_skew_seconds > 0 else "behind"
        return _incident(
            f"The clock of host {host.label} is {abs(host.clock_skew_seconds):.0f} s {ahead} the database's",
            subject_of(event),
            event.since,
            (
                f"timedatectl set-ntp true   # on {host.name}: synchronise its clock",
                "roas doctor   # there: the difference as it is now",
            ),
            kind=event.kind,
        )
    return _incident(
        f"Host {host.label} is silent since {since} UTC; {reported_by} noticed it. Belonging to it: {listed}",
        subject_of(event),
        event.since,
        (
            f"ping {host.name}   # is it on, and does its network work?",
            f"systemctl status roas   # on {host.name}: does its worker run?",
            f"roas fleet take {environments[0]}   # on another host, if this one does not come back"
            if environments
            else f"roas fleet dismiss {host.host_id}   # if it does not come back",
            f"roas fleet dismiss {host.host_id}   # if no contact is expected of it",
        ),
        kind=event.kind,
    )


def _incident(
    text: str, what: str, at: datetime, steps: tuple[str, ...], *, kind: HostEventKind | None = None
) -> tuple[RecordedError, Ticket]:
    about = what if kind is None else f"{what} {kind} {at.isoformat()}"
    digest = blake2s(about.encode(), digest_size=4).hexdigest()
    of_stores, named = kind is None, "stores" if kind is None else "host"
    verdict = Verdict(
        category=Category.DATABASE_CORRUPT if of_stores else Category.UNKNOWN,
        severity=Severity.HIGH if kind is HostEventKind.SKEWED else Severity.CRITICAL,
        strategy=Strategy.RESTORE_DATABASE if of_stores else Strategy.FIX_HOST,
        confidence=1.0,
        reason="this system found it itself",
    )
    error = RecordedError(
        error_id=f"err-{named}-{digest}",
        environment=OWN_SYSTEM,
        text=text,
        source=str(kind or "stores"),
        verdict=verdict,
        first_seen=at,
        last_seen=at,
        service=what,
    )
    ticket = Ticket(
        ticket_id=f"T-{named}-{digest}",
        error_id=error.error_id,
        environment=OWN_SYSTEM,
        title=text,
        opened_at=at,
        steps=steps,
        history=(TicketEntry(at=at, by="roas", what="opened"),),
        since=at,
    )
    return error, ticket
