"""Text output of results. With --json the same values are printed as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape

from cli.rendering.alerts import show_scores
from cli.rendering.console import ago, colour_state, duration_after, moment, say, seconds, show_table
from cli.rendering.gate import show_gate_record
from cli.rendering.hooks import show_hooks
from core.common.quantities import size_in_words as size
from core.common.safe_text import shorten
from core.deployment.release_notes import note_lines
from core.reporting.rehearsals import rehearsal_in_words
from core.reporting.timing import Timing
from flows.common.terminal import echo_json
from models.operations import Operation, OperationStatus, StateChange
from models.operations.record import OperationRecord
from models.settings import current_settings

if TYPE_CHECKING:
    from models.errors import Pattern, UnnamedGroup, Verdict
    from models.health import HealthReport
    from models.records import DeploymentDetails, EnvironmentStatus, ErrorDetails, FirstCause
    from models.recovery import RecoveryOutcome
    from models.results import CollectionReport
    from models.storage import ArchiveFile, LifecycleStep, StoreReport
    from models.validation import ValidationResult


def print_json(value: object, **more: object) -> None:
    """Print values as one JSON document, with times as ISO 8601 in UTC; `more` are further fields of the whole."""
    document = _plain(value)
    echo_json({**document, **more} if isinstance(document, dict) else document, indent=2)


def show_outcome(details: DeploymentDetails, cause: FirstCause | None = None) -> None:
    """Print how an operation ended, and why if it failed: its reason, the first `cause`, and what to do."""
    say(_outcome(details.operation))
    _show_failure(details.operation, cause)


def show_timing(timing: Timing) -> None:
    """Print the seconds of each phase of a command, and their sum against the clock."""
    say("\n[bold]timing[/bold]")
    for phase, spent in timing.phases.items():
        say(f"  {phase:<12}{spent:8.2f} s")
    say(f"  {'sum':<12}{timing.accounted_seconds:8.2f} s")
    say(f"  {'unaccounted':<12}{timing.unaccounted_seconds:8.2f} s")
    say(f"  {'wall clock':<12}{timing.wall:8.2f} s")


def show_deployment(details: DeploymentDetails, cause: FirstCause | None = None) -> None:
    """Print an operation: validation, changes, health, errors, the first `cause`, next commands."""
    operation, record = details.operation, details.operation.record
    say(f"\n{_outcome(operation)}")
    say(f"  deployment   {operation.deployment_id}")
    say(f"  asked by     {escape(operation.user_agent or 'unknown')}, {moment(operation.started_at)}")
    if str(operation.actor):
        say(f"  user         {escape(str(operation.actor))}")
    for validation in details.validations[-1:]:
        show_validation(validation)
    show_gate_record(record.gate)
    if details.changes:
        _show_changes(details.changes, in_order=list(record.waits))
    if record.kept:
        say(f"\n[bold]kept[/bold]  {', '.join(record.kept)}: running as declared, left alone")
    if record.drill is not None:
        say(f"[bold]drill[/bold]  {escape(str(record.drill))}")
    if record.rehearsal is not None:
        say(f"[bold]rehearsal[/bold]  {escape(record.rehearsal.verdict)}")
        for line in rehearsal_in_words(record.rehearsal):
            say(f"  {escape(line)}")
    _show_source(operation)
    _show_images(record)
    show_hooks(record)
    if details.health is not None:
        _show_health(details.health)
    if operation.status is OperationStatus.FAILED:
        say("")
    _show_failure(operation, cause)
    for error in details.errors:
        _show_error(error, reason=record.reason)
    files = f"{details.data_dir}/deployment_logs.db, monitoring.db, errors.db"
    say(f"\n[dim]stores: {escape(current_settings().stores_url or files)}[/dim]")
    say("next: " + "   ".join(_next_commands(operation)))


def _show_source(operation: Operation) -> None:
    """Print which revision of the environment's source it took, and what holds back or pins one."""
    record, name = operation.record, operation.environment
    if record.source is not None:
        say(f"[bold]revision[/bold]  {escape(str(record.source))}")
    if revision := record.revision_held_back:
        say(f"[yellow]held back:[/yellow] the revision, until `roas sync --lift {escape(revision[:12])} {name}`")
    if record.pinned is not None:
        say(f"[yellow]pinned:[/yellow] syncs stay at this release until `roas sync --unpin {name}`")


