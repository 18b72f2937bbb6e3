"""Text output of plans, releases and drift."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import ago, say, show_table
from core.deployment.plan import plan_id
from models.compose import Plan, PlannedAction, PlannedService
from models.records import ReleaseDetails
from models.results import DriftReport

_COLOURS = {PlannedAction.KEEP: "dim", PlannedAction.RECREATE: "yellow", PlannedAction.RESTART: "yellow"}


def show_plan(plan: Plan) -> None:
    """Print what a start would do, wave by wave, and the command to do exactly this."""
    _show_lines(sorted(plan.services, key=lambda one: (one.wave, one.service)))
    if plan.orphans:
        say(f"[yellow]not declared any more, left alone:[/yellow] {escape(', '.join(plan.orphans))}")
    say(f"\nplan {plan_id(plan)}   to do this or nothing: roas start ENV --plan {plan_id(plan)}")


def show_releases(releases: Sequence[ReleaseDetails]) -> None:
    """Print releases, newest first, each with its changes."""
    if not releases:
        say("There is no release yet; a start that is verified becomes one.")
        return
    rows = []
    for details in releases:
        one = details.release
        changes = [*([one.reason] if one.reason else []), *(details.changes or ("the first one",))]
        rows.append((one.release_id, ago(one.created_at), one.deployment_id, escape("; ".join(changes))))
    show_table(("release", "verified", "deployment", "what changed"), rows)
    say(f"\nroll back to one: roas rollback {releases[0].release.environment} RELEASE")


def show_drift(report: DriftReport) -> None:
    """Print differences between running and declared services."""
    if report.stopped:
        say(f"{report.environment} was stopped on request.")
    elif report.clean:
        say(f"{report.environment} runs as declared.")
    if report.services:
        _show_lines(report.services)
    for orphan in report.orphans:
        say(f"[yellow]not declared[/yellow] {escape(orphan)}")
    if report.services:
        say(f"\nto bring it in line: roas start {report.environment}")


def _show_lines(lines: Sequence[PlannedService]) -> None:
    rows = []
    for line in lines:
        colour = _COLOURS.get(line.action, "cyan")
        rows.append((str(line.wave + 1), line.service, f"[{colour}]{line.action}[/{colour}]", escape(line.because)))
    show_table(("wave", "service", "would", "because"), rows)
