"""Record operations, and end those whose runner is gone, so that they can be taken up again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client, task
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed

from adapters.host.processes import is_alive
from adapters.stores.repositories.operations import Operations
from adapters.stores.write_behind import replay_left
from core.deployment.interruption import interruption, orphaned, runner_of
from models.audit import Actor
from models.health import HealthReport
from models.operations import Operation, OperationStatus, OperationStep, OperationType, Runner, StateChange
from models.recovery import Ticket, TicketEntry
from models.validation import ValidationResult
from tasks.recovery.records import cancel_runs_of
from tasks.runtime.retry_policy import WRITE, retry_read, retry_write
from tasks.runtime.store_access import journals_folder
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

_OF_A_START = frozenset({"validation", str(OperationType.START)})

LONGEST_RECOVERY = timedelta(hours=1)
"""A recovery is bounded well below this; one that has not ended by then was cut off."""

_SERVER_TIMEOUT = timedelta(seconds=10)


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
    await cancel_runs_of(closed, why)
    return answered


@task(name="record the validation", **WRITE)
async def record_validation(deployment_id: str, result: ValidationResult) -> None:
    """Write what validation found."""
    await asyncio.to_thread(open_stores().progress.record_validation, deployment_id, result)


@task(name="record state changes", **WRITE)
async def record_changes(changes: Sequence[StateChange], steps: Sequence[OperationStep] = ()) -> None:
    """Write which services went from which state to which, and why, and which steps are done with that."""
    await asyncio.to_thread(open_stores().progress.record_changes, list(changes), list(steps))


@retry_read
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


@retry_write
async def mark_interrupted(environment: str | None, now: datetime) -> list[str]:
    """End the operations and recoveries whose runner is gone; gives back the ids of the operations.

    Their runs that Prefect still shows as running are set to Crashed; a server that does not answer is
    left for the next time.
    """
    # Writes that a process left in its journal come first: they may say how an attempt ended.
    await asyncio.to_thread(lambda: replay_left(open_stores(), journals_folder()))
    ended = await asyncio.to_thread(_end_orphans, environment, now)
    for operation, said in ended:
        log.warning("%s of %s %s", operation.operation_type, operation.environment, said)
    runs = [(str(one.details.get("flow_run_id") or ""), said) for one, said in ended]
    if any(run for run, _ in runs):
        await _crash_runs([(UUID(run), said) for run, said in runs if run])
    closed = await asyncio.to_thread(open_stores().recoveries.end_interrupted, now - LONGEST_RECOVERY, now)
    if closed:
        log.warning("%d recoveries were interrupted: their runner is gone", closed)
    return [operation.deployment_id for operation, _ in ended]


@retry_read
async def operation_of(environment: str, deployment_id: str | None, earlier_run: str | None) -> Operation | None:
    """The operation that this run ran before, else the one of exactly this id; None where there is none."""

    def find() -> Operation | None:
        stores = open_stores()
        known = stores.operations.find_by_run(environment, earlier_run) if earlier_run else None
        return known or (stores.operations.find(deployment_id) if deployment_id else None)

    return await asyncio.to_thread(find)


@retry_write
async def take_up(
    deployment_id: str, runner: Runner, at: datetime, by: str, actor: Actor
) -> list[OperationStep] | None:
    """Let an interrupted operation run again; its finished steps, or None where it cannot be taken up."""

    def take() -> list[OperationStep] | None:
        stores = open_stores()
        if stores.operations.resume(deployment_id, runner, at, by, actor) or _taken_already(
            stores.operations, deployment_id, runner
        ):
            return stores.progress.steps(deployment_id)
        return None

    return await asyncio.to_thread(take)


@task(name="record a finished step", **WRITE)
async def record_step(deployment_id: str, step: str, service: str | None, at: datetime, detail: str) -> None:
    """Write that a step is done and need not be done again."""
    await asyncio.to_thread(open_stores().progress.finish_step, deployment_id, step, service, at, detail)


@retry_write
async def let_run(deployment_id: str) -> None:
    """Write that an operation that waited for its environment has begun."""
    await asyncio.to_thread(open_stores().operations.mark_running, deployment_id)


def _end_orphans(environment: str | None, now: datetime) -> list[tuple[Operation, str]]:
    stores = open_stores()
    unfinished = stores.operations.running(environment)
    alive = {runner: is_alive(runner) for runner in map(runner_of, unfinished) if runner is not None}
    ended = []
    for operation in orphaned(unfinished, stores.leases.held(now, environment), alive, now):
        said = interruption(operation, stores.progress.steps(operation.deployment_id))
        details = {"interrupted": said, "reason": said, "advice": _advice(operation), "error": "Interrupted"}
        # Another process may have ended it at this moment, and then reports it.
        if stores.operations.finish(operation.deployment_id, OperationStatus.FAILED, now, details):
            ended.append((operation, said))
    return ended


def _advice(operation: Operation) -> str:
    return f"`roas resume {operation.deployment_id}` goes on from there; a new start begins afresh."


def _taken_already(store: Operations, deployment_id: str, runner: Runner) -> bool:
    """True where a try before this one took it up, and only its answer was lost."""
    known = store.find(deployment_id)
    return known is not None and known.status is OperationStatus.RUNNING and runner_of(known) == runner


async def _crash_runs(runs: Sequence[tuple[UUID, str]]) -> None:
    try:
        async with asyncio.timeout(_SERVER_TIMEOUT.total_seconds()), get_client() as client:
            for run, said in runs:
                try:
                    known = await client.read_flow_run(run)
                except ObjectNotFound:
                    # It ran on another server, such as a command's own.
                    continue
                if known.state is not None and not known.state.is_final():
                    await client.set_flow_run_state(run, Crashed(message=said), force=True)
    except (httpx.HTTPError, PrefectHTTPStatusError, TimeoutError, OSError) as error:
        log.info("runs of interrupted operations stay as they are on the server: %s", error or type(error).__name__)