def _show_images(record: OperationRecord) -> None:
    """Print what the new images of an update change, and which it did not take."""
    for line in (line for note in record.release_notes for line in note_lines(note)):
        say(f"[bold]new[/bold]   {escape(line)}")
    for service, why in record.not_taken.items():
        say(f"[yellow]not taken:[/yellow] {escape(f'{service}: {why}')}")


_REASON = 96
"""A reason in a list is cut to a line of so many characters; `roas history ID` has the whole."""


def show_history(operations: Sequence[Operation]) -> None:
    """Print operations, newest first."""
    if not operations:
        say("No operation is recorded yet; start one with: roas start")
        return
    names = ("deployment", "what", "environment", "status", "took", "asked by")
    rows = [
        (
            *(operation.deployment_id, operation.kind, operation.environment, str(operation.status)),
            *(seconds(operation.duration), operation.user_agent or ""),
        )
        for operation in operations
    ]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    say(f"[dim]{'  '.join(map(str.ljust, names, widths)).rstrip()}[/dim]")
    for operation, row in zip(operations, rows, strict=True):
        *before, status, took, requester = map(str.ljust, row, widths)
        coloured_status = status.replace(str(operation.status), colour_state(operation.status))
        say("  ".join((escape("  ".join(before)), coloured_status, took, escape(requester))).rstrip())
        if reason := operation.record.reason:
            say(f"  [dim]{escape(shorten(reason, _REASON))}[/dim]")


def show_status(environments: Sequence[EnvironmentStatus]) -> None:
    """Print a few lines for each environment."""
    if not environments:
        say("Nothing has been started yet; start something with: roas start")
    for status in environments:
        last = status.last_operation
        health = (
            f"{colour_state(status.health.summary)} {ago(status.seen_at)}"
            if status.health and status.seen_at
            else "not known"
        )
        if status.stopped_at is not None:
            # What was judged before says nothing of now.
            health = f"{colour_state('stopped')} {ago(status.stopped_at)}, on request"
        say(f"\n[bold]{status.environment}[/bold]  {health}")
        say(f"  last operation  {last.kind} {colour_state(last.status)} {ago(last.started_at)}")
        collected = ago(status.last_collection) if status.last_collection else "never"
        say(f"  last collection {collected}")
        if status.lock:
            say(f"  {escape(status.lock.words)}: its name has to be typed to stop, restart, update or roll it back")
        for pause in status.pauses:
            say(f"  [yellow]{escape(pause.words)} ({escape(pause.by)})[/yellow]")
        if status.needs_down and status.stopped_at is None:
            say(f"  [yellow]{escape(status.needs_down)}[/yellow]")
        if status.mounted_copies:
            say(f"  [yellow]{escape(status.mounted_copies)}[/yellow]")
        if status.watched_by:
            say(f"  watched by      {escape(status.watched_by)}")
        for need in status.missing:
            say(f"  [red]{need.service} needs {need.depends_on}, which is {need.status}[/red]")
        scored_at = max((score.scored_at for score in status.scores), default=None)
        if status.stopped_at is None and scored_at and status.seen_at and scored_at < status.seen_at:
            # As where a collection found a failure and mended it.
            say(f"  scored {ago(scored_at)}, before that health")
        show_scores(status.scores)
        for alert in status.open_alerts:
            say(f"  alert  {colour_state(alert.severity)} {alert.service}: {escape(alert.reason)}")
        for error in status.open_errors:
            say(
                f"  error  {error.error_id} {error.verdict.category} {error.service or ''} "
                f"{error.count}x, last {ago(error.last_seen)}"
            )
        for ticket in status.open_tickets:
            say(f"  ticket {ticket.ticket_id} {ticket.state}: {escape(ticket.title)}")


