"""Write a post-mortem from the record alone: nothing in it that no row says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from core.common.safe_text import shorten
from models.errors import Category, ImpactType
from models.metrics import AlertState
from models.operations import Operation, OperationStatus, StateChange
from models.pages import Block, Items, Lines, Page, Section, Table, Text
from models.postmortem import Attempt, FailureRecords, Finding, Postmortem, ServiceImpact, TimelineEntry
from models.records import ErrorDetails
from models.recovery import Choice, RecoveryExecution, TicketState

RUNBOOK = "docs/runbook.md"

RUNBOOK_HEADINGS = {
    Category.DOCKER_DAEMON_UNREACHABLE: "The engine does not answer",
    Category.OOM_KILLED: "Memory near its limit",
    Category.SERVICE_CONFIG_INVALID: "A program refuses its configuration",
    Category.AUTH_FAILED: "A login between services is refused",
    Category.STATE_MISMATCH: "Data belongs to another version",
    Category.SCHEMA_NOT_MIGRATED: "A schema is not migrated",
    Category.BUILD_FAILED: "An image build fails",
    Category.EXTERNAL_API: "A service outside refuses or limits requests",
    Category.HOST_STORAGE_FAILURE: "A disk or file system of the host fails",
    Category.RUNTIME_DEPENDENCY_MISSING: "A program, module or library is missing",
    Category.APPLICATION_ERROR: "The application itself fails",
    Category.UNKNOWN: "Errors are classified as unknown",
}
"""The heading of docs/runbook.md on a cause, for the causes that have one."""

_OPERATIONS, _CHANGES = "deployment_operations", "service_state_changes"
_ERRORS, _EXECUTIONS = "deployment_errors", "auto_recovery_executions"
_TICKETS, _EVIDENCE, _ALERTS = "manual_intervention_tickets", "evidence_bundles", "alerts"
_LONGEST = 300
_MOST_EVENTS = 300
_ENGINE_EVENTS = frozenset({"die", "oom", "kill", "start", "stop", "restart"})
_EFFECTS = {
    ImpactType.SERVICE_DOWN: "down",
    ImpactType.PERFORMANCE_DEGRADED: "slower or degraded",
    ImpactType.DATA_LOSS: "data at risk",
}


def write_postmortem(records: FailureRecords) -> Postmortem:
    """Order the records of one failure: timeline, cause, impact, attempts, what is open and what to change."""
    timeline = sorted(
        (
            *_entries_of_operation(records),
            *_entries_of_evidence(records),
            *(entry for details in records.errors for entry in _entries_of_error(details, records)),
            *_entries_of_alerts(records),
        ),
        key=lambda entry: entry.at,
    )
    return Postmortem(
        subject=records.subject,
        environment=records.environment,
        since=timeline[0].at if timeline else None,
        until=timeline[-1].at if timeline else None,
        timeline=tuple(timeline),
        cause=tuple(_cause(records)),
        facts=tuple(_facts(records)),
        lines=records.lines,
        impact=tuple(_impact(records)),
        attempts=tuple(sorted(_attempts(records), key=lambda attempt: attempt.at)),
        still_open=tuple(_still_open(records)),
        to_change=tuple(_distinct(_to_change(records))),
    )


def postmortem_page(postmortem: Postmortem) -> Page:
    """A post-mortem as a page; a section without rows says so."""
    between = "nothing is recorded of it"
    if postmortem.since is not None and postmortem.until is not None:
        between = f"{postmortem.since:%Y-%m-%d %H:%M:%S} to {postmortem.until:%Y-%m-%d %H:%M:%S} UTC"
    return Page(
        title=f"Post-mortem of {postmortem.subject}",
        subtitle=f"Environment {postmortem.environment}, {between}. Written from the record alone.",
        sections=(
            Section(heading="What happened", blocks=(_timeline_table(postmortem),)),
            Section(heading="First cause", blocks=tuple(_cause_blocks(postmortem))),
            Section(heading="Impact", blocks=(_impact_table(postmortem),)),
            Section(heading="What was tried and what helped", blocks=(_attempts_table(postmortem),)),
            Section(heading="What is open", blocks=(_findings(postmortem.still_open, "Nothing is open."),)),
            Section(
                heading="What to change",
                blocks=(_findings(postmortem.to_change, "No advice is recorded on this cause."),),
            ),
        ),
    )


def _entries_of_operation(records: FailureRecords) -> Iterable[TimelineEntry]:
    operation = records.operation
    if operation is None:
        return
    kind, row = operation.kind.replace("_", " "), operation.deployment_id
    requester = f", asked by {operation.user_agent}" if operation.user_agent else ""
    begun = f"{kind} of {operation.environment} began{requester}"
    yield TimelineEntry(at=operation.started_at, source=_OPERATIONS, row=row, event=begun)
    for number, change in records.changes.items():
        states = f"{change.previous_state} to {change.new_state}" if change.previous_state else change.new_state
        event = f"{change.service}: {states}{_because(change.reason.removeprefix(f'{change.service}: '))}"
        yield TimelineEntry(at=change.changed_at, source=_CHANGES, row=str(number), event=event)
    yield from _entries_of_gate(operation)
    yield from _entries_of_hooks(operation)
    if operation.ended_at is not None:
        event = f"{kind} ended: {operation.status}{_because(operation.record.reason)}"
        yield TimelineEntry(at=operation.ended_at, source=_OPERATIONS, row=row, event=event)


def _entries_of_gate(operation: Operation) -> Iterable[TimelineEntry]:
    gate = operation.record.gate
    if gate is not None and gate.judged_at is not None:
        by = f" by {gate.override.by}: {gate.override.reason}" if gate.override else ""
        event = shorten(f"gate {gate.outcome}{by}{_because(gate.text)}", _LONGEST)
        yield TimelineEntry(at=gate.judged_at, source=_OPERATIONS, row=operation.deployment_id, event=event)


def _entries_of_hooks(operation: Operation) -> Iterable[TimelineEntry]:
    row = operation.deployment_id
    for run in operation.record.hooks:
        begun = f"hook {run.name} began: {run.does}"
        yield TimelineEntry(at=run.began_at, source=_OPERATIONS, row=row, event=begun)
        ended = run.began_at + timedelta(seconds=run.took_seconds)
        yield TimelineEntry(at=ended, source=_OPERATIONS, row=row, event=shorten(run.sentence, _LONGEST))


def _entries_of_evidence(records: FailureRecords) -> Iterable[TimelineEntry]:
    keys = set()
    for bundle in records.bundles:
        for engine_event in bundle.events:
            key = (engine_event.happened_at, engine_event.container_id, engine_event.action)
            if engine_event.action in _ENGINE_EVENTS and key not in keys:
                keys.add(key)
                event = f"{engine_event.service}: the engine reports {engine_event.action}"
                yield TimelineEntry(at=engine_event.happened_at, source=_EVIDENCE, row=bundle.bundle_id, event=event)
        event = f"{bundle.service}: evidence taken: {shorten(bundle.first_cause, _LONGEST)}"
        yield TimelineEntry(at=bundle.taken_at, source=_EVIDENCE, row=bundle.bundle_id, event=event)


def _entries_of_error(details: ErrorDetails, records: FailureRecords) -> Iterable[TimelineEntry]:
    error = details.error
    where, row = error.service or error.environment, error.error_id
    description = f"{where}: error {error.verdict.category} ({error.verdict.severity}): {shorten(error.text, _LONGEST)}"
    yield TimelineEntry(at=error.first_seen, source=_ERRORS, row=row, event=description)
    if error.count > 1:
        event = f"{where}: seen {error.how_often} until now"
        yield TimelineEntry(at=error.last_seen, source=_ERRORS, row=row, event=event)
    if error.resolved_at is not None:
        event = f"{where}: error resolved{_because(records.resolutions.get(row))}"
        yield TimelineEntry(at=error.resolved_at, source=_ERRORS, row=row, event=event)
    for execution in details.executions:
        yield from _entries_of_execution(execution)
    for ticket in details.tickets:
        opened = f"ticket opened: {shorten(ticket.title, _LONGEST)}"
        yield TimelineEntry(at=ticket.opened_at, source=_TICKETS, row=ticket.ticket_id, event=opened)
        for entry in ticket.history:
            event = f"ticket, {entry.by}: {shorten(entry.what, _LONGEST)}"
            yield TimelineEntry(at=entry.at, source="ticket_history", row=ticket.ticket_id, event=event)
        if ticket.resolved_at is not None:
            yield TimelineEntry(at=ticket.resolved_at, source=_TICKETS, row=ticket.ticket_id, event="ticket resolved")


def _entries_of_execution(execution: RecoveryExecution) -> Iterable[TimelineEntry]:
    row = execution.attempt_id or execution.error_id
    action = _strategy(execution)
    begun = f"recovery began, attempt {execution.attempt}: {action}"
    yield TimelineEntry(at=execution.started_at, source=_EXECUTIONS, row=row, event=begun)
    for step in execution.steps:
        outcome = {True: "done", False: "failed", None: "not ended"}[step.ok]
        event = f"{step.name} {step.target}: {outcome}{_because(step.detail)}"
        yield TimelineEntry(at=step.ended_at or step.started_at, source=_EXECUTIONS, row=row, event=event)
    if execution.ended_at is not None:
        event = f"recovery ended: {execution.final_status or _what_helped(execution.success)}"
        yield TimelineEntry(at=execution.ended_at, source=_EXECUTIONS, row=row, event=event)


def _entries_of_alerts(records: FailureRecords) -> Iterable[TimelineEntry]:
    for alert in records.alerts:
        event = f"{alert.service}: alert {alert.severity}: {shorten(alert.reason, _LONGEST)}"
        yield TimelineEntry(at=alert.opened_at, source=_ALERTS, row=alert.alert_id, event=event)
        if alert.resolved_at is not None:
            event = f"{alert.service}: alert resolved"
            yield TimelineEntry(at=alert.resolved_at, source=_ALERTS, row=alert.alert_id, event=event)


def _cause(records: FailureRecords) -> Iterable[Finding]:
    """The first cause as the explanation names it, else as the evidence or the error does."""
    operation, telling = records.operation, records.telling
    if records.explanation is not None and operation is not None and operation.status is OperationStatus.FAILED:
        yield Finding(text=records.explanation.headline, row=operation.deployment_id)
    elif telling is not None:
        yield Finding(text=telling.first_cause, row=telling.bundle_id)
    elif records.errors:
        error = records.errors[0].error
        yield Finding(text=shorten(error.text, _LONGEST), row=error.error_id)


def _facts(records: FailureRecords) -> Iterable[Finding]:
    if records.explanation is not None and records.operation is not None:
        # The verdict follows from the error itself, with its row.
        because = [fact for fact in records.explanation.because if not fact.startswith("judged ")]
        for fact in (*because, *records.explanation.consequences):
            yield Finding(text=fact, row=records.operation.deployment_id)
        for change in records.explanation.changed:
            yield Finding(text=f"Changed since the last proven release: {change}", row=records.operation.deployment_id)
    for details in records.errors:
        verdict, row = details.error.verdict, details.error.error_id
        yield Finding(text=f"Classified as {verdict.category}: {verdict.reason}", row=row)
        if (pattern := records.patterns.get(verdict.pattern_name or "")) is not None:
            yield Finding(text=f"Pattern {pattern.pattern.name}: {pattern.means}", row=row)


def _impact(records: FailureRecords) -> Iterable[ServiceImpact]:
    for details in records.errors:
        error = details.error
        since, until, row = error.first_seen, error.resolved_at, error.error_id
        if details.impacts:
            latest = details.impacts[-1]
            services = latest.affected_services or ((error.service,) if error.service else ())
            effect = f"{_EFFECTS[latest.impact_type]}, judged {latest.business_impact}"
            yield ServiceImpact(services=services, effect=effect, since=since, until=until, row=row)
        elif error.service is not None:
            effect = f"{error.verdict.category}".replace("_", " ")
            yield ServiceImpact(services=(error.service,), effect=effect, since=since, until=until, row=row)
    for number, change in records.changes.items():
        if change.new_state == "failed":
            yield ServiceImpact(
                services=(change.service,),
                effect="failed during the operation",
                since=change.changed_at,
                until=next(_healthy_again(change, records), None),
                row=str(number),
            )


def _healthy_again(failed: StateChange, records: FailureRecords) -> Iterator[datetime]:
    for change in records.changes.values():
        if change.service == failed.service and change.new_state == "healthy" and change.changed_at > failed.changed_at:
            yield change.changed_at


def _attempts(records: FailureRecords) -> Iterable[Attempt]:
    operation = records.operation
    if operation is not None:
        at, row, record = operation.ended_at or operation.started_at, operation.deployment_id, operation.record
        if rollback := record.undone or record.rolled_back_to:
            yield Attempt(
                at=at, by="roas", action="roll back", result=shorten(rollback, _LONGEST), helped=True, row=row
            )
        if failed := record.undo_failed:
            yield Attempt(at=at, by="roas", action="roll back", result=shorten(failed, _LONGEST), helped=False, row=row)
    for error_details in records.errors:
        for execution in error_details.executions:
            yield Attempt(
                at=execution.started_at,
                by="roas",
                action=_strategy(execution),
                result=execution.final_status,
                helped=execution.success,
                row=execution.attempt_id or execution.error_id,
            )
        for ticket in error_details.tickets:
            for entry in ticket.history:
                choice, _, note = entry.what.partition(": ")
                if choice in set(Choice):
                    helped = True if choice == Choice.RESOLVED else None
                    yield Attempt(
                        at=entry.at, by=entry.by, action=choice, result=note, helped=helped, row=ticket.ticket_id
                    )


def _still_open(records: FailureRecords) -> Iterable[Finding]:
    operation = records.operation
    if operation is not None and operation.ended_at is None:
        yield Finding(text=f"The operation is {operation.status}.", row=operation.deployment_id)
    for details in records.errors:
        error = details.error
        if error.resolved_at is None:
            where = error.service or error.environment
            yield Finding(text=f"The error of {where} ({error.verdict.category}) is not resolved.", row=error.error_id)
        for ticket in details.tickets:
            if ticket.state is not TicketState.RESOLVED:
                yield Finding(
                    text=f"The ticket is {ticket.state}: {shorten(ticket.title, _LONGEST)}", row=ticket.ticket_id
                )
    for alert in records.alerts:
        if alert.state is not AlertState.RESOLVED:
            yield Finding(text=f"The alert on {alert.service} is {alert.state}.", row=alert.alert_id)


def _to_change(records: FailureRecords) -> Iterable[Finding]:
    """The runbook's heading on each cause, then the advice of the operation and the steps of its tickets."""
    for details in records.errors:
        category, row = details.error.verdict.category, details.error.error_id
        if category in RUNBOOK_HEADINGS:
            yield Finding(text=f"Read {RUNBOOK}, {RUNBOOK_HEADINGS[category]!r}.", row=row)
    operation = records.operation
    if operation is not None and (advice := operation.record.advice):
        yield Finding(text=shorten(advice, _LONGEST), row=operation.deployment_id)
    for details in records.errors:
        for ticket in details.tickets:
            for step in ticket.steps:
                yield Finding(text=step, row=ticket.ticket_id)


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    return list({finding.text: finding for finding in reversed([*findings])}.values())[::-1]


