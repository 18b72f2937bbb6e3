"""Read the public status page of an environment, at most now and then however often it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Lock

from adapters.config.environment_files import known_environments
from adapters.config.environments import declared_environment
from core.deployment.desired_state import time_of_stop
from core.reporting.status_page import DAYS, status_view
from models.failures import BadInputError, NotFoundError
from models.operations import Operation, OperationStatus, OperationType
from models.settings import current_settings
from models.status_view import StatusRecords, StatusView
from tasks.runtime.stores import open_stores, stores_exist

_READ_AGAIN_AFTER = timedelta(seconds=60)
_MOST_REPORTS, _MOST_OPERATIONS = 5000, 2000
_MEASURED = "load_1m"
"""A metric of the host that each collection of an environment has."""

_reading = Lock()
_views: dict[str, tuple[datetime, StatusView | None]] = {}


def read_status_view(environment: str, now: datetime | None = None) -> StatusView:
    """The status page of an environment whose file has one.

    Raises:
        NotFoundError: There is none, or the environment's file is not on this machine; it does not say which.
        StoreError: The stores cannot be read.
    """
    now = now or datetime.now(UTC)
    # Names that are asked for from outside cost a look at a folder, and no memory.
    if not _is_known(environment):
        raise _not_found()
    with _reading:
        read_at, view = _views.get(environment, (None, None))
        if read_at is None or not timedelta() <= now - read_at < _READ_AGAIN_AFTER:
            view = _read(environment, now)
            _views[environment] = (now, view)
    if view is None:
        raise _not_found()
    return view


def _is_known(environment: str) -> bool:
    try:
        return environment in known_environments(current_settings())
    except BadInputError:
        return False


def _read(environment: str, now: datetime) -> StatusView | None:
    try:
        page = declared_environment(environment, current_settings()).status_page
    except BadInputError:
        return None
    return None if page is None else status_view(page, _read_records(environment, now))


def _read_records(environment: str, now: datetime) -> StatusRecords:
    if not stores_exist():
        return StatusRecords(now=now)
    stores, since = open_stores(), now - timedelta(days=DAYS)
    reports = stores.health.history(environment=environment, limit=_MOST_REPORTS)[::-1]
    recent = [report for report in reports if report.checked_at >= since]
    # The state at the first moment is that of the report before it.
    before = reports[len(reports) - len(recent) - 1 : len(reports) - len(recent)]
    operations = stores.operations.latest_recorded(environment, _MOST_OPERATIONS)
    collected = stores.heartbeats.last_beat(f"collection/{environment}")
    newest = recent[-1].checked_at if recent else (before[0].checked_at if before else None)
    return StatusRecords(
        now=now,
        reports=(*before, *recent),
        measured_hours=frozenset(stores.metrics.measured_hours(environment, _MEASURED, since, now)),
        planned=_planned(operations, now),
        checked_at=max((moment for moment in (newest, collected) if moment is not None), default=None),
        stopped_at=time_of_stop(operations),
    )


def _planned(operations: list[Operation], now: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """The times from a stop on request until an operation has started services again; `operations` newest first."""
    spans, serves_again = [], now
    for operation in operations:
        if operation.status is not OperationStatus.SUCCESS:
            continue
        if operation.operation_type is OperationType.STOP:
            # From its begin: services end before the operation does.
            spans.append((operation.started_at, serves_again))
            serves_again = operation.started_at
        else:
            serves_again = operation.ended_at or now
    return tuple(spans)


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such status page;", advice="check the address.")
