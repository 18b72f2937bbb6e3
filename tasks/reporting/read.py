"""Read the records: one operation with all that belongs to it, and the state of each environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from core.deployment.desired_state import stopped_at
from core.deployment.interruption import runner_of
from models.failures import NotFoundError
from models.operations import Operation, OperationStatus, OperationType, Runner
from models.records import (
    DeploymentDetails,
    EnvironmentStatus,
    ErrorDetails,
    Explanation,
    FirstCause,
    ReleaseDetails,
    TicketDetails,
)
from models.settings import current_settings
from tasks.monitoring.watch_lock import watched_by
from tasks.runtime.stores import open_stores, stores_exist

if TYPE_CHECKING:
    from models.analysis import Analysis
    from models.errors import RecordedError
    from models.evidence import EvidenceBundle
    from models.metrics import Prediction

_NAMED = 5

_MANY = 1_000_000
"""More errors than an environment has in its analysed days; the days bound the answer."""


def read_damage() -> list[str]:
    """What a person should know of the stores themselves: a line for each damaged file that lies beside them."""
    if not stores_exist():
        return []
    return [
        f"store {store} was damaged, and what could not be read is missing: {file} is kept; see `roas tickets`"
        for store, files in open_stores().kept_aside().items()
        for file in files
    ]


def read_predictions(environment: str | None, since: datetime) -> list[Prediction]:
    """The predictions that stand, the nearest first, then those made since that are scored, newest first."""
    from models.metrics import PredictionOutcome

    names = [environment] if environment is not None else sorted(environments_on_record())
    stores = open_stores()
    standing = [one for name in names for one in stores.evaluations.predictions(name, PredictionOutcome.OPEN)]
    made = [one for name in names for one in stores.evaluations.predictions(name, since=since)]
    scored = [one for one in made if one.outcome is not PredictionOutcome.OPEN]
    by_time = sorted(scored, key=lambda one: one.made_at, reverse=True)
    return [*sorted(standing, key=lambda one: one.expected), *by_time]


def environments_on_record() -> set[str]:
    """Every environment that has left an operation, a collection or an error."""
    if not stores_exist():
        return set()
    stores = open_stores()
    collected = {name.partition("/")[2] for name in stores.heartbeats.all()}
    return {*stores.operations.environments(), *stores.errors.environments(), *collected} - {""}


def remembered_compose_files(environment: str) -> tuple[str, ...]:
    """The Compose files of the latest operation on an application without an environment file; none if it has one."""
    if not stores_exist():
        return ()
    latest = open_stores().operations.history(environment=environment, limit=1)
    asked: dict[str, Any] = (latest[0].details.get("asked") or {}) if latest else {}
    return tuple(asked.get("parameters", {}).get("compose_files") or ())


def read_releases(environment: str) -> list[ReleaseDetails]:
    """The releases of an environment, newest first, each with what it changed."""
    from core.deployment.release import differences
    from core.deployment.release_notes import texts_of

    stores = open_stores()
    kept = stores.releases.latest(environment)
    operations = {one.deployment_id: stores.operations.find(one.deployment_id) for one in kept}
    proven_before = [next((other for other in kept[place + 1 :] if other.proven), None) for place in range(len(kept))]
    return [
        ReleaseDetails(
            release=one,
            changes=differences(before, one) if before is not None else (),
            notes=texts_of(made_by.details) if (made_by := operations[one.deployment_id]) is not None else (),
        )
        for one, before in zip(kept, proven_before, strict=True)
    ]


def operation_of_run(environment: str, flow_run_id: str) -> str:
    """The id of the operation that a flow run recorded.

    Raises:
        NotFoundError: It failed before it had recorded one.
    """
    found = open_stores().operations.find_by_run(environment, flow_run_id)
    if found is None:
        raise NotFoundError(
            f"Run {flow_run_id} recorded no operation of {environment};", advice="the lines above say why."
        )
    return found.deployment_id


def ended_operation_of(environment: str, runner: Runner) -> Operation | None:
    """The latest operation of an environment, where this process ran it and it has ended; else None."""
    latest = open_stores().operations.latest_recorded(environment, 1)
    known = runner_of(latest[0]) if latest else None
    if known is None or latest[0].ended_at is None or replace(known, flow_run_id="") != replace(runner, flow_run_id=""):
        return None
    return latest[0]


def read_deployment(deployment_id: str | None) -> DeploymentDetails:
    """All that is recorded of one operation: by the first letters of its id, the latest of an environment, or of all.

    Raises:
        NotFoundError: There is no such operation, or several begin like that.
    """
    stores = open_stores()
    latest = stores.operations.history(environment=deployment_id, limit=1)
    if deployment_id is None and not latest:
        raise NotFoundError("No operation is recorded yet;", advice="`roas start` begins one.")
    operation = latest[0] if latest else stores.operations.get(deployment_id or "")
    whole = operation.deployment_id
    reports = stores.health.history(deployment_id=whole, limit=1)
    errors = stores.errors.of_deployment(whole, *named_error(operation))
    return DeploymentDetails(
        operation=operation,
        validations=tuple(stores.progress.validations(whole)),
        changes=tuple(stores.progress.changes(whole)),
        health=reports[0] if reports else None,
        errors=tuple(error_details(error) for error in errors),
        data_dir=str(current_settings().data_dir),
    )


def read_explanation(deployment_id: str | None) -> Explanation:
    """Why an operation ended as it did; without an id, the latest that failed, with an environment's name there.

    Raises:
        NotFoundError: There is no such operation, several begin like that, or none has failed.
    """
    # It compiles patterns, which the other reads do not need.
    from adapters.pattern_files import shipped_set
    from core.errors.explain import explain

    stores = open_stores()
    if deployment_id is None or stores.operations.history(environment=deployment_id, limit=1):
        operation = _failed_last(deployment_id)
    else:
        operation = stores.operations.get(deployment_id)
    whole = operation.deployment_id
    bundles = stores.evidence.find(deployment_id=whole)
    linked = [bundle.error_id for bundle in bundles if bundle.error_id is not None]
    found = [error_details(error) for error in stores.errors.of_deployment(whole, *named_error(operation), *linked)]
    validations = stores.progress.validations(whole)
    return explain(
        operation,
        shipped_set(),
        validation=validations[-1] if validations else None,
        changes=stores.progress.changes(whole),
        errors=[details.error for details in found],
        bundles=bundles,
        tickets=[ticket for details in found for ticket in details.tickets],
        executions=[one for details in found for one in details.executions if one.started_at >= operation.started_at],
        release_changes=_release_changes(operation),
    )


def read_open_failure(which: str | None) -> TicketDetails | None:
    """The ticket of a failure that no operation had: of an error's or ticket's id, else the latest that is open.

    Without an id None where the latest failed operation is newer: its explanation says more.

    Raises:
        NotFoundError: There is no such ticket, or the error has none.
    """
    stores = open_stores()
    if which is not None and re.match(r"[Tt]-\d", which):
        return read_ticket_details(which)
    if which is not None and re.match(r"err-\d", which):
        error = stores.errors.get(which)
        tickets = [one for one in stores.tickets.find() if one.error_id == error.error_id]
        if not tickets:
            raise NotFoundError(
                f"Error {error.error_id} has no ticket;", advice=f"`roas postmortem {error.error_id}` explains it."
            )
        return read_ticket_details(tickets[-1].ticket_id)
    failed = stores.operations.history(environment=which, status=OperationStatus.FAILED, limit=1)
    since = failed[0].started_at if failed else None
    found = [
        one
        for one in stores.tickets.find(environment=which)
        if one.resolved_at is None and (since is None or one.opened_at > since)
    ]
    for ticket in sorted(found, key=lambda one: one.opened_at, reverse=True):
        error = stores.errors.get(ticket.error_id)
        # What a person gave to `roas recover` needs no explanation to them.
        if error.deployment_id is None and error.source != "person":
            return read_ticket_details(ticket.ticket_id)
    return None


def read_cause(deployment_id: str) -> FirstCause:
    """The sentence on the first cause of a failed operation, where evidence shows more than its reason, and what to do.

    Raises:
        NotFoundError: There is no such operation.
    """
    explanation, operation = read_explanation(deployment_id), open_stores().operations.get(deployment_id)
    sentences = (explanation.headline, *explanation.because) if explanation.evidence else ()
    found = next((sentence for sentence in sentences if sentence != operation.details.get("reason")), None)
    own = (operation.again, operation.data_back)
    steps = [one for one in explanation.commands if not any(command and one.endswith(command) for command in own)]
    return FirstCause(sentence=found, step=str(operation.details.get("advice") or next(iter(steps), "")))


def read_ticket_details(ticket_id: str) -> TicketDetails:
    """A ticket with what shows its cause; the first letters of its id are enough.

    Raises:
        NotFoundError: There is no such ticket, or several begin like that.
    """
    from adapters.pattern_files import shipped_set
    from core.errors.explain import lines_that_show

    stores = open_stores()
    found = [one for one in stores.tickets.find() if one.ticket_id.lower().startswith(ticket_id.lower())]
    if len(found) > 1:
        names = ", ".join(one.ticket_id for one in found[:_NAMED])
        raise NotFoundError(f"{len(found)} tickets begin with {ticket_id}: {names};", advice="give more letters.")
    ticket = found[0] if found else stores.tickets.get(ticket_id)
    kept = [one for one in stores.evidence.find(error_id=ticket.error_id) if one.service == ticket.service]
    seen = kept[-1] if kept else None
    return TicketDetails(
        ticket=ticket,
        error=stores.errors.get(ticket.error_id),
        first_cause=seen.first_cause if seen else "",
        lines=lines_that_show(seen, seen.cause_service, shipped_set()) if seen else (),
    )


def read_evidence(deployment_id: str) -> list[EvidenceBundle]:
    """The evidence of the services of one operation, oldest first."""
    return list(open_stores().evidence.find(deployment_id=deployment_id))


def read_analysis(environment: str, days: int, now: datetime) -> Analysis:
    """How an environment's starts went over the last days: rates, durations, trends, repairs, advice."""
    # It imports NumPy, which the other reads do not need.
    from core.reporting.analysis import analyse_operations, failure_end
    from models.analysis import Failure

    stores = open_stores()
    since = now - timedelta(days=days)
    recorded = stores.errors.latest(environment=environment, limit=_MANY)
    errors = [error for error in recorded if error.first_seen >= since]
    category = {error.error_id: str(error.verdict.category) for error in recorded}
    causes = {error.deployment_id: str(error.verdict.category) for error in recorded if error.deployment_id}
    undone = {
        one.deployment_id: one.ended_at
        for one in stores.operations.history(environment=environment, limit=_MANY)
        if one.details.get("undone")
    }
    # The same cause again, while it is open, is counted with the error of the operation that had it first.
    again = {
        operation: category[error_id]
        for operation, error_id in stores.evidence.errors_by_operation(environment).items()
        if error_id in category
    }
    return analyse_operations(
        stores.operations.outcomes(environment, OperationType.START, since),
        environment=environment,
        since=since,
        until=now,
        failures=[
            Failure(
                row=error.error_id,
                service=error.service or environment,
                cause=str(error.verdict.category),
                began_at=error.first_seen,
                ended_at=failure_end(error.last_seen, error.resolved_at, undone.get(error.deployment_id or "")),
            )
            for error in errors
        ],
        causes=again | causes,
    )