def _timeline_table(postmortem: Postmortem) -> Block:
    if not postmortem.timeline:
        return Text(text="Nothing is recorded.")
    return Table(
        caption="Events in order; times are UTC",
        head=("time", "event", "source", "row"),
        rows=tuple(
            (f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.event, entry.source, entry.row)
            for entry in postmortem.timeline[:_MOST_EVENTS]
        ),
        omitted=max(0, len(postmortem.timeline) - _MOST_EVENTS),
    )


def _cause_blocks(postmortem: Postmortem) -> Iterable[Block]:
    if not postmortem.cause:
        yield Text(text="No cause is recorded.")
    for finding in postmortem.cause:
        yield Text(text=f"{finding.text} ({finding.row})")
    if postmortem.facts:
        yield Items(items=tuple(f"{finding.text} ({finding.row})" for finding in postmortem.facts))
    if postmortem.lines:
        shown = tuple(
            f"{line.at:%H:%M:%S} {line.service} ({line.source}) {line.text}"
            if line.at
            else f"{line.service} ({line.source}) {line.text}"
            for line in postmortem.lines
        )
        yield Lines(caption="Decisive lines", lines=shown)
    else:
        yield Text(text="No line of a log or a check is recorded.")


def _impact_table(postmortem: Postmortem) -> Block:
    if not postmortem.impact:
        return Text(text="No affected service is recorded.")
    return Table(
        caption="Affected services; times are UTC",
        head=("services", "effect", "since", "until", "row"),
        rows=tuple(
            (
                ", ".join(impact.services) or "not recorded",
                impact.effect,
                f"{impact.since:%Y-%m-%d %H:%M:%S}",
                "no end recorded" if impact.until is None else f"{impact.until:%Y-%m-%d %H:%M:%S}",
                impact.row,
            )
            for impact in postmortem.impact
        ),
    )


def _attempts_table(postmortem: Postmortem) -> Block:
    if not postmortem.attempts:
        return Text(text="No attempt is recorded.")
    return Table(
        caption="Attempts in order; times are UTC",
        head=("time", "by", "action", "helped", "result", "row"),
        rows=tuple(
            (
                f"{attempt.at:%Y-%m-%d %H:%M:%S}",
                attempt.by,
                attempt.action,
                _what_helped(attempt.helped),
                attempt.result,
                attempt.row,
            )
            for attempt in postmortem.attempts
        ),
    )


def _findings(findings: tuple[Finding, ...], none: str) -> Block:
    if not findings:
        return Text(text=none)
    return Items(items=tuple(f"{finding.text} ({finding.row})" for finding in findings))


def _strategy(execution: RecoveryExecution) -> str:
    return str(execution.strategy).replace("_", " ")


def _what_helped(success: bool | None) -> str:
    return {True: "yes", False: "no", None: "not recorded"}[success]


def _because(reason: object) -> str:
    return f": {shorten(str(reason), _LONGEST)}" if reason else ""
