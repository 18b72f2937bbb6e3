"""Open operations and record them: one at a time holds an environment, by a lease that a dead holder loses by itself.

An operation whose runner is gone is ended, so that it can be taken up again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from uuid import UUID

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed

from adapters.host.processes import is_alive
from adapters.stores import Stores
from adapters.stores.recovery_writes import FinishOperation
from adapters.stores.write_behind import replay_left
from adapters.stores.writes import Names
from core.deployment.desired_state import should_run
from core.deployment.interruption import find_orphans, interruption
from models.audit import Actor
from models.failures import (
    StoreConstraintError,
    StoreError,
)
from models.health import HealthReport
from models.operations import (
    Operation,
    OperationStatus,
    OperationStep,
    OperationType,
    StateChange,
)
from models.operations.record import INTERRUPTED, OperationRecord, Runner
from models.recovery import Ticket
from models.validation import ValidationResult
from tasks.recovery.records import cancel_runs_of
from tasks.runtime.hosts import has_other_hosts, this_host
from tasks.runtime.plain_tasks import has_server
from tasks.runtime.retry_policy import retry_read, retry_write
from tasks.runtime.store_access import journals_folder, leave_in_journal
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")


LONGEST_RECOVERY = timedelta(hours=1)
"""A recovery is bounded well below this; one that has not ended by then was cut off."""

_SERVER_TIMEOUT = timedelta(seconds=10)

_STARTS_BACK = 20


RECOVERY_WAIT = timedelta(seconds=60)
"""What a user or a schedule asks for waits so long for a recovery, which was not asked for and which is brief."""


@retry_write
async def begin_operation(operation: Operation) -> None:
    """Write that an operation has begun."""
    await asyncio.to_thread(open_stores().operations.begin, operation)


async def finish_operation(
    deployment_id: str,
    status: OperationStatus,
    ended_at: datetime,
    record: OperationRecord,
    *,
    settles: str | None = None,
    services: tuple[str, ...] | None = None,
) -> list[str]:
    """Write how an operation ended, and return the ids of the errors that it settled; see FinishOperation.

    While the stores stay away it is left in the journal of this host, and nothing is said to be settled.

    Raises:
        StoreConstraintError: The stores refuse it.
        StoreError: They do not take it, and neither does the disk of the journal.
    """
    write = FinishOperation(
        deployment_id=deployment_id,
        status=status,
        ended_at=ended_at,
        details=record,
        settles=settles,
        services=services,
    )
    try:
        answered, closed = await _finish(write)
    except StoreError as error:
        if isinstance(error, StoreConstraintError) or not await leave_in_journal(write):
            raise
        log.warning("how %s ended is recorded once the stores are back: %s", deployment_id, error.what)
        return []
    await cancel_runs_of(closed, write.why)
    return list(answered)


@retry_write
async def _finish(write: FinishOperation) -> tuple[tuple[str, ...], tuple[Ticket, ...]]:
    return await asyncio.to_thread(lambda: write.apply(open_stores(), Names()))


@retry_write
async def record_validation(deployment_id: str, result: ValidationResult) -> None:
    """Write what validation found."""
    await asyncio.to_thread(open_stores().progress.record_validation, deployment_id, result)


@retry_write
async def record_changes(changes: Sequence[StateChange], steps: Sequence[OperationStep] = ()) -> None:
    """Write which services went from which state to which, and why, and which steps are done with that."""
    await asyncio.to_thread(open_stores().progress.record_changes, list(changes), list(steps))


@retry_read
async def is_meant_to_run(environment: str, *, but: str | None = None) -> bool:
    """Whether the environment was not stopped on request, by its operations without the one of this deployment id."""
    recorded = await asyncio.to_thread(open_stores().operations.latest_recorded, environment)
    return should_run([operation for operation in recorded if operation.deployment_id != but])


@retry_read
async def last_states(environment: str) -> dict[str, str]:
    """The state recorded last of each service of an environment."""
    changes = await asyncio.to_thread(open_stores().progress.last_changes, environment)
    return {service: change.new_state for service, change in changes.items()}


@retry_write
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
    for operation, message in ended:
        log.warning("%s of %s %s", operation.kind, operation.environment, message)
    runs = [(operation.record.flow_run_id, message) for operation, message in ended]
    if any(run for run, _ in runs) and has_server():
        await _crash_runs([(UUID(run), message) for run, message in runs if run])
    now = now - await asyncio.to_thread(open_stores().hosts.skew)
    closed = await asyncio.to_thread(open_stores().recoveries.end_interrupted, now - LONGEST_RECOVERY, now)
    if closed:
        log.warning("%d recoveries were interrupted: their runner is gone", closed)
    return [operation.deployment_id for operation, _ in ended]


@retry_read
async def operation_of(environment: str, deployment_id: str | None, earlier_run: str | None) -> Operation | None:
    """The operation that this run ran before, else the one of exactly this id; None where there is none."""

    def find() -> Operation | None:
        stores = open_stores()
        operation = stores.operations.find_by_run(environment, earlier_run) if earlier_run else None
        return operation or (stores.operations.find(deployment_id) if deployment_id else None)

    return await asyncio.to_thread(find)


@retry_read
async def overtaking(operation: Operation) -> Operation | None:
    """The newest start, update, rollback or restore that was recorded after an operation and succeeded, else None."""
    recorded = await asyncio.to_thread(open_stores().operations.latest_recorded, operation.environment)
    later = takewhile(lambda other: other.deployment_id != operation.deployment_id, recorded)
    return next(
        (
            other
            for other in later
            if other.operation_type is OperationType.START and other.status is OperationStatus.SUCCESS
        ),
        None,
    )


@retry_write
async def take_up(
    deployment_id: str, runner: Runner, at: datetime, by: str, actor: Actor
) -> list[OperationStep] | None:
    """Let an interrupted operation run again; its finished steps, or None where it cannot be taken up."""

    def take() -> list[OperationStep] | None:
        stores = open_stores()
        if not stores.operations.resume(deployment_id, runner, at, by, actor, host_id=this_host().host_id):
            operation = stores.operations.find(deployment_id)
            runs = operation is not None and operation.status is OperationStatus.RUNNING
            if operation is None or not runs or operation.record.runner != runner:
                return None
            # A try before this one took it up, and only its answer was lost.
        return stores.progress.steps(deployment_id)

    return await asyncio.to_thread(take)


@retry_write
async def record_step(deployment_id: str, step: str, service: str | None, at: datetime, detail: str) -> None:
    """Write that a step is done and need not be done again."""
    await asyncio.to_thread(open_stores().progress.finish_step, deployment_id, step, service, at, detail)


@retry_read
async def interrupted_steps(environment: str, besides: str, deciding: frozenset[str]) -> list[OperationStep]:
    """The steps of the last starts that were interrupted and have not gone on, the newest first.

    They go back to the last start that decided what image names refer to: it did one of the steps `deciding`, or it
    succeeded and was no rollback and no restore of data, which prove nothing of what names refer to. `besides` is the
    operation that asks; its own steps are not given back.
    """

    def find() -> list[OperationStep]:
        stores, found = open_stores(), []
        for operation in stores.operations.history(environment, OperationType.START, limit=_STARTS_BACK):
            steps = stores.progress.steps(operation.deployment_id)
            if operation.record.interrupted and operation.deployment_id != besides:
                found += steps
            has_succeeded = operation.status is OperationStatus.SUCCESS
            if deciding & {step.step for step in steps} or (
                has_succeeded and operation.kind not in ("rollback", "restore")
            ):
                break
        return found

    return await asyncio.to_thread(find)


@retry_read
async def ended_operations(environment: str) -> list[Operation]:
    """The latest operations of an environment that have ended, newest first."""
    operations = await asyncio.to_thread(open_stores().operations.latest_recorded, environment)
    return [operation for operation in operations if operation.ended_at is not None]


@retry_write
async def let_run(deployment_id: str) -> None:
    """Write that an operation that waited for its environment has begun."""
    await asyncio.to_thread(open_stores().operations.mark_running, deployment_id)


def _own_operations(stores: Stores, operations: list[Operation]) -> list[Operation]:
    """Operations of environments that belong to no other host; on the control plane also to one that is gone.

    A host that was only not heard of may be well: after an outage of the stores none has reported yet.
    """
    if not operations or not has_other_hosts():
        return operations
    here, owners = this_host().host_id, stores.hosts.bindings()
    other_hosts = {owner.host_id for owner in owners.values()} - {here}
    if other_hosts and not stores.is_restricted:
        other_hosts &= {host.host_id for host in stores.hosts.all() if not host.is_gone}
    return [
        operation
        for operation in operations
        if (owner := owners.get(operation.environment)) is None or owner.host_id not in other_hosts
    ]


def _end_orphans(environment: str | None, now: datetime) -> list[tuple[Operation, str]]:
    stores = open_stores()
    unfinished = _own_operations(stores, stores.operations.list_running(environment))
    runners = (operation.record.runner for operation in unfinished)
    alive = {runner: is_alive(runner) for runner in runners if runner is not None}
    ended = []
    # A host whose clock is wrong must not take the living operations of others for dead.
    by_database = now - stores.hosts.skew()
    for operation in find_orphans(unfinished, stores.leases.list_held(now, environment), alive, by_database):
        message = interruption(operation, stores.progress.steps(operation.deployment_id))
        advice = f"`roas resume {operation.deployment_id}` goes on from there; a new start begins afresh."
        record = OperationRecord(interrupted=message, reason=message, advice=advice, error=INTERRUPTED)
        # Its fault may be undone already, and then nothing else would end its record.
        if (drill := operation.record.drill) is not None and drill.passed is None:
            record.drill = drill.cut_off()
        # Another process may have ended it at this moment, and then reports it.
        if stores.operations.finish(operation.deployment_id, OperationStatus.FAILED, now, record):
            ended.append((operation, message))
    return ended


async def _crash_runs(runs: Sequence[tuple[UUID, str]]) -> None:
    try:
        async with asyncio.timeout(_SERVER_TIMEOUT.total_seconds()), get_client() as client:
            for run, message in runs:
                try:
                    flow_run = await client.read_flow_run(run)
                except ObjectNotFound:
                    # It ran on another server, such as a command's own.
                    continue
                if flow_run.state is not None and not flow_run.state.is_final():
                    await client.set_flow_run_state(run, Crashed(message=message), force=True)
    except (httpx.HTTPError, PrefectHTTPStatusError, TimeoutError, OSError) as error:
        log.info("runs of interrupted operations stay as they are on the server: %s", error or type(error).__name__)
