"""Read all records of one failure by the id of its operation, error or ticket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from models.failures import NotFoundError
from models.operations import Operation, OperationStatus
from models.postmortem import FailureRecords
from models.records import ErrorDetails, Explanation, ShownLine
from tasks.reporting.read import error_details, read_explanation
from tasks.runtime.stores import open_stores

if TYPE_CHECKING:
    from models.errors import RecordedError
    from models.evidence import EvidenceBundle
    from models.metrics import Alert

_MANY_ALERTS = 10_000


def read_failure(record_id: str) -> FailureRecords:
    """All that is recorded of one failure; the first letters of the id are enough.

    Raises:
        NotFoundError: No operation, error or ticket has this id.
        BadInputError: Several ids begin like this.
    """
    stores = open_stores()
    try:
        operation = stores.operations.get(record_id)
    except NotFoundError:
        return _records_of_error(_named_error(record_id))
    bundles = stores.evidence.find(deployment_id=operation.deployment_id)
    linked = [bundle.error_id for bundle in bundles if bundle.error_id is not None]
    errors = stores.errors.list_by_deployment(operation.deployment_id, operation.record.error_id, *linked)
    return _records(operation.deployment_id, operation.environment, operation, errors, bundles)


def _named_error(record_id: str) -> tuple[str, RecordedError]:
    """The id that was meant, in full, and its error: of an error itself, or of a ticket."""
    stores = open_stores()
    try:
        error = stores.errors.get_by_prefix(record_id)
        return error.error_id, error
    except NotFoundError:
        pass
    try:
        ticket = stores.tickets.get_by_prefix(record_id)
    except NotFoundError as missing:
        raise NotFoundError(
            f"No operation, error or ticket has the id {record_id!r};",
            advice="`roas history`, `roas status` and `roas tickets` list them.",
        ) from missing
    return ticket.ticket_id, stores.errors.get(ticket.error_id)


def _records_of_error(named: tuple[str, RecordedError]) -> FailureRecords:
    subject, error = named
    stores = open_stores()
    operation = stores.operations.find(error.deployment_id) if error.deployment_id else None
    # An error that came after a start belongs to the running application, not to that start.
    if operation is not None and operation.ended_at is not None and operation.ended_at < error.first_seen:
        operation = operation if operation.status is OperationStatus.FAILED else None
    bundles = stores.evidence.find(error_id=error.error_id)
    return _records(subject, error.environment, operation, [error], bundles)


def _records(
    subject: str,
    environment: str,
    operation: Operation | None,
    errors: Sequence[RecordedError],
    bundles: Sequence[EvidenceBundle],
) -> FailureRecords:
    # They compile patterns, which other commands do not need.
    from adapters.pattern_files import described_patterns
    from core.errors.evidence import shows_failure

    stores = open_stores()
    details = tuple(error_details(error) for error in sorted(errors, key=lambda error: error.first_seen))
    explanation = read_explanation(operation.deployment_id) if operation is not None else None
    telling = next((bundle for bundle in bundles if shows_failure(bundle)), None)
    named = {error.verdict.pattern_name for error in errors}
    return FailureRecords(
        subject=subject,
        environment=environment,
        operation=operation,
        changes=stores.progress.numbered_changes(operation.deployment_id) if operation is not None else {},
        errors=details,
        resolutions=stores.errors.resolutions([error.error_id for error in errors]),
        bundles=tuple(bundles),
        telling=telling,
        alerts=tuple(_alerts(environment, operation, details)),
        explanation=explanation,
        lines=_lines(explanation, telling),
        patterns={
            description.pattern.name: description
            for description in described_patterns()
            if description.pattern.name in named
        },
    )


def _lines(explanation: Explanation | None, telling: EvidenceBundle | None) -> tuple[ShownLine, ...]:
    """The lines that the explanation of the operation chose, else those of the first evidence of a failure."""
    from adapters.pattern_files import shipped_set
    from core.errors.explain import lines_that_show

    if explanation is not None and explanation.lines:
        return explanation.lines
    return lines_that_show(telling, telling.cause_service, shipped_set()) if telling is not None else ()


def _alerts(environment: str, operation: Operation | None, errors: Sequence[ErrorDetails]) -> list[Alert]:
    """The alerts on affected services that were open between the first and the last moment of the failure."""
    services = {details.error.service for details in errors}
    services |= {name for details in errors for impact in details.impacts for name in impact.affected_services}
    begins = [details.error.first_seen for details in errors]
    ends: list[datetime | None] = [details.error.resolved_at for details in errors]
    if operation is not None:
        begins.append(operation.started_at)
        ends.append(operation.ended_at)
    if not begins:
        return []
    end = max((end for end in ends if end is not None), default=None) if None not in ends else None
    return [
        alert
        for alert in reversed(open_stores().alerts.latest(environment, limit=_MANY_ALERTS))
        if alert.service in services
        and (end is None or alert.opened_at <= end)
        and (alert.resolved_at is None or alert.resolved_at >= min(begins))
    ]
