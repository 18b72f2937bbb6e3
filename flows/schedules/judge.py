"""Find the runs of schedules that did not begin in time, or whose process is gone, and tell people."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from core.runtime.scheduled import REMOVED, is_declared, missed_run, missing, removed_run, report_run, run_id
from models.environments import Environment
from models.scheduled_runs import ScheduledRun, ScheduledState
from models.schedules import Schedule
from tasks.recovery.notify import SCHEDULE_FAILED, announce, notify_where_asked
from tasks.runtime.hosts import this_host
from tasks.schedules.runs import add_run, end_badly, goes_on, last_of_each, latest_runs

log = logging.getLogger("roas")


IsPaused = Callable[[str, str], Awaitable[bool]]
"""Whether a person paused a schedule of an environment."""


async def judge_schedules(
    environment: Environment, now: datetime | None = None, is_paused: IsPaused | None = None
) -> list[ScheduledRun]:
    """Record what is missing or was cut off of the schedules of an environment, each once; returns that.

    A schedule that is new, or has other times, counts from now on. Several hosts and processes may call it.
    """
    at, found = now or datetime.now(UTC), list[ScheduledRun]()
    for name, schedule in environment.schedules.items():
        found += await _judge(environment.name, name, schedule, at, is_paused)
    for run in await last_of_each(environment.name):
        if run.schedule not in environment.schedules and run.at != REMOVED:
            await add_run(removed_run(run, at))
    for run in found:
        announce(SCHEDULE_FAILED, environment.name, text=f"schedule {run.schedule}: {run.text}")
    if found:
        await notify_where_asked(environment)
    return found


async def _judge(
    environment: str, name: str, schedule: Schedule, now: datetime, is_paused: IsPaused | None
) -> list[ScheduledRun]:
    runs = await latest_runs(environment, name)
    if not is_declared(runs, schedule):
        declared = ScheduledRun(
            run_id=run_id(environment, name, now),
            environment=environment,
            schedule=name,
            due_at=now,
            at=schedule.at,
            state=ScheduledState.DECLARED,
            host_id=this_host().host_id,
        )
        await add_run(declared)
        return []
    found = []
    for run in runs:
        if run.state is ScheduledState.RUNNING and not goes_on(run, schedule, now):
            ended = replace(
                run, state=ScheduledState.FAILED, ended_at=now, text="its process was ended before it was done"
            )
            if await end_badly(ended, report_run(ended, schedule, now)):
                found.append(ended)
    if missed := missing(runs, schedule, now):
        paused = is_paused is not None and await is_paused(environment, name)
        run = missed_run(environment, name, schedule, missed, this_host().host_id, paused=paused)
        if await end_badly(run, None if paused else report_run(run, schedule, now), is_new=True) and not paused:
            found.append(run)
    for run in found:
        log.warning("schedule %s of %s, due at %s UTC: %s", name, environment, f"{run.due_at:%Y-%m-%d %H:%M}", run.text)
    return found
