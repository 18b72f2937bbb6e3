"""Scheduled: do one thing that an environment does by the clock, once at each of its times, and say how it ended."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from adapters.host.processes import this_process
from adapters.pattern_files import shipped_set
from core.errors.classify import as_failure, classify
from core.runtime.pings import Ping, PingSignal
from core.runtime.scheduled import later_due, report_run, run_id
from flows.common import parameters
from flows.schedules.work import Done, do
from models.failures import NotFoundError, RoasError
from models.scheduled_runs import ScheduledRun, ScheduledState
from models.schedules import Job, Schedule
from tasks.deployment.belonging import refuse_elsewhere
from tasks.recovery.notify import SCHEDULE_FAILED, announce, notify_where_asked
from tasks.runtime.hosts import this_host
from tasks.runtime.project import Project, load_project
from tasks.schedules.pings import ping
from tasks.schedules.runs import claim_run, end_badly, end_well, error_of_operation, goes_on, latest_runs

log = logging.getLogger("roas")

_ASK_AGAIN_SECONDS = 2.0
_SETTLES_WITHIN_SECONDS = 10.0


@flow(name="scheduled", flow_run_name="{schedule} of {environment}")
async def scheduled(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    schedule: str = Field(description="Which of the schedules in the environment's file."),
    asked_by: str | None = parameters.ASKED_BY,
) -> ScheduledRun | State[Any]:
    """Run a schedule of an environment now: an operation of ours, or a job.

    Of what is due at a moment there is one run, whichever hosts and processes try. One that comes so late that a later
    one is due, ends as Skipped. A run that fails ends Failed, after its retries, with a ticket; its next success
    resolves that.

    Raises:
        NotFoundError: The environment's file has no such schedule.
        WrongHostError: The environment belongs to another host.
    """
    await refuse_elsewhere(environment)
    project = await load_project(environment, ())
    declared, now = project.environment.schedules.get(schedule), datetime.now(UTC)
    due_by_clock = _due_by_clock()
    if declared is None:
        if due_by_clock is not None:
            return _skip(f"{environment} has no schedule {schedule} any more")
        known = ", ".join(sorted(project.environment.schedules)) or "none"
        raise NotFoundError(f"{environment} has no schedule {schedule!r};", advice=f"its file has {known}.")
    due_at = due_by_clock or now
    if due_by_clock is not None and (later := later_due(declared, due_at, now)) is not None:
        return _skip(f"it comes so late that it is due again, at {later:%Y-%m-%d %H:%M} UTC")
    run = ScheduledRun(
        run_id=run_id(environment, schedule, due_at),
        environment=environment,
        schedule=schedule,
        due_at=due_at,
        at=declared.at,
        state=ScheduledState.RUNNING,
        began_at=now,
        flow_run_id=str(flow_run.get_id() or ""),
        host_id=this_host().host_id,
        runner=this_process(str(flow_run.get_id() or "")),
    )
    if not await claim_run(run):
        return _skip(f"another process has the run of {due_at:%Y-%m-%d %H:%M} UTC")
    execution = _Execution(project, declared, run)
    try:
        return await execution.run_once()
    except BaseException as error:
        # Whatever ends this process, a person hears of it; where it cannot say so any more, the agent does.
        is_cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit)
        text = (
            "it was cancelled, or what ran it was stopped" if is_cancelled else f"it failed by {type(error).__name__}"
        )
        with suppress(RoasError, TimeoutError):
            settling = asyncio.shield(execution.end_badly(ScheduledState.FAILED, text))
            await asyncio.wait_for(settling, _SETTLES_WITHIN_SECONDS)
        raise


def _due_by_clock() -> datetime | None:
    """When this run is due that the server's clock began; None where a person did, or retries it."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or not run.auto_scheduled or run.run_count > 1 or run.expected_start_time is None:
        return None
    return run.expected_start_time.astimezone(UTC)


def _skip(message: str) -> State[Any]:
    log.info("nothing is done: %s", message)
    return Completed(name="Skipped", message=message)


class _Execution:
    """One run of a schedule that this process has claimed."""

    def __init__(self, project: Project, schedule: Schedule, run: ScheduledRun) -> None:
        self._project, self._schedule, self._run = project, schedule, run

    async def run_once(self) -> ScheduledRun | State[Any]:
        """Wait for its turn, try as often as it may, and say how it ended."""
        if (earlier := await self._earlier()) is not None and self._schedule.overlap == "skip":
            text = f"its run of {earlier.due_at:%Y-%m-%d %H:%M} UTC still went on"
            return await self.end_badly(ScheduledState.SKIPPED, text)
        while earlier is not None:
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
            earlier = await self._earlier()
        await ping(self._schedule, Ping(PingSignal.START))
        failed, evidence = "", ""
        for attempt in range(1, self._schedule.retries + 2):
            if attempt > 1:
                log.warning("%s; it is tried again in %g s", failed, self._schedule.retry_after_seconds)
                await asyncio.sleep(self._schedule.retry_after_seconds)
            self._run = replace(self._run, attempts=attempt)
            try:
                done = await self._try()
            except RoasError as error:
                failed, evidence = self._project.redactor().text(error.what.rstrip(";")), getattr(error, "evidence", "")
            else:
                return await self._end_well(done)
        self._run = replace(self._run, evidence=evidence)
        return await self.end_badly(ScheduledState.FAILED, failed)

    async def _earlier(self) -> ScheduledRun | None:
        """An earlier run of the schedule that still goes on."""
        now, run = datetime.now(UTC), self._run
        runs = await latest_runs(run.environment, run.schedule)
        return next((one for one in runs if one.due_at < run.due_at and goes_on(one, self._schedule, now)), None)

    async def _try(self) -> Done:
        limit = self._schedule.limit_seconds
        try:
            async with asyncio.timeout(None if isinstance(self._schedule.run, Job) else limit):
                return await do(self._schedule, self._run, self._project)
        except TimeoutError as error:
            raise RoasError(f"it did not end within {timedelta(seconds=limit or 0)}, and was cancelled") from error

    async def _end_well(self, done: Done) -> ScheduledRun:
        ended = replace(
            self._run,
            state=ScheduledState.IDLE if done.idle else ScheduledState.SUCCEEDED,
            ended_at=datetime.now(UTC),
            text=done.text,
            evidence=done.evidence,
        )
        await end_well(ended)
        log.info("schedule %s: %s", ended.schedule, done.text)
        await ping(self._schedule, Ping(PingSignal.WELL, done.text))
        return ended

    async def end_badly(self, state: ScheduledState, text: str) -> State[Any]:
        """Record that it went wrong, and tell people: once, also where what it ran told of it already."""
        now, run = datetime.now(UTC), self._run
        ended = replace(run, state=state, ended_at=now, text=text)
        # An update that fails is an error with a ticket already.
        operates = self._schedule.run in ("update", "sync")
        has_own_ticket = operates and bool(await error_of_operation(run.environment, run.began_at or now))
        verdict = as_failure(classify(text, shipped_set()), text) if state is ScheduledState.FAILED else None
        await end_badly(ended, None if has_own_ticket else report_run(ended, self._schedule, now, verdict))
        announce(SCHEDULE_FAILED, run.environment, text=f"schedule {run.schedule}: {text}")
        if state is not ScheduledState.SKIPPED:
            await ping(self._schedule, Ping(PingSignal.FAIL, text))
        await notify_where_asked(self._project.environment)
        return Failed(message=f"Schedule {run.schedule} of {run.environment}: {text}")
