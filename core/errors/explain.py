"""Explain why an operation failed: its first cause, the evidence, and what to do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from core.common.safe_text import shorten
from core.common.stamps import stamp_of, without_stamp
from core.errors.evidence import LATE, failure_lines, logs_of_failed, shows_failure, time_of_failure
from core.errors.match import PatternSet
from models.errors import Category, RecordedError
from models.evidence import EvidenceBundle, EvidenceOccasion, MemoryGrade
from models.failures import PausedError, PlanChangedError, ValidationFailedError
from models.gates import GateOutcome
from models.operations import Operation, OperationStatus, StateChange
from models.operations.record import GateRecord
from models.records import ErrorDetails, Explanation, ShownLine
from models.recovery import NOT_ALLOWED, RecoveryExecution, Ticket, TicketState
from models.validation import CheckSeverity, ValidationResult

_LOG_LINES = 6
_ANSWERS = 2
_MOST_STEPS = 3
_MOST_WARNINGS = 2
_ENGINE_AWAY = "the engine went away meanwhile"
"""How a start reports that containers may have ended with the engine."""
_OF_NO_SERVICE = frozenset({"interpolation", "disk"})
_SAY_NOTHING_MORE = frozenset({Category.UNKNOWN, Category.CONTAINER_EXITED, Category.HEALTHCHECK_FAILED})
_INSPECTS_CONTAINERS = re.compile(r"docker\b.*\b(logs|inspect|ps|exec|stats|top|restart)\b")
_ASKS_WHAT_RUNS = re.compile(r"(?:^|: |`)(?:roas|docker)\b")


def explain(
    operation: Operation,
    patterns: PatternSet,
    *,
    validation: ValidationResult | None = None,
    changes: Sequence[StateChange] = (),
    failures: Sequence[ErrorDetails] = (),
    bundles: Sequence[EvidenceBundle] = (),
    release_changes: tuple[str, ...] = (),
) -> Explanation:
    """Explain one operation from its records.

    `failures` are its errors with what was tried about each. `release_changes` are sentences on the differences from
    the last proven release.
    """
    errors = [details.error for details in failures]
    tickets = [ticket for details in failures for ticket in details.tickets]
    executions = [
        execution
        for details in failures
        for execution in details.executions
        if execution.started_at >= operation.started_at
    ]
    if operation.status is not OperationStatus.FAILED:
        return _not_failed(operation, changes, release_changes)
    tried = _attempts(operation, executions, errors)
    if operation.record.interrupted:
        return _explanation(
            operation,
            f"It was {operation.record.interrupted}{_reason_of_refusal(operation)}",
            since=operation.ended_at,
            changed=release_changes,
            tried=tried,
            commands=(f"roas resume {operation.deployment_id}", operation.again),
        )
    if validation is not None and not validation.passed:
        return _explain_validation(operation, validation, release_changes)
    if operation.record.error == PlanChangedError.__name__:
        return _explain_changed_plan(operation, release_changes)
    gate = operation.record.gate
    if gate is not None and gate.outcome == GateOutcome.REFUSED:
        return _explain_gate(operation, gate, release_changes)
    failed = _failed_changes(changes)
    reason = operation.record.reason or "no reason is recorded"
    # The service that the operation named, otherwise the first that failed.
    services = (*(error.service for error in errors), *(change.service for change in failed))
    named = next((service for service in services if service is not None), _not_fetched(operation))
    bundle = _first_bundle(named, bundles)
    service, since, headline, shown = named, None, reason, bundle is not None and shows_failure(bundle)
    if bundle is not None and shown:
        service, since, headline = bundle.cause_service, time_of_failure(bundle), bundle.first_cause
        if _ENGINE_AWAY in reason:
            headline = f"The engine went away during it: {headline}"
    return _explanation(
        operation,
        headline,
        service=service,
        since=since or next((change.changed_at for change in failed if change.service == service), operation.ended_at),
        because=(
            *_observations(bundle, shown=shown),
            *_facts(bundle, service),
            *_warnings(validation, service),
            *_verdicts(errors),
        ),
        lines=lines_that_show(bundle, service, patterns),
        consequences=_consequences(reason, service, named, failed, shown=shown),
        changed=release_changes,
        tried=tried,
        commands=_commands(operation, tickets, bundles),
        evidence=tuple(evidence.bundle_id for evidence in bundles),
    )


def _reason_of_refusal(operation: Operation) -> str:
    """Return why an interrupted operation touched nothing when it was resumed; empty where it was not."""
    if operation.record.error != PausedError.__name__:
        return ""
    return f". Resumed, it touched nothing: {operation.record.reason}"


def _not_fetched(operation: Operation) -> str | None:
    """Return the service whose image could not be pulled or built."""
    failure = operation.record.not_fetched
    return failure.service if failure is not None else None


def _not_failed(operation: Operation, changes: Sequence[StateChange], release_changes: tuple[str, ...]) -> Explanation:
    if operation.status is not OperationStatus.SUCCESS:
        headline, command = f"It has not ended: it is {operation.status}.", f"roas history {operation.deployment_id}"
        return _explanation(operation, headline, changed=release_changes, commands=(command,))
    took = operation.duration
    after = "" if took is None else f" after {took.total_seconds():.1f} s"
    health = operation.record.health
    return _explanation(
        operation,
        f"Nothing failed: it succeeded{after}{f', and the application was {health}' if health else ''}.",
        consequences=(
            *(f"{change.service} failed, and is not required: {change.reason}" for change in _failed_changes(changes)),
            *(f"{run.sentence}, which fails no update" for run in operation.record.hooks if not run.ok),
        ),
        changed=release_changes,
        slow=_slow(operation, changes),
        commands=(f"roas health {operation.environment}",),
    )


def _explain_validation(
    operation: Operation, validation: ValidationResult, release_changes: tuple[str, ...]
) -> Explanation:
    first, *other_checks = validation.critical
    fixes = [check.fix for check in validation.critical if check.fix]
    return _explanation(
        operation,
        f"Validation stopped it before anything was touched: {first.finding}",
        service=first.subject,
        since=validation.validated_at,
        because=tuple(f"check {check.name}: {check.finding}" for check in other_checks),
        changed=release_changes,
        commands=(*dict.fromkeys(fixes), f"roas validate {operation.environment}", operation.again),
    )


def _explain_changed_plan(operation: Operation, release_changes: tuple[str, ...]) -> Explanation:
    plans = {"start": f"roas plan {operation.environment}", "update": f"roas plan --update {operation.environment}"}
    return _explanation(
        operation,
        f"Nothing that runs was touched: {operation.record.reason}",
        since=operation.ended_at,
        changed=release_changes,
        commands=(plans.get(operation.kind, operation.again),),
    )


def _explain_gate(operation: Operation, gate: GateRecord, release_changes: tuple[str, ...]) -> Explanation:
    refused = (policy for policy in gate.policies if policy.outcome is GateOutcome.REFUSED)
    scans = (scan.text for scan in gate.scans if scan.outcome == GateOutcome.REFUSED)
    first, *other_reasons = [*(f"policy {policy.policy}: {policy.reason}" for policy in refused), *scans]
    warned = (f"it had warned too: {policy.reason}" for policy in gate.policies if policy.outcome is GateOutcome.WARNED)
    name = operation.environment
    return _explanation(
        operation,
        f"The gate refused the images before a container was touched: {first}",
        since=operation.ended_at,
        because=(*other_reasons, *warned),
        changed=release_changes,
        commands=(f"roas gate {name}", f"roas {operation.kind} --override-gate REASON {name}"),
    )


def _explanation(operation: Operation, headline: str, **more: Any) -> Explanation:
    return Explanation(
        deployment_id=operation.deployment_id,
        environment=operation.environment,
        operation=operation.kind,
        status=operation.status,
        headline=headline,
        started_at=operation.started_at,
        **more,
    )


def _failed_changes(changes: Iterable[StateChange]) -> list[StateChange]:
    return sorted((change for change in changes if change.new_state == "failed"), key=lambda change: change.changed_at)


def _first_bundle(named: str | None, bundles: Sequence[EvidenceBundle]) -> EvidenceBundle | None:
    """Return the evidence of the first failure: of the named service, otherwise of the earliest cause."""
    of_failures = [bundle for bundle in bundles if bundle.occasion is EvidenceOccasion.FAILURE]
    of_service = [bundle for bundle in of_failures if bundle.service == named]
    causes = sorted(
        of_failures, key=lambda bundle: (not shows_failure(bundle), time_of_failure(bundle) or LATE, bundle.taken_at)
    )
    return next(iter([*of_service, *causes]), None)


def _observations(bundle: EvidenceBundle | None, *, shown: bool) -> tuple[str, ...]:
    """Return how a service was seen that shows no failure: a job that waits says in its last line on what."""
    return () if bundle is None or shown else (bundle.first_cause,)


def _facts(bundle: EvidenceBundle | None, service: str | None) -> tuple[str, ...]:
    """Return facts about the containers beyond the headline: memory kills and restarts."""
    if bundle is None:
        return ()
    facts = []
    for container in (container for container in bundle.containers if container.service == service):
        if container.memory.grade is not MemoryGrade.NONE and container.memory.sentence not in bundle.first_cause:
            facts.append(f"{container.name}: {container.memory.sentence}")
        if container.restart_count and "restarted" not in bundle.first_cause:
            facts.append(f"{container.name} was restarted {container.restart_count} times by the engine")
    host = bundle.host
    if host is not None and host.memory_percent > 95:
        facts.append(f"the host's memory was {host.memory_percent:.0f} % in use")
    if host is not None and host.disk_percent > 95:
        facts.append(f"the disk was {host.disk_percent:.0f} % in use")
    return tuple(facts)


def _warnings(validation: ValidationResult | None, service: str | None) -> tuple[str, ...]:
    """Return the warnings of validation about this service or a variable: often the underlying cause."""
    if validation is None:
        return ()
    warned = [
        check.finding
        for check in validation.failed_checks
        if check.severity is CheckSeverity.WARNING
        and (check.name in _OF_NO_SERVICE or (service is not None and check.subject == service))
    ]
    return tuple(f"validation had warned: {finding}" for finding in warned[:_MOST_WARNINGS])


def _verdicts(errors: Sequence[RecordedError]) -> tuple[str, ...]:
    """Return the verdict on the error where it says more than how the container ended."""
    telling = [error.verdict for error in errors if error.verdict.category not in _SAY_NOTHING_MORE]
    return tuple(f"judged {verdict.category}: {shorten(verdict.reason, 200)}" for verdict in telling[:1])


def lines_that_show(bundle: EvidenceBundle | None, service: str | None, patterns: PatternSet) -> tuple[ShownLine, ...]:
    """Return the log lines that show the cause best, and the last answers of its checks, by time."""
    if bundle is None:
        return ()
    lines: list[ShownLine] = []
    for log in logs_of_failed(service or "", bundle.containers, bundle.logs)[:1]:
        for place in failure_lines(log.lines, _LOG_LINES, patterns):
            text, at = without_stamp(log.lines[place]).rstrip(), stamp_of(log.lines[place])
            lines.append(ShownLine(service=log.service, source="log", text=text, at=at))
    answers = [probe for probe in bundle.probes if probe.service == service and not probe.ok]
    for answer in answers[-_ANSWERS:]:
        again = f" ({answer.times} times)" if answer.times > 1 else ""
        source, text = answer.source.partition(" of ")[0], f"{shorten(answer.output)}{again}"
        lines.append(ShownLine(service=answer.service, source=source, text=text, at=answer.first_at))
    return tuple(sorted(lines, key=lambda line: line.at or LATE))


def _consequences(
    reason: str, service: str | None, named: str | None, failed: Sequence[StateChange], *, shown: bool
) -> tuple[str, ...]:
    """Return the consequences of the first cause: the operation's own reason, and other failed services."""
    other_failures = [change for change in failed if change.service not in (service, named)]
    return (
        *((reason,) if shown and service != named else ()),
        *(f"{change.service}: {change.reason.removeprefix(f'{change.service}: ')}" for change in other_failures),
    )