def show_collection(report: CollectionReport) -> None:
    """Print the result of one collection."""
    say(f"\n[bold]{report.environment}[/bold] is {colour_state(report.summary)} at {report.timestamp[:19]} UTC")
    if report.after_recovery:
        say(f"  after recovery: {colour_state(report.after_recovery)}")
    shown = {"cpu_usage": ".1f", "memory_usage": ".1f", "response_time": ".1f", "restarts_total": ".0f"}
    show_table(
        ("service", "cpu %", "memory %", "answer ms", "restarts"),
        (
            (service, *(f"{values[n]:{form}}" if n in values else "" for n, form in shown.items()))
            for service, values in report.metrics.items()
        ),
    )
    for gap in report.gaps:
        say(f"[yellow]no answer from[/yellow] {escape(gap)}")
    for alert in report.alerts:
        say(f"[yellow]alert[/yellow] {escape(alert)}")
    for outcome in report.recoveries:
        show_recovery(outcome)
    printed = {*report.gaps, *(step for outcome in report.recoveries for step in outcome.steps)}
    for advice in report.recommendations:
        if advice not in printed:
            say(f"  - {escape(advice)}")


def show_recovery(outcome: RecoveryOutcome) -> None:
    """Print the outcome of error recovery."""
    colour = "green" if outcome.success else "yellow"
    about = f" {outcome.error_id}" if outcome.error_id else ""
    say(f"[{colour}]{outcome.method.label}[/{colour}]{about}: {escape(outcome.reason)}")
    for number, step in enumerate(outcome.steps, start=1):
        say(f"  {number}. {escape(step)}")
    if outcome.ticket_id:
        say(f"  ticket {outcome.ticket_id} waits for a person")


def show_validation(validation: ValidationResult) -> None:
    """Print every check with a finding, and the number of those without."""
    from models.validation import CheckSeverity

    passed = len(validation.checks) - len(validation.failed_checks)
    verdict = "passed" if validation.passed else "[red]failed[/red]"
    say(f"\n[bold]validation[/bold] {verdict}: no findings in {passed} of {len(validation.checks)} checks")
    for check in validation.failed_checks:
        mark = {CheckSeverity.CRITICAL: "red", CheckSeverity.WARNING: "yellow"}.get(check.severity, "dim")
        say(f"  [{mark}]{check.severity}[/{mark}] {check.name}: {escape(check.finding)}")
        if check.fix:
            say(f"    fix: {escape(check.fix)}")


_OF_ENGINE = ("engine", "version", "compose_version", "operating_system", "architecture")
"""The facts of an engine that are printed for a person; --json has the others and the images."""


def show_engine(validation: ValidationResult) -> None:
    """Print every check with a finding, and the engine that was checked."""
    show_validation(validation)
    engine = validation.docker_environment
    if engine:
        shown = ", ".join(f"{key.replace('_', ' ')} {engine[key]}" for key in _OF_ENGINE if engine.get(key))
        say(f"\n[dim]engine: {escape(shown.removeprefix('engine '))}[/dim]")


_TEN_YEARS = 3650


def show_store_reports(reports: Sequence[StoreReport]) -> None:
    """Print each store, its faults first."""
    for report in reports:
        verdict = "[green]intact[/green]" if not report.faults else "[red]faulty[/red]"
        say(f"\n[bold]{report.store}[/bold] {verdict}  {escape(report.place)}")
        for fault in report.faults:
            say(f"  [red]{escape(fault)}[/red]")
        for remark in report.remarks:
            say(f"  [yellow]{escape(remark)}[/yellow]")
        full = ""
        if report.full_in is not None:
            days = report.full_in.days
            full = f", full in {days:,} days" if days < _TEN_YEARS else ", not full within ten years"
        say(
            f"  {size(report.file_bytes)} on disk, {size(report.used_bytes)} in use, log {size(report.wal_bytes)}; "
            f"grows {size(report.growth_bytes_per_day)} a day{full}"
        )
        share = f", {report.used_bytes / report.budget_bytes:.0%} of its budget" if report.budget_bytes else ""
        say(f"  {sum(report.rows.values()):,} rows, {report.dead_letters} refused{share}")
        for table, oldest in report.oldest.items():
            say(f"  [dim]{table}: {report.rows.get(table, 0):,} rows, oldest {ago(oldest)}[/dim]")


