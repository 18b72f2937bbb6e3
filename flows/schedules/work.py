"""What a schedule does: one of our own operations, or a job."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.common.safe_text import shorten
from core.deployment.hooks import BY_THE_CLOCK, describe, how_it_failed
from flows.common.requester import SCHEDULE
from flows.deployment.drift import drift
from flows.deployment.sync import sync
from flows.deployment.update import update
from flows.execution.hook_checks import run_of_hook
from flows.operation.recorder import OperationRequest
from flows.reporting.report import report
from flows.storage.rehearse import rehearse
from flows.storage.snapshot import snapshot
from flows.update.rehearsal import rehearse_update
from flows.update.windows import skipped_update
from models.compose import Application
from models.failures import HookError, RoasError, SnapshotError
from models.hooks import Hook
from models.results import OperationResult
from models.scheduled_runs import ScheduledRun
from models.schedules import Job, Schedule
from tasks.deployment.hooks import HookOrder, end_left_jobs, read_all_services, run_hook
from tasks.deployment.lease import holder_of
from tasks.deployment.operations import is_meant_to_run
from tasks.errors.hook_evidence import decisive_line, keep_output
from tasks.runtime.project import Project

log = logging.getLogger("roas")

_ASKED_TIMES = 1800
"""For an hour in all: so long it waits for another operation on the environment to end."""

_ASK_AGAIN_SECONDS = 2.0
_WAIT_AGAIN_SECONDS = 60.0
_LONGEST_QUOTE = 200


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in one sentence; `evidence` names the bundle with the output of a job."""

    text: str
    evidence: str = ""
    idle: bool = False
    """Nothing was to be done."""


class JobError(HookError):
    """A job failed; `evidence` names the bundle with its output, empty where there is none."""

    def __init__(self, what: str, evidence: str) -> None:
        """Keep where its output is."""
        super().__init__(what)
        self.evidence = evidence


async def do(schedule: Schedule, run: ScheduledRun, project: Project) -> Done:
    """Do what a schedule says, once; nothing where a person stopped what it needs.

    Raises:
        RoasError: It failed.
    """
    job = schedule.as_hook(run.schedule)
    await _await_turn(run.environment)
    if _needs_application(schedule) and not await is_meant_to_run(run.environment):
        return Done(f"{run.environment} was stopped on request, so nothing was done", idle=True)
    return await _operate(schedule, run.environment) if job is None else await _run_job(job, run, project)


def _needs_application(schedule: Schedule) -> bool:
    if isinstance(schedule.run, Job):
        return schedule.run.service is not None or schedule.run.exec is not None
    return schedule.run in ("snapshot", "update", "sync")


async def _await_turn(environment: str) -> None:
    """Wait for a while until no operation holds the environment: it may be a stop, or replace what a job works in."""
    for _ in range(_ASKED_TIMES):
        if await asyncio.to_thread(holder_of, environment) is None:
            return
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


async def _operate(schedule: Schedule, environment: str) -> Done:
    what, request = str(schedule.run), dict[str, Any](asked_by=SCHEDULE, wait_seconds=_WAIT_AGAIN_SECONDS)
    if what == "snapshot":
        taken = await snapshot(environment, **request)
        return Done(f"snapshot {taken.snapshot_id} is whole: {taken.bytes:,} bytes")
    if what == "rehearse":
        rehearsed = await rehearse(environment, **request)
        found = rehearsed.rehearsal
        if found is None or not found.ok:
            raise SnapshotError(
                f"Snapshot {rehearsed.snapshot_id} cannot be restored: {found.problem if found else 'no result'}"
            )
        return Done(f"snapshot {rehearsed.snapshot_id} can be restored")
    if what == "drift":
        seen = await drift(environment)
        drifted = ", ".join(line.service for line in seen.services)
        return Done(f"drifted: {drifted}" if drifted else "it runs as declared")
    if what == "report":
        await report(environment)
        return Done("the report is stored")
    if schedule.rehearse and await skipped_update(environment, OperationRequest(SCHEDULE)) is None:
        await rehearse_update(environment, asked_by=SCHEDULE)
    operation = update if what == "update" else sync
    state: Any = await operation(environment, **request, return_state=True)
    result = await state.result()
    if not isinstance(result, OperationResult):
        return Done(state.message or "nothing was to be done", idle=True)
    if not result.success:
        raise RoasError(result.reason)
    return Done(result.reason)


async def _run_job(job: Hook, run: ScheduledRun, project: Project) -> Done:
    # A command on this machine needs neither Compose nor the engine.
    application = Application(project=project.environment.project, services={})
    if job.service is not None:
        application = await read_all_services(project)
        await end_left_jobs(project, job.name)
    order = HookOrder(
        hook=job, deployment_id=f"{run.run_id}-{run.attempts}", application=application, when=BY_THE_CLOCK
    )
    does, began_at, began = project.redactor().text(describe(job)), datetime.now(UTC), time.monotonic()
    log.info("job %s: %s", job.name, does)
    outcome = await run_hook(project, order)
    ended = run_of_hook(job, BY_THE_CLOCK, does, began_at, began, outcome)
    ended = await keep_output(project.environment, ended, outcome, None)
    if not ended.ok:
        line = decisive_line(job.concerns or job.name, outcome)
        raise JobError(how_it_failed(ended, line), ended.evidence)
    last = next((line for line in reversed(ended.lines) if line.strip()), "")
    return Done(shorten(last, _LONGEST_QUOTE) or "it ended well", ended.evidence)
