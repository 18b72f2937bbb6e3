"""Write down: each task puts one kind of value into its store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prefect import task

from models.health import HealthReport
from models.operations import Operation, OperationStatus, OperationStep, OperationType, StateChange
from models.recovery import Ticket, TicketEntry
from models.validation import ValidationResult
from tasks.recovery.records import let_go_of
from tasks.runtime.retry_policy import READ, WRITE
from tasks.runtime.stores import open_stores

_OF_A_START = frozenset({"validation", str(OperationType.START)})


@task(
    name="record the operation", task_run_name="record {operation.operation_type} of {operation.environment}", **WRITE
)
async def begin_operation(operation: Operation) -> None:
    """Write that an operation has begun."""
    await asyncio.to_thread(open_stores().operations.begin, operation)


@task(name="record the end", task_run_name="record the end: {status}", **WRITE)
async def finish_operation(
    deployment_id: str,
    status: OperationStatus,
    ended_at: datetime,
    details: dict[str, Any],
    *,
    settles: str | None = None,
) -> list[str]:
    """Write how an operation ended. One that had already ended stays as it is.

    A start that was proven settles an environment: what its earlier starts failed of is resolved with it, errors
    and tickets, or nothing is. Gives back the ids of these errors.
    """

    why, closed = f"start {deployment_id} was proven", list[Ticket]()

    def put() -> list[str]:
        if settles is None:
            open_stores().operations.finish(deployment_id, status, ended_at, details)
            return []
        with open_stores().together() as stores:
            if not stores.operations.finish(deployment_id, status, ended_at, details):
                return []
            answered = [one.error_id for one in stores.errors.unresolved(settles) if one.source in _OF_A_START]
            for error_id in answered:
                stores.errors.resolve(error_id, ended_at, why)
                closed.extend(stores.tickets.resolve_for_error(error_id, TicketEntry(at=ended_at, by="roas", what=why)))
            return answered

    answered = await asyncio.to_thread(put)
    await let_go_of(closed, why)
    return answered


@task(name="record the validation", **WRITE)
async def record_validation(deployment_id: str, result: ValidationResult) -> None:
    """Write what validation found."""
    await asyncio.to_thread(open_stores().progress.record_validation, deployment_id, result)


@task(name="record state changes", **WRITE)
async def record_changes(changes: Sequence[StateChange], steps: Sequence[OperationStep] = ()) -> None:
    """Write which services went from which state to which, and why, and which steps are done with that."""
    await asyncio.to_thread(open_stores().progress.record_changes, list(changes), list(steps))


@task(name="read the last states", **READ)
async def last_states(environment: str) -> dict[str, str]:
    """The state recorded last of each service of an environment."""
    changes = await asyncio.to_thread(open_stores().progress.last_changes, environment)
    return {service: change.new_state for service, change in changes.items()}


@task(name="record the health", **WRITE)
async def record_health(report: HealthReport) -> None:
    """Write how healthy the environment was judged."""

    def put() -> None:
        stores = open_stores()
        stores.health.record(report)
        probes = [probe for verdict in report.services for probe in verdict.probes]
        stores.health.record_probes(probes, report.environment)

    await asyncio.to_thread(put)