def show_archives(archives: Sequence[ArchiveFile]) -> None:
    """Print archive files."""
    if not archives:
        say("Nothing has been archived yet.")
        return
    lines = [
        (
            str(archive.path),
            f"{archive.store}.{archive.table}",
            f"{archive.rows:,}",
            size(archive.size) if archive.there else "[red]gone[/red]",
            f"{archive.first:%Y-%m-%d %H:%M} to {archive.last:%Y-%m-%d %H:%M}"
            if archive.first and archive.last
            else "",
            ago(archive.archived_at),
        )
        for archive in archives
    ]
    show_table(("file", "from", "rows", "size", "covers", "archived"), lines)
    rows, total = sum(archive.rows for archive in archives), sum(archive.size for archive in archives)
    say(f"{len(archives)} archives, {rows:,} rows, {size(total)}; look into one with: roas archive query TABLE|FILE")


def show_patterns(patterns: Sequence[Pattern]) -> None:
    """Print patterns, the most matched first."""
    rows = [
        (
            pattern.name,
            str(pattern.category),
            str(pattern.strategy),
            str(pattern.priority),
            str(pattern.match_count),
            "roas" if pattern.shipped else "user",
            "" if pattern.enabled else "disabled",
        )
        for pattern in sorted(patterns, key=lambda pattern: (-pattern.match_count, pattern.name))
    ]
    show_table(("pattern", "category", "strategy", "priority", "matched", "by", ""), rows)


def show_pattern(pattern: Pattern) -> None:
    """Print one pattern."""
    state = "" if pattern.enabled else ", [yellow]disabled[/yellow]"
    say(f"[bold]{escape(pattern.name)}[/bold] ({'shipped' if pattern.shipped else 'user'}{state})")
    say(f"  means    {pattern.category} ({pattern.severity}), priority {pattern.priority}")
    say(f"  remedy   {pattern.strategy}{f' {escape(pattern.recovery_script)}' if pattern.recovery_script else ''}")
    last = f", last {moment(pattern.last_matched)}" if pattern.last_matched else ""
    say(f"  matched  {pattern.match_count} times{last}")
    say(f"  regex    {escape(pattern.regex)}")


def show_unnamed(groups: Sequence[UnnamedGroup], of_all: int) -> None:
    """Print groups of errors without a pattern, with the command that adds one."""
    if not groups:
        say("Every error matches a pattern.")
        return
    for group in groups:
        say(
            f"[bold]{group.group}[/bold] {group.count} times, last {moment(group.last_seen)},"
            f" in {escape(', '.join(group.places))}"
        )
        say(f"  text     {escape(group.template[:300])}")
        if group.expression is None:
            say(
                "  name it  roas patterns add NAME REGEX --category CATEGORY   (its text is too general for a proposal)"
            )
        else:
            say(f"  proposed {escape(group.expression)}")
            say(f"  name it  roas patterns add NAME --from {group.group} --category CATEGORY")
    if len(groups) < of_all:
        say(f"and {of_all - len(groups)} more")


def show_lifecycle(steps: Sequence[LifecycleStep]) -> None:
    """Print what each step of the life cycle did, or would do."""
    show_table(("step", "what"), ((step.name, escape(str(step).removeprefix(f"{step.name}: "))) for step in steps))


def show_verdict(text: str, verdict: Verdict) -> None:
    """Print the classification of an error, with the matched text highlighted."""
    say(f"[bold]{verdict.category}[/bold] ({verdict.severity}, confidence {verdict.confidence:.0%})")
    if verdict.span is not None:
        begin, end = verdict.span
        say(f"  because  {escape(text[:begin])}[reverse]{escape(text[begin:end])}[/reverse]{escape(text[end:])}")
    elif text.strip():
        say(f"  text     {escape(text)}")
    say(f"  reason   {escape(verdict.reason)}")
    from core.recovery.facts import would_need

    fact = would_need(verdict.strategy)
    action = "a text alone allows nothing" if fact else "needs a person"
    say(f"  remedy   {verdict.strategy}: {'nothing to do' if verdict.strategy == 'none' else action}")
    if fact is not None:
        say(f"  needs    {fact}")


