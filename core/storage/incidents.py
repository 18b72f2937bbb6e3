"""Store incidents as an error and a ticket, so that users see them like any other failure."""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2s
from pathlib import Path

from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import Ticket, TicketEntry

OWN_SYSTEM = "roas"
"""The environment under which store incidents are recorded."""


def of_damage(file: Path, at: datetime) -> tuple[RecordedError, Ticket]:
    """A file of the stores was found damaged and is kept as `file`; the same file gives the same ids."""
    return _incident(
        f"{file.name} was found damaged; it is kept, and what could not be read of it is missing",
        file.name,
        at,
        (
            "roas stores check   # how the stores are now",
            f"sqlite3 {file} .recover > recovered.sql   # what can still be read of a store"
            if ".corrupt-" in file.name
            else f"less {file}   # the rows that could not be read are in it as JSON",
            "roas restore FOLDER   # with all of the system stopped, if a backup is worth more than what came since",
            "dmesg | grep -i 'i/o error'   # a disk that loses data loses more",
            f"mv {file} ELSEWHERE   # once nothing of it is needed, then resolve this ticket",
        ),
    )


def of_loss(file: Path, at: datetime) -> tuple[RecordedError, Ticket]:
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


def of_gap(folder: str, since: datetime, until: datetime) -> tuple[RecordedError, Ticket]:
    """What recoveries did between two moments is on no record, because their journal was full."""
    return _incident(
        f"The record of recoveries has a gap from {since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S} UTC:"
        " their journal was full",
        f"{folder} at {since.isoformat()}",
        since,
        (
            "roas stores check   # how the stores are now, and whether they were away",
            f"df -h {folder}   # the room that is left on the disk",
            "docker compose logs   # what the worker wrote in that time",
        ),
    )


def _incident(text: str, what: str, at: datetime, steps: tuple[str, ...]) -> tuple[RecordedError, Ticket]:
    digest = blake2s(what.encode(), digest_size=4).hexdigest()
    verdict = Verdict(
        category=Category.DATABASE_CORRUPT,
        severity=Severity.CRITICAL,
        strategy=Strategy.RESTORE_DATABASE,
        confidence=1.0,
        reason="this system found it itself",
    )
    error = RecordedError(
        error_id=f"err-stores-{digest}",
        environment=OWN_SYSTEM,
        text=text,
        source="stores",
        verdict=verdict,
        first_seen=at,
        last_seen=at,
        service=what,
    )
    ticket = Ticket(
        ticket_id=f"T-stores-{digest}",
        error_id=error.error_id,
        environment=OWN_SYSTEM,
        title=text,
        opened_at=at,
        steps=steps,
        history=(TicketEntry(at=at, by="roas", what="opened"),),
        since=at,
    )
    return error, ticket
