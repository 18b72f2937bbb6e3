"""Host maintenance: stop what runs in order, let the machine be worked on, and bring it up again in order.

Its record on the disk says how far it came. Whoever finds it without a process goes on from there: a person, or the
agent, by `roas host maintain --end`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow

from adapters.host.processes import boot_id
from flows.common.judge_health import judge_now
from flows.deployment.restart import restart
from flows.deployment.stop import stop
from models.failures import EngineUnreachableError, RoasError, StoreError
from models.health import ServiceHealth
from models.maintenance import MaintainedEnvironment, Maintenance, Stage
from models.operations import OperationStatus
from tasks.deployment.maintenance import (
    begin_quiet,
    close_maintenance,
    do_work,
    end_quiet,
    ended_operation,
    find_down,
    keep_maintenance,
    read_maintenance,
    start_left,
    why_not_up,
)
from tasks.deployment.services import read_known
from tasks.errors.redact import redact, redact_now
from tasks.recovery.notify import report_maintenance
from tasks.runtime.project import Project, load_project

log = logging.getLogger("roas")

_ILL = frozenset({ServiceHealth.UNHEALTHY, ServiceHealth.STARTING, ServiceHealth.UNKNOWN})
_LOOK_AGAIN_SECONDS = 1.0
_DOWN_WITHIN_SECONDS = 300.0
"""So long after it was asked to reboot, a machine takes at most to end this process."""


async def maintain(maintenance: Maintenance, words: Sequence[str]) -> Maintenance:
    """Stop the environments of a maintenance, run the work, and bring them up again; without words it stays open.

    Where one cannot be stopped, nothing is done to the machine, and what was stopped is brought up.
    """
    await begin_quiet(keep_maintenance(maintenance))
    try:
        await move(maintenance.host, up=False)
    except RoasError as error:
        why = await asyncio.to_thread(redact_now, None, error.what)
        said = f"nothing was done, since not all could be stopped: {why}"
        return await bring_up(_change(worked=said, failed=True))
    maintenance = _change(stage=Stage.STOPPED)
    if not words:
        return maintenance
    maintenance = _change(stage=Stage.WORKING)
    log.info("all is stopped: %s", maintenance.command or "the machine reboots")
    worked, failed, output = await do_work(words, maintenance.until)
    if maintenance.reboot and not failed:
        await asyncio.sleep(_DOWN_WITHIN_SECONDS)
        worked, failed = f"the machine did not go down within {_DOWN_WITHIN_SECONDS:.0f} s", True
    return await bring_up(_change(worked=worked, failed=failed, output=output))


async def bring_up(maintenance: Maintenance) -> Maintenance:
    """Bring up in order what a maintenance stopped or a boot ended; then end the quiet, report it once, and close it.

    Raises:
        EngineUnreachableError: An engine does not answer; the maintenance stays open, and the agent tries again.
    """
    if maintenance.stage is Stage.WORKING and not maintenance.worked:
        has_booted = boot_id() != maintenance.boot
        said = "the machine booted" if has_booted else "the work was cut off, or its end was not seen"
        maintenance = _change(worked=said, failed=not (maintenance.reboot and has_booted))
    await begin_quiet(_change(stage=Stage.STARTING))
    await move(maintenance.host, up=True)
    maintenance = _change()
    await end_quiet(maintenance)
    await report_maintenance(maintenance)
    close_maintenance(maintenance)
    return maintenance


@flow(name="maintenance", flow_run_name="maintenance of {host}")
async def move(host: str, *, up: bool) -> None:
    """Stop or bring up the environments of the maintenance of this `host`, in order; again after a kill.

    Raises:
        EngineUnreachableError: An engine does not answer.
        RoasError: One could not be stopped.
    """
    maintenance = _change()
    for one in reversed(maintenance.environments) if up else maintenance.environments:
        if up and not one.outcome:
            _settle(one, **await _start(maintenance, one))
        elif not up and ((done := await ended_operation(one.after)) is None or done.status != OperationStatus.SUCCESS):
            _settle(one, down_at=one.down_at or datetime.now(UTC))
            await stop(one.name, asked_by=_asker(maintenance), deployment_id=one.after, confirm=one.name)


async def _start(maintenance: Maintenance, one: MaintainedEnvironment) -> dict[str, Any]:
    """Start one environment unless a person acted on it since, and say how it is."""
    try:
        project = await load_project(one.name)
        if why := await why_not_up(one, maintenance):
            return {"outcome": f"left: {why}"}
        services = one.services or await find_down(project)
        if services and await ended_operation(one.start_id) is None:
            by, new = _asker(maintenance), one.start_id
            await restart(one.name, list(services), asked_by=by, deployment_id=new, confirm=one.name)
        done = await ended_operation(one.start_id)
        gone = await start_left(project, services, done.ended_at) if done and done.ended_at else set(services)
        trouble = f"{', '.join(sorted(gone))} does not run" if gone else await _prove(one, project)
    except (EngineUnreachableError, StoreError):
        raise
    except RoasError as error:
        trouble = await redact(one.name, error.what)
    if (done := await ended_operation(one.start_id)) is not None and done.status is not OperationStatus.SUCCESS:
        trouble = f"{done.record.reason} (roas why {one.start_id})"
    if trouble:
        return {"outcome": f"not up: {trouble}; roas start {one.name}", "failed": True}
    seconds = (datetime.now(UTC) - one.down_at).total_seconds() if one.down_at else 0
    return {"outcome": f"up, down for {seconds:.0f} s" if seconds else "up"}


async def _prove(one: MaintainedEnvironment, project: Project) -> str:
    """Wait until what an engine started by itself is healthy; why it is not, in time, else empty."""
    until, application = datetime.now(UTC), await read_known(project)
    until += timedelta(seconds=project.environment.start_timeout_seconds)
    while not one.services:
        verdicts = (await judge_now(project, application)).services
        # What a person stopped is left, and everything else that was down was restarted.
        ill = [verdict for verdict in verdicts if verdict.required and verdict.health in _ILL]
        if not ill or datetime.now(UTC) >= until:
            return "; ".join(f"{verdict.service} is {verdict.health}: {verdict.reason}" for verdict in ill)
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return ""


def _asker(maintenance: Maintenance) -> str:
    return maintenance.title.partition(":")[0]


def _change(**values: Any) -> Maintenance:
    """Write down what changes in the maintenance that is open; without a change it is only read."""
    if (maintenance := read_maintenance()) is None:
        raise RoasError("The record of the maintenance is gone;", advice="`roas history` shows what it stopped.")
    return keep_maintenance(maintenance.model_copy(update=values)) if values else maintenance


def _settle(one: MaintainedEnvironment, **values: Any) -> None:
    changed = one.model_copy(update=values)
    _change(environments=tuple(changed if other.name == one.name else other for other in _change().environments))
