"""Read one operation, and one failure, as their pages show them; plain reads of the stores, and no task run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.recovery.budget_left import budget_left
from core.reporting.waterfall import bars_of
from models.errors import RecordedError
from models.failures import BadInputError
from models.operation_view import OperationView
from models.operations import OperationStatus
from models.settings import current_settings
from tasks.reporting.read import read_deployment, read_explanation
from tasks.runtime.stores import open_stores

_BUDGET_WINDOW = timedelta(days=1)
_EARLIER_ERRORS, _SHOWN = 200, 5


def read_operation_view(deployment_id: str) -> OperationView:
    """An operation with all that its page shows; the first letters of its id are enough.

    Raises:
        NotFoundError: There is no such operation.
        BadInputError: Several ids begin like this.
    """
    stores = open_stores()
    # An environment's name stands for its latest operation elsewhere, and no page has that address.
    operation = stores.operations.get(deployment_id)
    details = read_deployment(operation.deployment_id)
    steps = tuple(stores.progress.steps(operation.deployment_id))
    has_ended = operation.status in (OperationStatus.SUCCESS, OperationStatus.FAILED)
    return OperationView(
        at=datetime.now(UTC),
        details=details,
        steps=steps,
        bars=bars_of(operation, steps, details.changes),
        explanation=read_explanation(operation.deployment_id) if has_ended else None,
    )


def read_budget_left(error: RecordedError) -> tuple[str, ...]:
    """What is left of the budgets for an error, a sentence each; none without a readable environment file."""
    from adapters.config.environments import declared_environment

    try:
        policy = declared_environment(error.environment, current_settings()).recovery
    except BadInputError:
        return ()
    stores, now = open_stores(), datetime.now(UTC)
    lately = stores.recoveries.find(environment=error.environment, since=now - _BUDGET_WINDOW)
    of_error = stores.recoveries.find(error_id=error.error_id)
    past = {execution.attempt_id or execution.started_at: execution for execution in (*lately, *of_error)}
    return budget_left(error, tuple(past.values()), policy, now)


def read_similar(error: RecordedError) -> tuple[RecordedError, ...]:
    """Earlier errors of the same service and cause, the latest first."""
    latest = open_stores().errors.latest(error.environment, limit=_EARLIER_ERRORS)
    alike = [
        other
        for other in latest
        if other.error_id != error.error_id and other.first_seen <= error.first_seen and error.is_alike(other)
    ]
    return tuple(alike[:_SHOWN])
