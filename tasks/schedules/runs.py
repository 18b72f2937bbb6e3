"""The record of runs by the clock. One that goes wrong opens a ticket, which the next success resolves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from adapters.host.processes import is_alive
from core.runtime.clock import read_times
from core.runtime.scheduled import schedule_of
from models.environments import Environment
from models.errors import RecordedError
from models.failures import NotFoundError
from models.recovery import Ticket, TicketEntry
from models.scheduled_runs import RUNS_SHOWN, ScheduledRun, ScheduledState, ScheduleView
from models.schedules import Schedule
from tasks.runtime.retry_policy import make_async, retry_read, retry_write
from tasks.runtime.stores import open_stores, stores_exist

log = logging.getLogger("roas")

LOOKED_AT = 100
"""So many runs of a schedule are read to find those that are missing."""

_OVER_LIMIT = timedelta(minutes=10)
"""So long after its limit a run of another machine counts as ended, whose process cannot be asked for."""

_LONGEST = timedelta(days=1)


@retry_read
@make_async
def latest_runs(environment: str, schedule: str, most: int = LOOKED_AT) -> list[ScheduledRun]:
    """The runs of a schedule that were due last, newest first."""
    return open_stores().scheduled_runs.latest(environment, schedule, most)


@retry_write
@make_async
def add_run(run: ScheduledRun) -> bool:
    """Record what is no run: that a schedule is known here from now on, or is in its file no more."""
    return open_stores().scheduled_runs.add(run)


@retry_read
@make_async
def last_of_each(environment: str) -> list[ScheduledRun]:
    """The latest run of each schedule of an environment that is on record."""
    return open_stores().scheduled_runs.latest_of_each(environment, 1)


@retry_write
@make_async
def claim_run(run: ScheduledRun) -> bool:
    """Record that this process runs what is due; False where another one does, or has."""
    return open_stores().scheduled_runs.claim(run)


@retry_write
@make_async
def end_well(run: ScheduledRun) -> bool:
    """Record that a run ended well, and where it did something resolve what was reported of its schedule, at once.

    False where its end was on record already.
    """
    with open_stores().together() as stores:
        if not stores.scheduled_runs.end(run):
            return False
        if run.state is ScheduledState.IDLE:
            # It says nothing of what failed before.
            return True
        at = run.ended_at or run.due_at
        entry = TicketEntry(at=at, by="roas", what=f"its run of {run.due_at:%Y-%m-%d %H:%M} UTC succeeded")
        for error in stores.errors.list_unresolved(run.environment):
            if schedule_of(error) == run.schedule:
                stores.errors.resolve(error.error_id, at, entry.what)
                stores.tickets.resolve_for_error(error.error_id, entry)
    return True


@retry_write
@make_async
def end_badly(run: ScheduledRun, reported: tuple[RecordedError, Ticket] | None, *, is_new: bool = False) -> bool:
    """Record a run that went wrong with its error and ticket, in one transaction; False where it was on record.

    `reported` is None where what it ran has an error and a ticket of its own, or a person wants it so. `is_new`: it
    never began.
    """
    with open_stores().together() as stores:
        if not (stores.scheduled_runs.add(run) if is_new else stores.scheduled_runs.end(run)):
            return False
        if reported is not None:
            error, ticket = reported
            recorded = stores.errors.record(error)
            if recorded.error_id != error.error_id:
                # Of one cause by its schedule alone, so that its words are news.
                again = TicketEntry(at=error.first_seen, by="roas", what=f"again: {error.text}")
                ticket = replace(ticket, error_id=recorded.error_id, history=(again,))
            stores.tickets.open(ticket)
            if run.evidence:
                stores.evidence.link([run.evidence], recorded.error_id)
    return True


@retry_read
@make_async
def error_of_operation(environment: str, since: datetime) -> str:
    """The error of the latest operation on an environment that began since a moment; empty without one."""
    latest = open_stores().operations.latest_recorded(environment, 1)
    return latest[0].record.error_id if latest and latest[0].started_at >= since else ""


def goes_on(run: ScheduledRun, schedule: Schedule, now: datetime) -> bool:
    """Whether a run has not ended: its process lives, or on another machine may still."""
    if run.state is not ScheduledState.RUNNING or run.runner is None or run.began_at is None:
        return False
    alive = is_alive(run.runner)
    if alive is not None:
        return alive
    limit = timedelta(seconds=schedule.limit_seconds * (schedule.retries + 1)) if schedule.limit_seconds else _LONGEST
    return now - run.began_at < limit + _OVER_LIMIT


def run_of_flow(environment: str, schedule: str, flow_run_id: str) -> ScheduledRun:
    """The run of a schedule that a flow run was.

    Raises:
        NotFoundError: It did not get so far that one was recorded.
    """
    for run in open_stores().scheduled_runs.latest(environment, schedule, LOOKED_AT):
        if run.flow_run_id == flow_run_id:
            return run
    raise NotFoundError(
        f"Schedule {schedule} of {environment} was not run;", advice="the lines above say what was in its way."
    )


def read_schedules(environments: Sequence[Environment], now: datetime) -> list[ScheduleView]:
    """The schedules of environments with their latest runs, by environment and name."""
    names = {environment.name for environment in environments}
    stores = open_stores() if stores_exist() else None
    of_one = next(iter(names)) if len(names) == 1 else None
    runs = stores.scheduled_runs.latest_of_each(of_one, RUNS_SHOWN) if stores else []
    return [
        ScheduleView(
            environment=environment.name,
            name=name,
            does=schedule.does,
            at=schedule.at,
            next_at=next(read_times(schedule.at).after(now), None),
            runs=tuple(
                run
                for run in runs
                if (run.environment, run.schedule) == (environment.name, name)
                and run.state is not ScheduledState.DECLARED
            ),
        )
        for environment in environments
        for name, schedule in sorted(environment.schedules.items())
    ]