def read_status(environment: str | None) -> list[EnvironmentStatus]:
    """The status of each environment that was ever operated, or of the named one."""
    stores = open_stores()
    latest: dict[str, Operation] = {}
    for operation in stores.operations.history(environment=environment, limit=1000):
        latest.setdefault(operation.environment, operation)
    beats = stores.heartbeats.all()
    recorded = {name: stores.operations.latest_recorded(name) for name in latest}
    return [
        EnvironmentStatus(
            environment=name,
            last_operation=operation,
            running=tuple(stores.operations.running(name)),
            health=next(iter(stores.health.history(environment=name, limit=1)), None),
            open_errors=tuple(stores.errors.unresolved(name)),
            open_tickets=tuple(t for t in stores.tickets.find(environment=name) if t.resolved_at is None),
            open_alerts=tuple(a for a in stores.alerts.unresolved(name) if a.explained_by is None),
            scores=tuple(stores.health.latest_scores(name)),
            dependencies=tuple(stores.dependencies.all(name)),
            last_collection=beats.get(f"collection/{name}"),
            watched_by=watched_by(name),
            stopped_at=stopped_at(recorded[name]),
            mounted_copies=_mounted_copies(recorded[name]),
        )
        for name, operation in sorted(latest.items())
    ]


def _mounted_copies(operations: Sequence[Operation]) -> str:
    """What the last operation said of it that left a release behind; `operations` newest first."""
    last = next((one for one in operations if one.details.keys() & {"release", "rolled_back_to"}), None)
    said = [] if last is None else [last.details.get(fact) for fact in ("kept_values", "mounted_copies")]
    return "; ".join(str(one) for one in said if one)