def _show_changes(changes: Sequence[StateChange], in_order: Sequence[str]) -> None:
    """Print the changes by the services' start order, those of one service as they happened."""
    say("")
    places = {service: place for place, service in enumerate(in_order)}
    rows = [
        (
            change.service,
            change.previous_state or "",
            colour_state(change.new_state),
            "" if (took := change.details.get("took_seconds")) is None else f"{took:.1f} s",
            escape(change.reason),
        )
        for change in sorted(changes, key=lambda change: places.get(change.service, len(places)))
    ]
    show_table(("service", "from", "to", "took", "why"), rows)


def _show_health(health: HealthReport) -> None:
    say(f"\n[bold]health[/bold] {colour_state(health.summary)} at {moment(health.checked_at)}")
    for verdict in health.services:
        space = " " * (9 - len(verdict.health))
        say(f"  {colour_state(verdict.health)}{space} {verdict.service}: {escape(verdict.reason)}")
    for finding in health.findings:
        say(f"  - {escape(finding)}")


def _show_error(details: ErrorDetails, reason: str) -> None:
    error = details.error
    say(f"\n[bold]error[/bold] {error.error_id} {error.verdict.category} ({error.verdict.severity})")
    if error.text != reason:
        say(f"  {escape(error.text)}")
    for impact in details.impacts:
        say(
            f"  impact {impact.impact_type}, {impact.business_impact}: "
            f"{', '.join(impact.affected_services) or 'no other service'}"
            f"{'' if details.tickets else f'; about {impact.estimated_recovery_seconds} s to recover'}"
        )
    for execution in details.executions:
        say(f"  tried {execution.strategy}: {escape(execution.final_status)}")
    for ticket in details.tickets:
        say(f"  ticket {ticket.ticket_id} {ticket.state}")
        for number, step in enumerate(ticket.steps, start=1):
            say(f"    {number}. {escape(step)}")


def _outcome(operation: Operation) -> str:
    return (
        f"[bold]{operation.kind} of {operation.environment}[/bold]: {colour_state(operation.status)}"
        f"{duration_after(operation.duration)}"
    )


def _show_failure(operation: Operation, cause: FirstCause | None) -> None:
    record = operation.record
    if operation.status is not OperationStatus.FAILED:
        if record.data:
            say(f"[yellow]data:[/yellow] {escape(record.data)}")
        return
    say(f"[red]failed:[/red] {escape(record.reason or 'no reason recorded')}")
    if cause is not None and cause.sentence is not None:
        say(f"[bold]cause:[/bold] {escape(cause.sentence)}")
    if record.data:
        say(f"[yellow]data:[/yellow] {escape(record.data)}")
    if operation.data_back:
        when = "only if it is wrong" if record.data_proven else "put it back"
        say(f"[bold]{when}:[/bold] {operation.data_back} (what was written since is lost)")
    if record.undone:
        say(f"[yellow]rollback:[/yellow] {escape(record.undone)}")
    if record.undo_failed:
        say(f"[red]rollback failed:[/red] {escape(record.undo_failed)}")
    for service, image in record.held_back.items():
        brief = image.rpartition("sha256:")[2][:12]
        say(
            f"[yellow]held back:[/yellow] the new image of {escape(service)}, until "
            f"`roas update --lift {escape(brief)} {operation.environment}`"
        )
    if step := cause.step if cause is not None else record.advice:
        say(f"[bold]try:[/bold] {escape(step)}")


def _next_commands(operation: Operation) -> tuple[str, ...]:
    name = operation.environment
    if operation.status is OperationStatus.FAILED:
        return (f"roas why {operation.deployment_id}", operation.again, "roas history")
    if operation.operation_type == "stop":
        return (f"roas start {name}", "roas history")
    if operation.record.rehearsal is not None:
        return (f"roas update {name}", "roas history")
    return (f"roas health {name}", f"roas collect {name}", f"roas stop {name}", "roas serve")


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if dump := getattr(value, "model_dump", None):
        # A model of pydantic, which commands that print none need not import.
        return dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
