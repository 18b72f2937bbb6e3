"""Drills: what undoes an open fault, kept on the disk until it is undone, and what decides whether one may begin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from adapters.host.local_lock import LocalLock
from adapters.host.private_files import make_private_folder, read_regular, sync_folder, write_private
from adapters.host.processes import this_process
from core.monitoring.snapshot import maintenance_windows
from models.containers import replicas
from models.drills import DrillRecord, Fault, FaultPlaces
from models.environments import Environment, PostgresqlProbe
from models.failures import BadInputError, ContainerGoneError, EngineError
from models.notifications import ReportedError
from models.operations.record import OperationRecord
from models.recovery import TicketState
from models.settings import current_settings
from tasks.deployment.lease import holder_of
from tasks.deployment.operations import is_meant_to_run
from tasks.runtime.project import Project, load_project
from tasks.runtime.retry_policy import make_async, retry_read, retry_write
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

_OVERDUE = timedelta(minutes=1)
"""So long after its end a drill is undone although its process lives: it may hang."""


@contextmanager
def drilling_alone(environment: str) -> Iterator[str | None]:
    """Be the only drill of an environment on this host, by a lock that ends with the process; yields the other one."""
    lock = LocalLock(_place(environment).parent.parent / "held" / f"{environment}.drill.lock")
    runner = this_process()
    other = lock.take(f"{runner} since {datetime.now(UTC):%H:%M:%S} UTC")
    try:
        yield other
    finally:
        lock.release()


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
    place = _place(environment)
    try:
        return DrillRecord.model_validate_json(read_regular(place))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BadInputError(
            f"What undoes a drill of {environment} cannot be read from {place};",
            advice=f"see `roas history {environment}` for its fault, undo it by hand, and remove the file.",
        ) from error


async def end_drill(project: Project) -> DrillRecord | None:
    """Undo the fault of the open drill, and return it; None without one. Twice is harmless.

    A container that the fault ended is started only where the environment is meant to run, and neither an operation
    nor a pause has come since.

    Raises:
        EngineError: It cannot be undone now; it stays open.
    """
    name = project.environment.name
    start = await is_meant_to_run(name) and not await asyncio.to_thread(_in_other_hands, name)

    def undo() -> DrillRecord | None:
        if (drill := open_drill(name)) is None:
            return None
        current = drill
        if drill.fault is Fault.REFUSED_LOGIN:
            # The role is in the data, whichever container serves it now.
            if (container_id := _running(project, drill.service)) is None:
                raise EngineError(
                    f"{drill.service} does not run, so role {drill.places.role} gets its login back later."
                )
            current = drill.model_copy(update={"container_id": container_id})
        with suppress(ContainerGoneError):
            project.engine.faults.undo(current, start=start)
        _place(name).unlink(missing_ok=True)
        sync_folder(_place(name).parent)
        log.info("the drill of %s on %s of %s is over: its fault is undone", drill.fault, drill.service, name)
        return drill

    return await asyncio.to_thread(undo)


async def end_left_drill(environment: str) -> None:
    """Undo the fault of a drill whose process is gone, or hangs, and record that."""
    if not _place(environment).exists():
        return
    with drilling_alone(environment) as other:
        drill, now = open_drill(environment), datetime.now(UTC)
        if drill is None or (other is not None and now < drill.until + _OVERDUE):
            return
        await end_drill(await load_project(environment))
        verdict = "its process ended before it did; the fault was undone afterwards"
        await note_drill(drill.model_copy(update={"undone_at": now, "passed": False, "verdict": verdict}))


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
def fault_places(project: Project, service: str) -> tuple[str, FaultPlaces] | None:
    """A running container of a service, and what it offers to faults; None where none runs."""
    container_id = _running(project, service)
    if container_id is None:
        return None
    probe = project.environment.service(service).probe
    role = probe.user if isinstance(probe, PostgresqlProbe) and probe.user.replace("_", "a").isalnum() else ""
    return container_id, project.engine.faults.places(project.engine.containers.inspect(container_id), role)


@retry_read
@make_async
def troubles(environment: Environment, service: str) -> list[str]:
    """What is open, paused, or under maintenance in an environment, or holds it."""
    name, now, stores = environment.name, datetime.now(UTC), open_stores()
    holder = holder_of(name)
    pauses = [pause for pause in stores.pauses.active(now) if pause.environment in (None, name)]
    windows = maintenance_windows(environment.maintenance, now)
    return [
        *([f"{holder} holds {name}"] if holder else ()),
        *(f"Error {error.error_id} of {name} is open" for error in stores.errors.list_unresolved(name)),
        *(
            f"Ticket {ticket.ticket_id} of {name} is open"
            for ticket in stores.tickets.find(environment=name)
            if ticket.state is not TicketState.RESOLVED
        ),
        *(f"Alert {alert.alert_id} of {name} is open" for alert in stores.alerts.list_unresolved(name)),
        *(f"Recovery of {pause.service or name} is paused by {pause.by}" for pause in pauses),
        *(f"{service} of {name} is under maintenance" for window in windows if window.covers(service, now)),
    ]


def _in_other_hands(environment: str) -> bool:
    pauses = open_stores().pauses.active(datetime.now(UTC))
    return holder_of(environment) is not None or any(pause.environment in (None, environment) for pause in pauses)


def _running(project: Project, service: str) -> str | None:
    states = replicas(project.inspect_containers(service), service)
    return next((state.container_id for state in states if state.state == "running"), None)


def _place(environment: str) -> Path:
    return current_settings().data_dir.absolute() / "drills" / f"{environment}.json"