def named_error(operation: Operation) -> tuple[str, ...]:
    """A cause that an earlier operation had too is on record as that one's; this one's record names it."""
    named = operation.details.get("error_id")
    return () if named is None else (str(named),)


def _failed_last(environment: str | None) -> Operation:
    stores = open_stores()
    failed = stores.operations.history(environment=environment, status=OperationStatus.FAILED, limit=1)
    if failed:
        return failed[0]
    of = f" of {environment}" if environment else ""
    found = stores.errors.latest(environment, limit=1)
    if not found:
        raise NotFoundError(f"No operation{of} has failed;", advice="`roas history` lists what was done.")
    error = found[0]
    ended = "is not over" if error.resolved_at is None else f"ended at {error.resolved_at:%H:%M:%S} UTC"
    raise NotFoundError(
        f"No operation{of} has failed. {error.service or error.environment} failed at "
        f"{error.first_seen:%Y-%m-%d %H:%M:%S} UTC ({error.verdict.category}), which {ended};",
        advice=f"`roas postmortem {error.error_id}` explains it.",
    )


def _release_changes(operation: Operation) -> tuple[str, ...]:
    """What the operation's release has that the last proven one before it has not, or what it noted itself."""
    if noted := operation.details.get("changes"):
        return tuple(noted)
    from core.deployment.release import differences

    releases = open_stores().releases.latest(operation.environment)
    mine = next((one for one in releases if one.deployment_id == operation.deployment_id), None)
    proven = next((one for one in releases if one.proven and one.created_at < operation.started_at), None)
    return () if mine is None or proven is None else differences(proven, mine)


def error_details(error: RecordedError) -> ErrorDetails:
    """An error with its impacts, recovery attempts and tickets."""
    stores = open_stores()
    return ErrorDetails(
        error=error,
        impacts=tuple(stores.errors.impacts(error.error_id)),
        executions=tuple(stores.recoveries.find(error_id=error.error_id)),
        tickets=tuple(t for t in stores.tickets.find() if t.error_id == error.error_id),
    )
