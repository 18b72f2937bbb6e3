"""Decide which runs of a schedule are missing or in each other's way, and what a person hears of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2s

from core.runtime.clock import read_times
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import Ticket, TicketEntry
from models.scheduled_runs import ScheduledRun, ScheduledState
from models.schedules import Schedule

SOURCE = "schedule"
"""Source of an error that a run of a schedule failed of."""

_SUBJECT = "schedule "

REMOVED = ""
"""The times of a schedule that is in its file no more."""

_LOOKED_BACK = timedelta(days=8)
"""What has not begun for longer was reported, or no agent was there that could."""

_ENDS_A_GAP = (ScheduledState.DECLARED, ScheduledState.MISSED, ScheduledState.IDLE)
"""Where no run began: what was due before it is told, or is not missing."""


def subject_of(schedule: str) -> str:
    """What an error and a ticket of a schedule are about."""
    return f"{_SUBJECT}{schedule}"


def schedule_of(error: RecordedError) -> str:
    """The schedule that an error is about; empty where it is about none."""
    return (error.service or "").removeprefix(_SUBJECT) if error.source == SOURCE else ""


def is_declared(runs: Sequence[ScheduledRun], schedule: Schedule) -> bool:
    """Whether a schedule is on record with the times that it has now. `runs` are its latest, newest first."""
    if not runs or runs[0].at == REMOVED:
        return False
    declared = next((run for run in runs if run.state is ScheduledState.DECLARED), None)
    return all(run.at == schedule.at for run in ([declared] if declared else runs))


def removed_run(latest: ScheduledRun, now: datetime) -> ScheduledRun:
    """The record that a schedule is in its file no more: nothing of it is missing from now on."""
    return ScheduledRun(
        run_id=run_id(latest.environment, latest.schedule, now),
        environment=latest.environment,
        schedule=latest.schedule,
        due_at=now,
        at=REMOVED,
        state=ScheduledState.IDLE,
        text="it is not in the file any more",
    )


def missing(runs: Sequence[ScheduledRun], schedule: Schedule, now: datetime) -> list[datetime]:
    """The moments at which a schedule was due, and no run began in time, since one was missing last; oldest first.

    A run of a later moment that began in time counts: what comes late is done once. `runs` are its latest, newest
    first; none of what was due before its times were declared is missing.
    """
    known, began = {run.due_at for run in runs}, [run.began_at for run in runs if run.began_at is not None]
    gap_ends = (run.due_at for run in runs if run.state in _ENDS_A_GAP and run.began_at is None)
    # Where none is among them, what is on record goes back further than is looked.
    since = max(next(gap_ends, runs[-1].due_at if runs else now), now - _LOOKED_BACK)
    late = timedelta(minutes=schedule.late_minutes)
    return [
        due
        for due in read_times(schedule.at).between(since, now - late)
        if due not in known and not any(due <= at <= due + late for at in began)
    ]


def later_due(schedule: Schedule, due_at: datetime, now: datetime) -> datetime | None:
    """The latest moment after `due_at` at which it was due again: what comes as late as that is not done twice."""
    return next(reversed(read_times(schedule.at).between(due_at, now)), None)


def missed_run(
    environment: str, name: str, schedule: Schedule, missed: Sequence[datetime], host_id: str, *, paused: bool = False
) -> ScheduledRun:
    """The record of the last run that did not begin in time, also for those before it; `paused`: as a person wants."""
    due_at, before = missed[-1], len(missed) - 1
    more = f", nor did the {before} before it" if before > 1 else ", nor did the one before it" if before else ""
    return ScheduledRun(
        run_id=run_id(environment, name, due_at),
        environment=environment,
        schedule=name,
        due_at=due_at,
        at=schedule.at,
        state=ScheduledState.IDLE if paused else ScheduledState.MISSED,
        text="it is paused in the Prefect UI"
        if paused
        else f"it did not begin within {schedule.late_minutes:g} minutes{more}",
        host_id=host_id,
    )


def run_id(environment: str, name: str, due_at: datetime) -> str:
    """The id of the run that is due at a moment: one of the same moment has the same."""
    digest = blake2s(f"{environment}/{name}/{due_at.isoformat()}".encode(), digest_size=5).hexdigest()
    return f"{name}-{due_at:%Y%m%d-%H%M%S}-{digest}"


def report_run(
    run: ScheduledRun, schedule: Schedule, now: datetime, verdict: Verdict | None = None
) -> tuple[RecordedError, Ticket]:
    """A run that failed, was missed or left out, as an error and a ticket; of one schedule they are one cause.

    `verdict` is on the words in which it failed.
    """
    text = f"Schedule {run.schedule}, due at {run.due_at:%Y-%m-%d %H:%M} UTC: {run.text}"
    # Not by its words: whatever a schedule failed of, its next success ends it.
    template = subject_of(run.schedule)
    judged = Verdict(
        category=verdict.category if verdict else Category.TIMEOUT,
        severity=Severity.MEDIUM,
        strategy=verdict.strategy if verdict and not verdict.strategy.automatic else Strategy.INVESTIGATE,
        confidence=verdict.confidence if verdict else 1.0,
        reason=verdict.reason if verdict else "this system found it itself",
        template=template,
    )
    error = RecordedError(
        error_id=f"err-{run.run_id}-{run.attempts}{run.state[0]}",
        environment=run.environment,
        text=text,
        source=SOURCE,
        verdict=judged,
        first_seen=now,
        last_seen=now,
        service=template,
    )
    ticket = Ticket(
        ticket_id=f"T-{run.run_id}-{run.attempts}{run.state[0]}",
        error_id=error.error_id,
        environment=run.environment,
        title=text,
        opened_at=now,
        service=template,
        steps=_steps(run, schedule),
        history=(TicketEntry(at=now, by="roas", what="opened"),),
        since=run.due_at,
        evidence=(run.evidence,) if run.evidence else (),
    )
    return error, ticket


def _steps(run: ScheduledRun, schedule: Schedule) -> tuple[str, ...]:
    again = f"roas schedule run {run.environment} {run.schedule}   # do it now; when it succeeds this is over"
    listed = f"roas schedule list {run.environment}   # its last runs, and how long they took"
    if run.state is ScheduledState.MISSED:
        return (
            "systemctl status roas   # does `roas serve`, or the worker, run on this machine?",
            again,
            listed,
        )
    if run.state is ScheduledState.SKIPPED:
        return (
            listed,
            f"# Give it more time between its runs ({schedule.at}), a limit (limit_minutes), or `overlap: wait`.",
        )
    return (again, listed)
