"""Drills: what undoes an open fault, kept on the disk until it is undone, and what decides whether one may begin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from adapters.host.private_files import make_private_folder, read_regular, sync_folder, write_private
from core.monitoring.snapshot import maintenance_windows
from models.drills import DrillRecord, FaultPlaces
from models.environments import Environment
from models.failures import BadInputError, ContainerGoneError
from models.notifications import ReportedError
from models.operations.record import OperationRecord
from models.recovery import TicketState
from models.settings import current_settings
from tasks.deployment.lease import alone_in, holder_of
from tasks.deployment.operations import is_meant_to_run
from tasks.runtime.project import Project, load_project
from tasks.runtime.retry_policy import make_async, retry_read, retry_write
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

_OVERDUE = timedelta(minutes=1)
"""So long after its end a drill is undone although its process lives: it may hang."""


@make_async
def keep_drill(environment: str, drill: DrillRecord) -> None:
    """Write down what undoes a fault, before it is made; it survives a kill and a power failure."""
    place = _place(environment)
    make_private_folder(place.parent)
    write_private(place, drill.model_dump_json().encode())
    sync_folder(place.parent)


def open_drill(environment: str) -> DrillRecord | None:
    """The drill whose fault is not undone; None without one.

    Raises:
        BadInputError: Its file is damaged.
    """
    try:
        return DrillRecord.model_validate_json(read_regular(_place(environment)))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BadInputError(
            f"What undoes a drill of {environment} cannot be read from {_place(environment)};",
            advice=f"`roas history {environment}` shows the drill: undo its fault by hand, and remove the file.",
        ) from error


async def end_drill(project: Project) -> DrillRecord | None:
    """Undo the fault of the open drill, and return it; None without one. Twice is harmless.

    A container that the fault ended is started only where the environment is meant to run, and neither an operation
    nor a pause has come since.

    Raises:
        EngineError: It cannot be undone now; it stays open.
    """
    name = project.environment.name
    if (drill := open_drill(name)) is None:
        return None
    start = await is_meant_to_run(name) and not await asyncio.to_thread(_in_other_hands, project.environment)

    def undo() -> None:
        with suppress(ContainerGoneError):
            project.engine.faults.undo(drill, start=start)
        _place(name).unlink(missing_ok=True)
        sync_folder(_place(name).parent)

    await asyncio.to_thread(undo)
    return drill


async def end_left_drill(environment: str, *, asked: bool = False) -> DrillRecord | None:
    """Undo the fault of a drill whose process is gone or hangs, or of any where it is `asked` for, and record that.

    Returns the drill; None where nothing was to be undone.
    """
    if not _place(environment).exists():
        return None
    with alone_in(environment, "drill") as other:
        drill, now = open_drill(environment), datetime.now(UTC)
        if drill is None or not (asked or other is None or now > drill.until + _OVERDUE):
            return None
        await end_drill(await load_project(environment))
        await note_drill(drill.cut_off(now))
        log.warning("the drill of %s on %s of %s was cut off: undone", drill.fault, drill.service, environment)
        return drill


@retry_write
@make_async
def note_drill(drill: DrillRecord) -> None:
    """Add a drill to the record of its operation, also while it goes on."""
    open_stores().operations.note(drill.deployment_id, OperationRecord(drill=drill))


@retry_read
@make_async
def read_reports(environment: str, since: datetime) -> Sequence[ReportedError]:
    """The failures that are open or were resolved since a moment, with attempts and messages."""
    return open_stores().error_notifications.reported_errors(environment, since)


@make_async
def fault_places(project: Project, service: str) -> FaultPlaces | None:
    """What a running container of a service offers to faults; None where none runs."""
    running = (one for one in project.inspect_containers(service) if one.state == "running" and not one.one_off)
    return next(map(project.engine.faults.places, running), None)


@retry_read
@make_async
def troubles(environment: Environment, service: str) -> list[str]:
    """What is open, paused, or under maintenance in an environment, or holds it."""
    name, now, stores = environment.name, datetime.now(UTC), open_stores()
    tickets = [one for one in stores.tickets.find(environment=name) if one.state is not TicketState.RESOLVED]
    return [
        *_in_other_hands(environment),
        *(f"Error {error.error_id} of {name} is open" for error in stores.errors.list_unresolved(name)),
        *(f"Ticket {ticket.ticket_id} of {name} is open" for ticket in tickets),
        *(f"Alert {alert.alert_id} of {name} is open" for alert in stores.alerts.list_unresolved(name)),
        *(
            f"{service} of {name} is under maintenance"
            for window in maintenance_windows(environment.maintenance, now)
            if window.covers(service, now)
        ),
    ]


def _in_other_hands(environment: Environment) -> list[str]:
    name, pauses = environment.name, open_stores().pauses.active(datetime.now(UTC))
    paused = [f"Recovery is paused by {pause.by}" for pause in pauses if pause.environment in (None, name)]
    return [f"{holder} holds {name}", *paused] if (holder := holder_of(name)) else paused


def _place(environment: str) -> Path:
    return current_settings().data_dir.absolute() / "drills" / f"{environment}.json"
