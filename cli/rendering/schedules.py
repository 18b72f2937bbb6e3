"""Text output of schedules and their runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import ago, say, show_table
from core.common.safe_text import shorten
from models.scheduled_runs import ScheduledRun, ScheduledState, ScheduleView

_MARKS = {
    ScheduledState.SUCCEEDED: "[green].[/green]",
    ScheduledState.IDLE: "-",
    ScheduledState.FAILED: "[red]F[/red]",
    ScheduledState.MISSED: "[red]M[/red]",
    ScheduledState.SKIPPED: "[yellow]S[/yellow]",
    ScheduledState.RUNNING: "[cyan]>[/cyan]",
}

_LONGEST = 60
"""Letters of what it does, and of how its last run ended: `--json` has the whole."""


def show_schedules(views: Sequence[ScheduleView]) -> None:
    """Print schedules: when each is due next, its last run, and its latest ones as marks, the newest first."""
    if not views:
        say("Nothing is done by the clock; `schedules` in an environment's file says what is.")
        return
    rows = []
    for view in views:
        last = view.runs[0] if view.runs else None
        ended = f"{_state(last)} {ago(last.due_at)}: {escape(shorten(last.text, _LONGEST))}" if last else "never"
        due = f"{view.next_at:%Y-%m-%d %H:%M} UTC" if view.next_at else ""
        marks = "".join(_MARKS.get(run.state, "?") for run in view.runs)
        rows.append(
            (view.environment, view.name, escape(shorten(view.does, _LONGEST)), escape(view.at), due, ended, marks)
        )
    show_table(("environment", "schedule", "does", "at", "next", "last", "runs"), rows)
    if any(view.runs for view in views):
        say("\nruns: newest first; . succeeded, - nothing to do, F failed, M missed, S left out, > goes on")
    say(f"do one now: roas schedule run {views[0].environment} {views[0].name}")


def show_run(run: ScheduledRun) -> None:
    """Print how a run ended."""
    did_something = run.state not in (ScheduledState.IDLE, ScheduledState.SKIPPED)
    took = f" in {run.seconds:.1f} s" if did_something and run.seconds is not None else ""
    tries = f", at try {run.attempts}" if run.attempts > 1 else ""
    say(f"schedule {run.schedule} of {run.environment}: {_state(run)}{took}{tries}: {escape(run.text)}")


def _state(run: ScheduledRun) -> str:
    return f"[red]{run.state.words}[/red]" if run.state.is_bad else run.state.words
