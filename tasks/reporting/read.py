"""Read the records: one operation with all that belongs to it, and the state of each environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from adapters.config.needs import declared_needs
from core.deployment.desired_state import time_of_stop
from core.deployment.needs import down_words
from models.failures import NotFoundError
from models.operations import Operation, OperationStatus, Runner
from models.operations.record import OperationRecord
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
from tasks.monitoring.watch_lock import watcher_of
from tasks.reporting.consent import find_lock
from tasks.reporting.needs import recorded_need
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
    standing = [
        prediction for name in names for prediction in stores.evaluations.predictions(name, PredictionOutcome.OPEN)
    ]
    made = [prediction for name in names for prediction in stores.evaluations.predictions(name, since=since)]
    scored = [prediction for prediction in made if prediction.outcome is not PredictionOutcome.OPEN]
    by_time = sorted(scored, key=lambda prediction: prediction.made_at, reverse=True)
    return [*sorted(standing, key=lambda prediction: prediction.expected), *by_time]


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
    request = latest[0].record.asked if latest else None
    return tuple(request.parameters.get("compose_files") or ()) if request else ()


def read_releases(environment: str, limit: int | None = None) -> list[ReleaseDetails]:
    """The releases of an environment, newest first, each with what it changed; at most `limit` where given."""
    from core.deployment.release import differences

    stores = open_stores()
    # Each is compared with the one before it that was proven.
    releases = stores.releases.latest(environment) if limit is None else stores.releases.latest(environment, limit + 1)
    operations = {release.deployment_id: stores.operations.find(release.deployment_id) for release in releases[:limit]}
    proven_before = [
        next((other for other in releases[place + 1 :] if other.proven), None) for place in range(len(releases))
    ]
    return [
        ReleaseDetails(
            release=release,
            changes=differences(before, release) if before is not None else (),
            notes=tuple(note.text for note in made_by.record.release_notes)
            if (made_by := operations[release.deployment_id]) is not None
            else (),
        )
        for release, before in list(zip(releases, proven_before, strict=True))[:limit]
    ]


def operation_of_run(environment: str, flow_run_id: str) -> str:
    """The id of the operation that a flow run recorded.

    Raises:
        NotFoundError: It failed before it had recorded one.
    """
    operation = open_stores().operations.find_by_run(environment, flow_run_id)
    if operation is None:
        raise NotFoundError(
            f"Run {flow_run_id} recorded no operation of {environment};", advice="the lines above say why."
        )
    return operation.deployment_id


def ended_operation_of(environment: str, runner: Runner) -> Operation | None:
    """The latest operation of an environment, where this process ran it and it has ended; else None."""
    latest = open_stores().operations.latest_recorded(environment, 1)
    recorded_runner = latest[0].record.runner if latest else None
    if (
        recorded_runner is None
        or latest[0].ended_at is None
        or replace(recorded_runner, flow_run_id="") != replace(runner, flow_run_id="")
    ):
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
    errors = stores.errors.list_by_deployment(whole, operation.record.error_id)
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
    errors = [
        error_details(error) for error in stores.errors.list_by_deployment(whole, operation.record.error_id, *linked)
    ]
    validations = stores.progress.validations(whole)
    return explain(
        operation,
        shipped_set(),
        validation=validations[-1] if validations else None,
        changes=stores.progress.changes(whole),
        failures=errors,
        bundles=bundles,
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
        tickets = [ticket for ticket in stores.tickets.find() if ticket.error_id == error.error_id]
        if not tickets:
            raise NotFoundError(
                f"Error {error.error_id} has no ticket;", advice=f"`roas postmortem {error.error_id}` explains it."
            )
        return read_ticket_details(tickets[-1].ticket_id)
    failed = stores.operations.history(environment=which, status=OperationStatus.FAILED, limit=1)
    since = failed[0].started_at if failed else None
    open_tickets = [
        ticket
        for ticket in stores.tickets.find(environment=which)
        if ticket.resolved_at is None and (since is None or ticket.opened_at > since)
    ]
    for ticket in sorted(open_tickets, key=lambda ticket: ticket.opened_at, reverse=True):
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
    cause = next((sentence for sentence in sentences if sentence != operation.record.reason), None)
    operation_commands = (operation.again, operation.data_back)
    steps = [
        step
        for step in explanation.commands
        if not any(command and step.endswith(command) for command in operation_commands)
    ]
    return FirstCause(sentence=cause, step=operation.record.advice or next(iter(steps), ""))


def read_ticket_details(ticket_id: str) -> TicketDetails:
    """A ticket with what shows its cause; the first letters of its id are enough.

    Raises:
        NotFoundError: There is no such ticket, or several begin like that.
    """
    from adapters.pattern_files import shipped_set
    from core.errors.explain import lines_that_show

    stores = open_stores()
    tickets = [ticket for ticket in stores.tickets.find() if ticket.ticket_id.lower().startswith(ticket_id.lower())]
    if len(tickets) > 1:
        names = ", ".join(ticket.ticket_id for ticket in tickets[:_NAMED])
        raise NotFoundError(f"{len(tickets)} tickets begin with {ticket_id}: {names};", advice="give more letters.")
    ticket = tickets[0] if tickets else stores.tickets.get(ticket_id)
    bundles = [bundle for bundle in stores.evidence.find(error_id=ticket.error_id) if bundle.service == ticket.service]
    latest = bundles[-1] if bundles else None
    return TicketDetails(
        ticket=ticket,
        error=stores.errors.get(ticket.error_id),
        first_cause=latest.first_cause if latest else "",
        lines=lines_that_show(latest, latest.cause_service, shipped_set()) if latest else (),
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
    rolled_back_at = {
        operation.deployment_id: operation.ended_at
        for operation in stores.operations.history(environment=environment, limit=_MANY)
        if operation.record.undone
    }
    # The same cause again, while it is open, is counted with the error of the operation that had it first.
    again = {
        operation: category[error_id]
        for operation, error_id in stores.evidence.errors_by_operation(environment).items()
        if error_id in category
    }
    return analyse_operations(
        stores.operations.outcomes(environment, since),
        environment=environment,
        since=since,
        until=now,
        failures=[
            Failure(
                row=error.error_id,
                service=error.service or environment,
                cause=str(error.verdict.category),
                began_at=error.first_seen,
                ended_at=failure_end(error.last_seen, error.resolved_at, rolled_back_at.get(error.deployment_id or "")),
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
    beats, needs = stores.heartbeats.all(), declared_needs(current_settings())
    recorded = {name: stores.operations.latest_recorded(name) for name in latest}
    paused = stores.pauses.active(datetime.now(UTC))
    return [
        EnvironmentStatus(
            environment=name,
            last_operation=operation,
            running=tuple(stores.operations.list_running(name)),
            health=next(iter(stores.health.history(environment=name, limit=1)), None),
            open_errors=tuple(stores.errors.list_unresolved(name)),
            open_tickets=tuple(t for t in stores.tickets.find(environment=name) if t.resolved_at is None),
            open_alerts=tuple(a for a in stores.alerts.list_unresolved(name) if a.explained_by is None),
            scores=tuple(stores.health.latest_scores(name)),
            dependencies=tuple(stores.dependencies.all(name)),
            last_collection=beats.get(f"collection/{name}"),
            watched_by=watcher_of(name),
            stopped_at=time_of_stop(recorded[name]),
            needs_down=down_words(map(recorded_need, needs.get(name, ()))),
            mounted_copies=_mounted_copies(recorded[name]),
            lock=find_lock(name),
            pauses=tuple(pause for pause in paused if pause.environment in (None, name)),
        )
        for name, operation in sorted(latest.items())
    ]


def _mounted_copies(operations: Sequence[Operation]) -> str:
    """What the last operation said of it that left a release behind; `operations` newest first."""
    records = (operation.record for operation in operations)
    last = next((record for record in records if record.release or record.rolled_back_to), OperationRecord())
    return "; ".join(filter(None, (last.kept_values, last.mounted_copies)))


def _failed_last(environment: str | None) -> Operation:
    stores = open_stores()
    failed = stores.operations.history(environment=environment, status=OperationStatus.FAILED, limit=1)
    if failed:
        return failed[0]
    of = f" of {environment}" if environment else ""
    errors = stores.errors.latest(environment, limit=1)
    if not errors:
        raise NotFoundError(f"No operation{of} has failed;", advice="`roas history` lists what was done.")
    error = errors[0]
    ended = "is not over" if error.resolved_at is None else f"ended at {error.resolved_at:%H:%M:%S} UTC"
    raise NotFoundError(
        f"No operation{of} has failed. {error.service or error.environment} failed at "
        f"{error.first_seen:%Y-%m-%d %H:%M:%S} UTC ({error.verdict.category}), which {ended};",
        advice=f"`roas postmortem {error.error_id}` explains it.",
    )


def _release_changes(operation: Operation) -> tuple[str, ...]:
    """What the operation's release has that the last proven one before it has not, or what it noted itself."""
    if operation.record.changes:
        return operation.record.changes
    from core.deployment.release import differences

    releases = open_stores().releases.latest(operation.environment)
    current = next((release for release in releases if release.deployment_id == operation.deployment_id), None)
    proven = next(
        (release for release in releases if release.proven and release.created_at < operation.started_at), None
    )
    return () if current is None or proven is None else differences(proven, current)


def error_details(error: RecordedError) -> ErrorDetails:
    """An error with its impacts, recovery attempts and tickets."""
    stores = open_stores()
    return ErrorDetails(
        error=error,
        impacts=tuple(stores.errors.impacts(error.error_id)),
        executions=tuple(stores.recoveries.find(error_id=error.error_id)),
        tickets=tuple(t for t in stores.tickets.find() if t.error_id == error.error_id),
    )
