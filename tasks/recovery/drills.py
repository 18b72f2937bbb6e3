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
from adapters.snapshots.containers import EngineCommands
from adapters.snapshots.streams import Limit
from core.monitoring.snapshot import maintenance_windows
from models.drills import DrillRecord, Fault, FaultPlaces
from models.environments import Environment, PostgresqlProbe
from models.failures import BadInputError, ContainerGoneError, EngineError, SnapshotError
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

_ANSWERS_WITHIN_SECONDS = 30.0
_PSQL = (
    *("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password", "--set=ON_ERROR_STOP=1"),
    "--host=127.0.0.1",
)
_MAY_CLOSE = "SELECT 1 FROM pg_database WHERE datname = :'name' AND datallowconn AND pg_has_role(datdba, 'MEMBER');\n"
_SET_LOGINS = (
    "SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS {allowed}', datname) FROM pg_database "
    "WHERE datname = :'name' AND datallowconn <> {allowed} \\gexec\n"
)
"""Unlike a role without login, a closed database can be opened by the only role that there is, from another one."""


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
            if drill.fault is Fault.REFUSED_LOGIN:
                _ask_postgresql(project, drill.service, drill, _SET_LOGINS.format(allowed="true"))
            else:
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
def fault_places(project: Project, service: str, fault: Fault) -> FaultPlaces | None:
    """What a running container of a service offers to a fault; None where none runs."""
    running = (one for one in project.inspect_containers(service) if one.state == "running" and not one.one_off)
    places = next(map(project.engine.faults.places, running), None)
    probe = project.environment.service(service).probe
    if places and fault is Fault.REFUSED_LOGIN and isinstance(probe, PostgresqlProbe):
        its = {"user": probe.user, "database": probe.database or probe.user, "password_secret": probe.password_secret}
        places = places.model_copy(update=its)
        # Asked in the way in which it is undone.
        if not _ask_postgresql(project, service, places, _MAY_CLOSE):
            places = places.model_copy(update={"database": ""})
    return places


@make_async
def make_fault(project: Project, drill: DrillRecord) -> None:
    """Make the fault of a drill.

    Raises:
        EngineError: It cannot be made.
    """
    if drill.fault is Fault.REFUSED_LOGIN:
        _ask_postgresql(project, drill.service, drill, _SET_LOGINS.format(allowed="false"))
    else:
        project.engine.faults.make(drill)


def _ask_postgresql(project: Project, service: str, places: FaultPlaces, script: str) -> str:
    """What the PostgreSQL of a service answers to a script, asked from another database than the one of `places`.

    Raises:
        EngineError: It does not run, or refuses.
    """
    running = [one for one in project.inspect_containers(service) if one.state == "running" and not one.one_off]
    if not running:
        raise EngineError(f"{service} does not run, and only its PostgreSQL can open database {places.database} again.")
    other = "template1" if places.database == "postgres" else "postgres"
    words = (*_PSQL, f"--username={places.user}", f"--dbname={other}", f"--set=name={places.database}")
    secret = {"PGPASSWORD": project.secrets().get(places.password_secret or "", "")}
    commands = EngineCommands(project.variables(), "", Limit(_ANSWERS_WITHIN_SECONDS))
    try:
        command = commands.exec(running[0].container_id, f"psql in {service}", words, secret, with_input=True)
        return commands.answer(command, script.encode()).strip()
    except SnapshotError as error:
        raise EngineError(project.engine.redact(str(error))) from error


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
