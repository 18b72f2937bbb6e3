"""The record of what was done by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.operations.record import Runner

RUNS_SHOWN = 30
"""So many runs of a schedule are shown, and never archived."""


class ScheduledState(StrEnum):
    """State of one run of a schedule."""

    DECLARED = "declared"
    """No run: from this moment on the schedule is known here, with these times."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    IDLE = "idle"
    """Nothing was to be done, such as outside of the update windows, or where a person stopped the environment."""
    SKIPPED = "skipped"
    """Its last run still went on."""
    MISSED = "missed"
    """It did not begin in time; it may still run."""

    @property
    def words(self) -> str:
        """What people call it."""
        words = {
            ScheduledState.SKIPPED: "left out",
            ScheduledState.RUNNING: "goes on",
            ScheduledState.IDLE: "nothing to do",
        }
        return words.get(self, str(self))

    @property
    def is_bad(self) -> bool:
        """Whether a person hears of it."""
        return self in (ScheduledState.FAILED, ScheduledState.SKIPPED, ScheduledState.MISSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """One run of a schedule, or that one is missing. There is one of each environment, schedule and `due_at`.

    `at` are the times of the schedule as they were declared then. `text` says how it ended, without secrets; `evidence`
    names the bundle with its output.
    """

    run_id: str
    environment: str
    schedule: str
    due_at: datetime
    at: str
    state: ScheduledState
    began_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    text: str = ""
    evidence: str = ""
    flow_run_id: str = ""
    host_id: str = ""
    runner: Runner | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None where it did not begin, or goes on."""
        return (
            None if self.began_at is None or self.ended_at is None else (self.ended_at - self.began_at).total_seconds()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """A schedule with its runs, the newest first, as people see it; None for `next_at` where it is not declared."""

    environment: str
    name: str
    does: str
    at: str
    next_at: datetime | None
    runs: tuple[ScheduledRun, ...] = ()
