"""Maintenance of this host: which environments run, the quiet, the work itself, and a boot that nobody announced."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from adapters.config.environment_files import known_environments
from adapters.config.needs import declared_needs
from adapters.host.private_files import make_private_folder, read_regular, write_private
from adapters.host.processes import boot_id, this_user
from adapters.host.programs import ProgramRun, run_beside
from core.deployment.desired_state import last_that_counts, should_run
from core.deployment.maintenance import stop_order, why_left
from core.deployment.plan import paused_containers
from models.failures import BadInputError, RoasError, WrongHostError
from models.maintenance import MaintainedEnvironment, Maintenance, Stage
from models.operations import Operation
from models.settings import current_settings
from tasks.deployment.lease import holder_of
from tasks.deployment.services import inspect_application, read_known
from tasks.errors.redact import redact_now
from tasks.recovery.drills import open_drill
from tasks.recovery.stops import stop_of
from tasks.runtime.hosts import refuse_elsewhere_now, this_host
from tasks.runtime.maintenance import keep_maintenance, open_maintenance
from tasks.runtime.project import Project, load_project
from tasks.runtime.retry_policy import make_async
from tasks.runtime.stores import open_stores, stores_exist

log = logging.getLogger("roas")

_BOOT_WITHIN = timedelta(minutes=15)
"""So long after a boot nobody is told of what is not up yet."""

_OUTPUT_BYTES, _LINES = 256 * 1024, 20


def plan_maintenance(reason: str, until: datetime, *, command: str = "", reboot: bool = False) -> Maintenance:
    """A maintenance of this host that has not begun; it names no environment yet."""
    now, here = datetime.now(UTC), this_host()
    return Maintenance(
        maintenance_id=f"maintenance-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        host_id=here.host_id,
        host=here.name,
        boot=boot_id(),
        by=this_user().user,
        reason=redact_now(None, reason),
        begun_at=now,
        until=until,
        stage=Stage.STOPPING,
        reboot=reboot,
        command=redact_now(None, command),
        environments=(),
    )


async def find_running() -> tuple[tuple[MaintainedEnvironment, ...], dict[str, str]]:
    """The environments whose containers run on this machine, in the order of the stop; and why others are left alone.

    Raises:
        BadInputError: An operation or a drill is open, or a person paused a container.
        RoasError: An engine does not answer.
    """
    found, left, troubles = {}, {}, []
    for name in known_environments(current_settings()):
        try:
            project = await load_project(name)
            refuse_elsewhere_now(name)
        except (BadInputError, WrongHostError) as error:
            left[name] = error.what
            continue
        if project.environment.is_remote:
            left[name] = "its engine is on another machine"
            continue
        states = [state for state in await inspect_application(project) if not state.one_off]
        up = tuple(sorted({state.service for state in states if state.up}))
        if holder := holder_of(name):
            troubles.append(f"{holder} holds {name}: `roas status {name}`")
        if open_drill(name) is not None:
            troubles.append(f"a drill of {name} is open: `roas drill {name} --end`")
        if paused := paused_containers(states, up):
            troubles.append(f"a person paused {', '.join(paused)}: `docker unpause`")
        if not up:
            left[name] = "nothing of it runs"
            continue
        found[name] = _environment(name, up, after=_new_id(name))
    if troubles:
        raise BadInputError(f"Nothing was stopped: {'; '.join(troubles)};", advice="wait for that, or end it, first.")
    return tuple(found[name] for name in stop_order(found, declared_needs(current_settings()))), left


@make_async
def begin_quiet(maintenance: Maintenance) -> None:
    """Pause the recovery of the environments until the end of the maintenance, where it is not paused already."""
    pauses, now = open_stores().pauses, datetime.now(UTC)
    paused = {pause.environment for pause in pauses.active(now) if pause.service is None}
    for name in (one.name for one in maintenance.environments if one.name not in paused):
        at, actor = maintenance.begun_at, this_user()
        pauses.pause(name, None, maintenance.until, maintenance.title, maintenance.by, at, actor)


@make_async
def end_quiet(maintenance: Maintenance) -> None:
    """End the pauses of a maintenance, and no other: a person may have put one in the place of ours."""
    pauses = open_stores().pauses
    for pause in pauses.active(datetime.now(UTC)):
        if pause.service is None and pause.reason == maintenance.title:
            pauses.resume(pause.environment, None, this_user())


@make_async
def why_not_up(environment: MaintainedEnvironment, maintenance: Maintenance) -> str:
    """Why an environment is not brought up: a person acted on it since; empty where it is to be."""
    stores = open_stores()
    last = last_that_counts(stores.operations.latest_recorded(environment.name))
    return why_left(environment, maintenance, last, stores.pauses.active(datetime.now(UTC)))


@make_async
def ended_operation(deployment_id: str) -> Operation | None:
    """An operation that has ended, and not by an interruption; else None."""
    operation = open_stores().operations.find(deployment_id)
    return operation if operation is not None and operation.ended_at and not operation.record.interrupted else None


async def find_down(project: Project) -> tuple[str, ...]:
    """The services of an environment that are to run, have ended, and were not stopped by a person."""
    application, states = await read_known(project), await inspect_application(project)
    ended = {state.service for state in states if not state.one_off} - {state.service for state in states if state.up}
    meant = [name for name, one in application.services.items() if name in ended and not one.one_shot]
    return tuple([name for name in sorted(meant) if await stop_of(project, name) is None])


async def do_work(words: list[str], until: datetime) -> tuple[str, bool, tuple[str, ...]]:
    """Run the work of a maintenance: how it ended, whether it failed, and the last lines that it printed."""
    # No variable of ours but these: the others may hold secrets that it has no need for.
    variables = {name: os.environ[name] for name in ("HOME", "LANG", "LOGNAME", "PATH", "USER") if name in os.environ}
    seconds = max(1.0, (until - datetime.now(UTC)).total_seconds())
    program = ProgramRun(
        words=words, variables=variables, limit_seconds=seconds, most_bytes=_OUTPUT_BYTES, writes_log=True
    )
    try:
        result = await run_beside(program)
    except OSError as error:
        return f"{words[0]} could not be run: {error.strerror or error}", True, ()
    # Only whole lines: half a secret at the cut would not be known as one.
    text = result.out.partition("\n")[2] if result.is_cut else result.out
    lines = tuple((await asyncio.to_thread(redact_now, None, text)).splitlines()[-_LINES:])
    if result.code is None:
        return f"the command did not end within {seconds:.0f} s, and was killed", True, lines
    return f"the command ended with exit code {result.code}", result.code != 0, lines


async def note_boot() -> None:
    """Where the machine has booted since the last agent, and nobody announced it, leave a maintenance to bring up what
    ran: in order, with one report. The first agent only notes the boot.
    """
    place, boot = current_settings().data_dir.absolute() / "maintenance" / "boot", boot_id()
    try:
        before = read_regular(place).decode(errors="replace") if place.exists() else boot
        has_booted = before != boot and stores_exist() and open_maintenance() is None
        if has_booted and (left := await asyncio.to_thread(_after_boot)) is not None:
            await begin_quiet(keep_maintenance(left))
            log.info("the machine has booted: what ran is brought up in order")
        make_private_folder(place.parent)
        write_private(place, boot.encode())
    except (RoasError, OSError) as error:
        log.warning("whether the machine has booted is not known: %s", error)


def _after_boot() -> Maintenance | None:
    stores, now = open_stores(), datetime.now(UTC)
    paused = {pause.environment for pause in stores.pauses.active(now)}
    ran: dict[str, MaintainedEnvironment] = {}
    for name in set(known_environments(current_settings())) - current_settings().foreign_environments - paused:
        recorded = stores.operations.latest_recorded(name)
        last = last_that_counts(recorded)
        # Of one that was interrupted by the boot nobody knows what ran; it is resumed, or a person decides.
        if last is not None and last.ended_at and should_run(recorded) and not last.record.interrupted:
            ran[name] = _environment(name, (), after=last.deployment_id)
    if not ran or None in paused:
        return None
    plan = plan_maintenance("nobody announced it", now + _BOOT_WITHIN)
    order = stop_order(ran, declared_needs(current_settings()))
    left = {"stage": Stage.STARTING, "announced": False, "environments": tuple(ran[name] for name in order)}
    return plan.model_copy(update=left)


def _environment(name: str, services: Iterable[str], after: str) -> MaintainedEnvironment:
    return MaintainedEnvironment(name=name, services=tuple(services), after=after, start_id=_new_id(name))


def _new_id(environment: str) -> str:
    return f"{environment}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
