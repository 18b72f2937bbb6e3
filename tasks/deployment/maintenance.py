"""Maintenance of this host: its record on the disk, what runs, the quiet, the work, and unannounced boots."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from adapters.config.environment_files import known_environments
from adapters.config.needs import declared_needs
from adapters.host.local_lock import LocalLock
from adapters.host.private_files import make_private_folder, read_regular, sync_folder, write_private
from adapters.host.processes import boot_id, this_user
from adapters.host.programs import ProgramRun, run_beside
from core.deployment.desired_state import last_that_counts, should_run
from core.deployment.maintenance import stop_order, why_left
from core.deployment.plan import paused_containers
from core.monitoring.snapshot import maintenance_windows
from models.failures import BadInputError, RoasError, WrongHostError
from models.maintenance import MAINTAINED_BY, MaintainedEnvironment, Maintenance, Stage
from models.operations import Operation
from models.settings import current_settings
from tasks.deployment.lease import holder_of
from tasks.deployment.services import inspect_application, read_injected_files, read_known
from tasks.errors.redact import redact_now
from tasks.recovery.drills import open_drill
from tasks.recovery.stops import stop_of
from tasks.runtime.clients import find_environment
from tasks.runtime.hosts import refuse_elsewhere_now, this_host
from tasks.runtime.identifiers import new_operation_id
from tasks.runtime.project import Project, load_project
from tasks.runtime.retry_policy import make_async
from tasks.runtime.stores import open_stores, stores_exist

_BOOT_WITHIN = timedelta(minutes=15)
_OUTPUT_BYTES, _LINES = 256 * 1024, 20


def maintenance_lock() -> LocalLock:
    """The lock of the process that carries the maintenance of this host; it ends with that."""
    return LocalLock(current_settings().data_dir.absolute() / "held" / "host.maintenance.lock")


def keep_maintenance(maintenance: Maintenance, name: str = "open.json") -> Maintenance:
    """Write down what is done next; it survives a kill and a power failure."""
    place = make_private_folder(_place().parent) / name
    write_private(place, maintenance.model_dump_json().encode())
    sync_folder(place.parent)
    return maintenance


def close_maintenance(maintenance: Maintenance) -> None:
    """End a maintenance; the last one can still be read."""
    keep_maintenance(maintenance, "last.json")
    _place().unlink(missing_ok=True)
    sync_folder(_place().parent)


def read_maintenance(name: str = "open.json") -> Maintenance | None:
    """The maintenance of this host that is open, or by its name the last one; None without one.

    Raises:
        BadInputError: Its record is damaged, or another host's.
    """
    place = _place().with_name(name)
    try:
        maintenance = Maintenance.model_validate_json(read_regular(place))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        advice = "`roas history` shows what it stopped: start that, and remove the file."
        raise BadInputError(f"The record of a maintenance cannot be read from {place};", advice=advice) from error
    if maintenance.host_id != this_host().host_id:
        what = f"{place} is of a maintenance of {maintenance.host}, which is another host;"
        raise BadInputError(what, advice="remove the file: it came with a copied data folder.")
    return maintenance


def plan_maintenance(reason: str, length: timedelta, *, command: str = "", reboot: bool = False) -> Maintenance:
    """A maintenance of this host that has not begun; it names no environment yet."""
    now, here = datetime.now(UTC), this_host()
    return Maintenance(
        maintenance_id=new_operation_id(MAINTAINED_BY, now),
        host_id=here.host_id,
        host=here.name,
        boot=boot_id(),
        by=this_user().user,
        reason=redact_now(None, reason),
        begun_at=now,
        until=now + length,
        reboot=reboot,
        command=redact_now(None, command),
    )


async def find_running() -> tuple[tuple[MaintainedEnvironment, ...], dict[str, str]]:
    """The environments that run on this machine, in the order of the stop; and why others are left alone.

    Raises:
        BadInputError: An operation or a drill is open, or a person paused a container.
        EngineError: An engine does not answer.
    """
    found, left, troubles, now = {}, {}, [], datetime.now(UTC)
    for name in known_environments(current_settings()):
        try:
            project = await load_project(name)
            refuse_elsewhere_now(name)
        except (BadInputError, WrongHostError) as error:
            left[name] = error.what
            continue
        states = [] if project.environment.is_remote else await inspect_application(project)
        up = tuple(sorted({state.service for state in states if state.up and not state.one_off}))
        if holder := holder_of(name):
            troubles.append(f"{holder} holds {name}: `roas status {name}`")
        if open_drill(name) is not None:
            troubles.append(f"a drill is open: `roas drill {name} --end`")
        if paused := paused_containers(states, up):
            troubles.append(f"a person paused {', '.join(paused)}: `docker unpause`")
        if up:
            after, start_id = (new_operation_id(name, now) for _ in range(2))
            found[name] = MaintainedEnvironment(name=name, services=up, after=after, start_id=start_id)
        else:
            left[name] = "nothing of it runs on this machine"
    if troubles:
        raise BadInputError(f"Nothing was stopped: {'; '.join(troubles)};", advice="wait for that, or end it, first.")
    return tuple(found[name] for name in stop_order(found, declared_needs(current_settings()))), left


@make_async
def begin_quiet(maintenance: Maintenance) -> None:
    """Pause the recovery of the environments until the end of a maintenance, where it is not paused already."""
    pauses = open_stores().pauses
    paused = {pause.environment for pause in pauses.active(datetime.now(UTC)) if pause.service is None}
    for name in (one.name for one in maintenance.environments if one.name not in paused):
        by, at = maintenance.by, maintenance.begun_at
        pauses.pause(name, None, maintenance.until, maintenance.title, by, at, this_user())


@make_async
def end_quiet(maintenance: Maintenance) -> None:
    """End the pauses of a maintenance, and no other: a person may have put one in the place of ours."""
    pauses = open_stores().pauses
    for pause in pauses.active(datetime.now(UTC)):
        if pause.reason == maintenance.title:
            pauses.resume(pause.environment, pause.service, this_user())


@make_async
def why_not_up(one: MaintainedEnvironment, maintenance: Maintenance) -> str:
    """Why an environment is not brought up: a person acted on it since; empty where it is to be."""
    stores = open_stores()
    last = last_that_counts(stores.operations.latest_recorded(one.name))
    return why_left(one, maintenance, last, stores.pauses.active(datetime.now(UTC)))


@make_async
def ended_operation(deployment_id: str) -> Operation | None:
    """An operation that has ended, and not by an interruption; else None."""
    operation = open_stores().operations.find(deployment_id)
    return operation if operation is not None and operation.ended_at and not operation.record.interrupted else None


async def find_down(project: Project) -> tuple[str, ...]:
    """The services that are to run, have ended, and were not stopped by a person."""
    application, states = await read_known(project), await inspect_application(project)
    down = {state.service for state in states if not state.one_off} - {state.service for state in states if state.up}
    meant = sorted(name for name in down & application.services.keys() if not application.services[name].one_shot)
    return tuple([name for name in meant if await stop_of(project, name) is None])


async def start_left(project: Project, services: Collection[str], restarted_at: datetime) -> set[str]:
    """Start what a restart left since it runs once: what neither restarts, is checked nor publishes a port. What ended
    later, a person stopped. The services that neither run nor ended well.
    """
    injected = await read_injected_files(project)
    for state in await inspect_application(project):
        is_later = state.finished_at is not None and state.finished_at > restarted_at
        if state.service in services and not (state.up or state.one_off or is_later):
            files = injected.get(state.service, ())
            await asyncio.to_thread(project.engine.containers.start, state.container_id, files)
    states = await inspect_application(project)
    return set(services) - {state.service for state in states if state.up or state.exit_code == 0}


async def do_work(words: Sequence[str], until: datetime) -> tuple[str, bool, tuple[str, ...]]:
    """Run the work of a maintenance: how it ended, whether it failed, and the last lines that it printed."""
    # No variable of ours but these: the others may hold secrets that it has no need for.
    variables = {name: os.environ[name] for name in ("HOME", "LANG", "LOGNAME", "PATH", "USER") if name in os.environ}
    limit = max(1.0, (until - datetime.now(UTC)).total_seconds())
    log_of = partial(ProgramRun, most_bytes=_OUTPUT_BYTES, writes_log=True)
    try:
        result = await run_beside(log_of(words=words, variables=variables, limit_seconds=limit))
    except OSError as error:
        return f"{words[0]} could not be run: {error.strerror or error}", True, ()
    # Only whole lines: half a secret at the cut would not be known as one.
    text = result.out.partition("\n")[2] if result.is_cut else result.out
    lines = tuple((await asyncio.to_thread(redact_now, None, text)).splitlines()[-_LINES:])
    how = "was killed at the end of its time" if result.code is None else f"ended with exit code {result.code}"
    return f"the command {how}", result.code != 0, lines


@make_async
def note_boot() -> Maintenance | None:
    """Note the boot of this machine; where another one was noted before and this one was not announced, leave a
    maintenance that brings up what ran. Recovery that is off or paused, and a cut-off operation, are a person's matter.
    """
    stamp, boot = _place().with_name("boot"), boot_id()
    if not stamp.exists() or read_regular(stamp).decode(errors="replace") == boot or not stores_exist():
        write_private(make_private_folder(stamp.parent) / stamp.name, boot.encode())
        return None
    stores, ran, now = open_stores(), {}, datetime.now(UTC)
    paused = {pause.environment for pause in stores.pauses.active(now)}
    for name in set(known_environments(current_settings())) - current_settings().foreign_environments - paused:
        recorded = stores.operations.latest_recorded(name)
        last = last_that_counts(recorded)
        is_meant = last is not None and last.ended_at and should_run(recorded) and not last.record.interrupted
        if last is not None and is_meant and _may_act(name):
            ran[name] = MaintainedEnvironment(name=name, after=last.deployment_id, start_id=new_operation_id(name, now))
    left = None
    if ran and None not in paused and read_maintenance() is None:
        order = stop_order(ran, declared_needs(current_settings()))
        plan = plan_maintenance("the machine booted unannounced", _BOOT_WITHIN)
        environments = tuple(ran[name] for name in order)
        left = keep_maintenance(plan.model_copy(update={"stage": Stage.STARTING, "environments": environments}))
    write_private(stamp, boot.encode())
    return left


def _may_act(environment: str) -> bool:
    """Whether its file lets recovery act now; a file that cannot be read does not."""
    now = datetime.now(UTC)
    try:
        declared = find_environment(environment)
    except RoasError:
        return False
    windows = maintenance_windows(declared.maintenance, now)
    is_maintained = any(window.covers(None, now) for window in windows)
    return declared.recovery.automatic and not declared.recovery.dry_run and not is_maintained


def _place() -> Path:
    return current_settings().data_dir.absolute() / "maintenance" / "open.json"
