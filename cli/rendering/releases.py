"""Text output of plans, releases and drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape

from cli.rendering.console import ago, say, show_table
from core.deployment.plan import plan_id
from core.deployment.release_notes import note_lines
from models.compose import Interruption, Plan, PlannedAction, PlannedService
from models.records import Release, ReleaseDetails
from models.results import DriftReport
from models.sources import SOURCE_KEY, SourceRevision

_COLOURS = {PlannedAction.KEEP: "dim", PlannedAction.RECREATE: "yellow", PlannedAction.RESTART: "yellow"}


def show_lifted(releases: Sequence[Release]) -> None:
    """Print which failed releases have an image that updates may take again."""
    for release in releases:
        say(f"lifted: updates of {release.environment} may take the image of {release.deployment_id} again")


def show_plan(plan: Plan, environment: str, command: str = "start") -> None:
    """Print what a start or an update would do, wave by wave, and the command to do exactly this."""
    lines = sorted(plan.services, key=lambda service: (service.wave, service.service))
    for fetch in sorted(plan.fetches, key=lambda entry: entry.service):
        if not fetch.through and not fetch.held_back:
            say(f"first {fetch.kind} the image of {fetch.service}")
    _show_lines(lines, interruptions=True)
    for hook in plan.hooks:
        say(f"hook {hook.when} the change: {hook.name}, {escape(hook.does)}")
    for line in lines:
        if line.stop_first_because:
            say(f"[yellow]{line.service}[/yellow]: stop-first because {escape(line.stop_first_because)}")
        for change in line.other_volumes:
            say(f"[red]{line.service}[/red]: {escape(change)}")
        if line.note:
            say(f"[yellow]{line.service}[/yellow]: {escape(line.note)}")
    for note in plan.release_notes:
        for text in note_lines(note):
            say(f"[bold]new[/bold]   {escape(text)}")
    if plan.orphans:
        say(f"[yellow]not declared any more, left alone:[/yellow] {escape(', '.join(plan.orphans))}")
    say(f"\nplan {plan_id(plan)}   to do this or nothing: roas {command} {escape(environment)} --plan {plan_id(plan)}")


def show_checkout(document: Mapping[str, Mapping[str, str]]) -> None:
    """Print which revision of the environment's source the files are of."""
    if SOURCE_KEY in document:
        say(f"files of revision {escape(str(SourceRevision(**document[SOURCE_KEY])))}")


def show_releases(releases: Sequence[ReleaseDetails]) -> None:
    """Print releases, newest first, each with its changes."""
    if not releases:
        say("There is no release yet; a start that is verified becomes one.")
        return
    rows = []
    for details in releases:
        release = details.release
        changes = [
            *([release.reason] if release.reason else []),
            *(details.changes or ("the first one",)),
            *details.notes,
        ]
        when = ago(release.created_at) if release.proven else f"failed {ago(release.created_at)}"
        rows.append((release.release_id, when, release.deployment_id, escape("; ".join(changes))))
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
    for fetch in report.updates:
        say(f"[cyan]update[/cyan] {fetch.service}: {escape(fetch.changes)}")
    if report.updates:
        say(f"\nto see what an update would do: roas plan --update {report.environment}")


def _show_lines(lines: Sequence[PlannedService], *, interruptions: bool = False) -> None:
    rows = []
    for line in lines:
        colour = _COLOURS.get(line.action, "cyan")
        row = (str(line.wave + 1), line.service, f"[{colour}]{line.action}[/{colour}]", escape(line.because))
        rows.append((*row, _interruption(line)) if interruptions else row)
    show_table(("wave", "service", "would", "because", *(("interruption",) if interruptions else ())), rows)


def _interruption(line: PlannedService) -> str:
    if line.start_first:
        return "start-first: no interruption"
    if line.interruption is Interruption.NONE:
        return "none"
    how = "restarted" if line.interruption is Interruption.RESTARTED else "stopped and started again"
    if line.interruption_seconds is None:
        return f"{how}, not yet measured"
    times = "once" if line.interruptions_measured == 1 else f"{line.interruptions_measured} times"
    return f"{how}, about {line.interruption_seconds:g} s (measured {times})"