def _attempts(
    operation: Operation, executions: Sequence[RecoveryExecution], errors: Sequence[RecordedError]
) -> tuple[str, ...]:
    record = operation.record
    actions = [record.data] if record.data else []
    if record.undone:
        actions.append(record.undone)
    elif record.rolled_back_to:
        actions.append(f"rolled back to release {record.rolled_back_to}")
    if record.undo_failed:
        actions.append(f"undoing failed: {record.undo_failed}")
    actions += [f"{execution.strategy}: {execution.final_status}" for execution in executions]
    left_alone = [str(error.evidence.get("left_alone") or "") for error in errors]
    actions += [reason for reason in left_alone if NOT_ALLOWED in reason]
    return tuple(actions)


def _commands(operation: Operation, tickets: Sequence[Ticket], bundles: Sequence[EvidenceBundle]) -> tuple[str, ...]:
    """Return the commands to type: the operation's advice, then the steps of its ticket."""
    waiting = [ticket for ticket in tickets if ticket.state is not TicketState.RESOLVED]
    record, advice = operation.record, operation.record.advice
    steps = [step for step in (waiting[0].steps if waiting else ()) if _command_of(step) not in advice]
    if record.error == ValidationFailedError.__name__:
        # It touched nothing, so what runs shows nothing of it: there is a file to correct, and then to begin again.
        steps = [operation.again, f"roas health {operation.environment}"]
    commands = [advice, *steps] if advice else steps
    if record.undone:
        # The failed containers were removed, so commands that inspect them would show others or nothing.
        commands = [step for step in commands if _INSPECTS_CONTAINERS.search(step) is None]
    if bundles:
        commands = [step for step in commands if not step.endswith("--evidence")]
    evidence_step = f"See its evidence: roas why {operation.deployment_id} --evidence"
    shown, again, first = commands[:_MOST_STEPS], operation.again, tuple[str, ...]()
    if record.undone and bundles:
        # What runs now is the version of before: it shows nothing of the cause, and a start would fail again.
        first = tuple(itertools.takewhile(lambda step: _ASKS_WHAT_RUNS.search(step) is None, shown))
        shown = [evidence_step, *shown[len(first) :]]
    back = operation.data_back
    put_back = (f"Put the data back, what was written since is lost: {back}",) if back else ()
    if back and record.data_proven:
        put_back = (f"Only if its data is wrong, since what was written meanwhile is lost: {back}",)
    return (
        *(() if record.data_proven else put_back),
        *first,
        *shown,
        *(put_back if record.data_proven else ()),
        *((again,) if again not in map(_command_of, shown) else ()),
        *((evidence_step,) if bundles and evidence_step not in shown else ()),
        *((f"roas resolve {waiting[0].ticket_id} --note 'what fixed it'",) if waiting else ()),
    )


def _command_of(step: str) -> str:
    """Return the command of a step without its description and the number of log lines."""
    return step.partition(": ")[2].replace(" --tail 100", "") or step


def _slow(operation: Operation, changes: Sequence[StateChange]) -> tuple[str, ...]:
    """Return the services that the start waited for longest, in order."""
    links = [f"{service} {seconds:.1f} s" for service, seconds in operation.record.critical_path]
    if links:
        return (f"the start waited for {', then '.join(links)}",)
    took = [(float(change.details.get("took_seconds") or 0), change.service) for change in changes]
    slowest = max(took, default=None)
    return () if slowest is None or not slowest[0] else (f"{slowest[1]} took longest: {slowest[0]:.1f} s",)
