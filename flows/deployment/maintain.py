"""Host maintenance: stop what runs in order, let the machine be worked on, and bring it up again in order.

Its record on the disk says how far it came. Whoever finds it without a process goes on from there: a person, or the
agent, by `roas host maintain --end`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow

from flows.common.judge_health import judge_now
from flows.deployment.restart import restart
from flows.deployment.stop import stop
from flows.operation.recorder import REPORTED_AT
from models.failures import EngineError, RoasError
from models.health import Health
from models.maintenance import MaintainedEnvironment, Maintenance, Stage
from models.operations import OperationStatus
from tasks.deployment.maintenance import (
    begin_quiet,
    do_work,
    end_quiet,
    ended_operation,
    find_down,
    why_not_up,
)
from tasks.deployment.services import inspect_application, read_known
from tasks.recovery.notify import report_maintenance
from tasks.runtime.maintenance import close_maintenance, keep_maintenance, open_maintenance
from tasks.runtime.project import Project, load_project

log = logging.getLogger("roas")

_LOOK_AGAIN_SECONDS = 1.0
_ENGINE_WITHIN = timedelta(minutes=5)
_DOWN_WITHIN_SECONDS = 300.0
"""So long after it was asked to reboot a machine takes at most to end this process."""


async def maintain(maintenance: Maintenance, words: list[str]) -> Maintenance:
    """Stop the environments of a maintenance, run the work, and bring them up again; without words it stays open.

    What could not be stopped ends it: nothing is done to the machine, and what was stopped is brought up.
    """
    maintenance = keep_maintenance(maintenance)
    await begin_quiet(maintenance)
    try:
        with _reported_together(maintenance):
            await stop_environments(maintenance.host)
    except RoasError as error:
        said = {"worked": f"nothing was done, since not all could be stopped: {error.what}", "failed": True}
        return await bring_up(_present(maintenance).model_copy(update=said))
    maintenance = _change(_present(maintenance), stage=Stage.STOPPED)
    if not words:
        return maintenance
    maintenance = _change(maintenance, stage=Stage.WORKING)
    log.info("all is stopped: %s", maintenance.command or "the machine reboots")
    worked, failed, output = await do_work(words, maintenance.until)
    if maintenance.reboot and not failed:
        await asyncio.sleep(_DOWN_WITHIN_SECONDS)
        worked, failed = f"the machine did not go down within {_DOWN_WITHIN_SECONDS:.0f} s", True
    return await bring_up(maintenance.model_copy(update={"worked": worked, "failed": failed, "output": output}))


async def bring_up(maintenance: Maintenance) -> Maintenance:
    """Bring up what a maintenance stopped or a boot ended, in order; then end the quiet, report it once, and close it.

    Raises:
        EngineError: An engine does not answer; the maintenance stays open.
    """
    if maintenance.stage is Stage.WORKING and not maintenance.worked:
        said = "the machine rebooted" if maintenance.reboot else "the command was cut off, or its end was not seen"
        maintenance = maintenance.model_copy(update={"worked": said, "failed": not maintenance.reboot})
    maintenance = _change(maintenance, stage=Stage.STARTING)
    await begin_quiet(maintenance)
    with _reported_together(maintenance):
        await start_environments(maintenance.host)
    maintenance = _present(maintenance)
    await end_quiet(maintenance)
    await report_maintenance(maintenance)
    close_maintenance(maintenance)
    return maintenance


@flow(name="stop-for-maintenance", flow_run_name="stop for the maintenance of {host}")
async def stop_environments(host: str) -> None:
    """Stop the environments of the open maintenance, what needs others first; again after a kill.

    Raises:
        RoasError: One could not be stopped.
    """
    maintenance = _opened()
    for one in maintenance.environments:
        done = await ended_operation(one.after)
        if done is None or done.status is not OperationStatus.SUCCESS:
            maintenance = _settle(maintenance, one, down_at=one.down_at or datetime.now(UTC))
            await stop(one.name, asked_by=_asker(maintenance), deployment_id=one.after, confirm=one.name)


@flow(name="start-after-maintenance", flow_run_name="start after the maintenance of {host}")
async def start_environments(host: str) -> None:
    """Start the environments of the open maintenance, each after what it needs, and prove each; again after a kill.

    Raises:
        EngineError: An engine does not answer.
    """
    maintenance = _opened()
    for one in reversed(maintenance.environments):
        if not (one.up_at or one.outcome):
            maintenance = _settle(maintenance, one, **await _start(maintenance, one))


async def _start(maintenance: Maintenance, one: MaintainedEnvironment) -> dict[str, Any]:
    """Start one environment unless a person acted on it since, and return how it is."""
    try:
        project = await load_project(one.name)
    except RoasError as error:
        return {"outcome": error.what, "failed": True}
    await _await_engine(project)
    if why := await why_not_up(one, maintenance):
        return {"outcome": why}
    services = one.services or await find_down(project)
    operation = await ended_operation(one.start_id)
    if services and operation is None:
        with suppress(RoasError):
            asked = {"asked_by": _asker(maintenance), "deployment_id": one.start_id, "confirm": one.name}
            await restart(one.name, services=list(services), **asked)
        operation = await ended_operation(one.start_id)
        if operation is None:
            return {"outcome": f"it could not be started: roas start {one.name}", "failed": True}
    if operation is not None and operation.status is not OperationStatus.SUCCESS:
        return {"outcome": f"{operation.record.reason}: roas why {one.start_id}", "failed": True}
    gone = set(services) - {state.service for state in await inspect_application(project) if state.up}
    if gone:
        return {"outcome": f"{', '.join(sorted(gone))} does not run: roas start {one.name}", "failed": True}
    unhealthy = "" if maintenance.announced else await _prove(project)
    return {"outcome": unhealthy, "failed": True} if unhealthy else {"up_at": datetime.now(UTC)}


async def _await_engine(project: Project) -> None:
    until = datetime.now(UTC) + _ENGINE_WITHIN
    while True:
        try:
            await inspect_application(project)
        except EngineError:
            if datetime.now(UTC) >= until:
                raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


async def _prove(project: Project) -> str:
    """Wait until an environment that the engine started is healthy; why it is not, in time, else empty."""
    application = await read_known(project)
    until = datetime.now(UTC) + timedelta(seconds=project.environment.start_timeout_seconds)
    while (report := await judge_now(project, application)).overall is not Health.HEALTHY:
        if datetime.now(UTC) >= until:
            return "; ".join(report.findings) or report.summary
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return ""


@contextmanager
def _reported_together(maintenance: Maintenance) -> Iterator[None]:
    token = REPORTED_AT.set(maintenance.begun_at)
    try:
        yield
    finally:
        REPORTED_AT.reset(token)


def _asker(maintenance: Maintenance) -> str:
    return maintenance.title.partition(":")[0]


def _opened() -> Maintenance:
    if (maintenance := open_maintenance()) is None:
        raise RoasError("No maintenance is open;", advice="`roas host` shows the last one.")
    return maintenance


def _present(maintenance: Maintenance) -> Maintenance:
    """The maintenance as its steps have written it."""
    return open_maintenance() or maintenance


def _change(maintenance: Maintenance, **values: Any) -> Maintenance:
    return keep_maintenance(maintenance.model_copy(update=values))


def _settle(maintenance: Maintenance, one: MaintainedEnvironment, **values: Any) -> Maintenance:
    changed = one.model_copy(update=values)
    return _change(
        maintenance, environments=tuple(changed if other == one else other for other in maintenance.environments)
    )
