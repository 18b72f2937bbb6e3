"""Open operations and record them: one at a time holds an environment, by a lease that a dead holder loses by itself.

An operation whose runner is gone is ended, so that it can be taken up again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed

from adapters.host.local_lock import LocalLock
from adapters.host.processes import is_alive, this_process
from adapters.stores import Stores
from adapters.stores.outages import OUTLAST
from adapters.stores.recovery_writes import FinishOperation, ReleaseLease
from adapters.stores.write_behind import leave_for_later, replay_left
from adapters.stores.writes import Names
from core.deployment.interruption import find_orphans, interruption
from models.audit import Actor
from models.failures import (
    EnvironmentBusyError,
    LeaseLostError,
    StoreConstraintError,
    StoreError,
    StoreUnreachableError,
)
from models.health import HealthReport
from models.operations import (
    RECOVERY_OF,
    LeaseResult,
    Operation,
    OperationStatus,
    OperationStep,
    OperationType,
    StateChange,
)
from models.operations.record import INTERRUPTED, OperationRecord, Runner
from models.records import RecoveryRecords
from models.recovery import Ticket
from models.settings import current_settings
from models.validation import ValidationResult
from tasks.recovery.records import cancel_runs_of
from tasks.runtime.hosts import has_other_hosts, refuse_owner, this_host
from tasks.runtime.plain_tasks import has_server
from tasks.runtime.retry_policy import retry_read, retry_write
from tasks.runtime.store_access import from_stores, journals_folder, outlives_stores, to_stores
from tasks.runtime.stores import open_stores, stores_exist

log = logging.getLogger("roas")

LEASE = timedelta(seconds=60)
HEARTBEAT = timedelta(seconds=15)
"""A holder that missed three heartbeats is taken for dead."""

_ASK_AGAIN = timedelta(seconds=1)

LONGEST_RECOVERY = timedelta(hours=1)
"""A recovery is bounded well below this; one that has not ended by then was cut off."""

_SERVER_TIMEOUT = timedelta(seconds=10)

_STARTS_BACK = 20


RECOVERY_WAIT = timedelta(seconds=60)
"""What a user or a schedule asks for waits so long for a recovery, which was not asked for and which is brief."""


@dataclass(slots=True)
class LeaseHold:
    """A hold on an environment; `lost` is set once another took it, and then nothing may be done any more."""

    lost: LeaseLostError | None = None


@asynccontextmanager
async def hold_environment(
    environment: str, *, owner: str, reason: str, runner: Runner, wait: timedelta = timedelta()
) -> AsyncIterator[LeaseHold]:
    """Hold an environment's lease while the body runs, renewing it until then.

    A holder whose process is gone from this machine loses it at once, any other by not renewing it. With
    `wait` a living holder is waited for that long, and a recovery for `RECOVERY_WAIT` in any case, except by another
    recovery. The body is cancelled where the lease is found taken, or could not be renewed until it had expired.

    Raises:
        WrongHostError: It belongs to another host.
        EnvironmentBusyError: Another process holds it; the message names who, why and since when.
        LeaseLostError: Another took it while the body ran, or it expired.
    """
    here = await _take(environment, owner, reason, runner, wait)
    hold, body = LeaseHold(), asyncio.current_task()
    heartbeat = asyncio.create_task(_renew(environment, owner, reason, runner))

    def give_up(ended: asyncio.Task[LeaseLostError]) -> None:
        if body is not None:
            hold.lost = (
                _expiry_error(environment, owner, "its renewal was cancelled") if ended.cancelled() else ended.result()
            )
            log.error("%s", hold.lost)
            body.cancel()

    heartbeat.add_done_callback(give_up)
    try:
        yield hold
    finally:
        heartbeat.remove_done_callback(give_up)
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat
        try:
            await _let_go(environment, owner, runner)
        finally:
            here.release()
        if hold.lost is not None and body is not None:
            body.uncancel()
            raise hold.lost


def holder_of(environment: str) -> str | None:
    """Who runs an operation on an environment now, why and since when; None where no process does.

    A holder whose process is gone from this machine does not count.

    Raises:
        StoreError: The store cannot be read.
    """
    return _living(open_stores().leases.current(environment, datetime.now(UTC)) if stores_exist() else None)


async def who_holds(environment: str) -> str | None:
    """The same; while the stores are away, who held it when they were read last, or holds it on this machine."""

    def holder_in_memory(records: RecoveryRecords) -> str | None:
        return _holder_known(records, datetime.now(UTC)) or _local_lock(environment).holder()

    return await from_stores(
        lambda stores: _living(stores.leases.current(environment, datetime.now(UTC))), holder_in_memory
    )


def _living(lease: LeaseResult | None) -> str | None:
    return None if lease is None or _is_dead(lease) else _who(lease)


def _holder_known(records: RecoveryRecords, now: datetime) -> str | None:
    """Another process that held the environment when the stores were read last, and may do so still.

    Of this host it is none: who holds the environment here has its lock as well, which tells the present.
    """
    lease = records.lease
    if lease is None or lease.expires_at <= now or _is_ours(lease) or lease.host_id == this_host().host_id:
        return None
    return _living(lease)


def _is_ours(lease: LeaseResult) -> bool:
    process = attrgetter("kernel", "pid", "process_started")
    return lease.runner is not None and process(lease.runner) == process(this_process())


def _local_lock(environment: str) -> LocalLock:
    return LocalLock(current_settings().data_dir.absolute() / "held" / f"{environment}.lock")


async def _take(environment: str, owner: str, reason: str, runner: Runner, wait: timedelta) -> LocalLock:
    """Take the lease, and the lock of this machine with it, which alone protects while the stores are away."""
    began = datetime.now(UTC)
    lock, waits_for = _local_lock(environment), None
    while True:
        refused_by = await _acquire(environment, owner, reason, runner)
        if refused_by is None:
            holder = f"{owner} ({reason}, {runner}) since {datetime.now(UTC):%H:%M:%S} UTC"
            refused_by = await asyncio.to_thread(lock.take, holder)
            if refused_by is None:
                return lock
            await _let_go(environment, owner, runner)
        now = datetime.now(UTC)
        behind_recovery = f"({RECOVERY_OF} " in refused_by and not reason.startswith(RECOVERY_OF)
        deadline = began + (max(wait, RECOVERY_WAIT) if behind_recovery else wait)
        if now >= deadline:
            raise EnvironmentBusyError(
                f"Environment {environment} is held by {refused_by};",
                advice="wait for it to end (--wait), or stop its run; if its process has died, the environment is free "
                "within a minute.",
            )
        if waits_for != refused_by:
            waits_for = refused_by
            log.info("waiting until %s at most for %s", f"{deadline:%H:%M:%S}", refused_by)
        await asyncio.sleep(min(_ASK_AGAIN, deadline - now).total_seconds())


async def _acquire(environment: str, owner: str, reason: str, runner: Runner) -> str | None:
    """Take the lease; who has it where it was refused, else None."""
    no_longer_awaited = False

    def acquire(stores: Stores) -> str | None:
        request = (environment, owner, reason)
        # Moved since it was asked first, it is refused before anything is done.
        refuse_owner(environment, stores.hosts.owner(environment))
        identity: dict[str, Any] = {"runner": runner, "host_id": this_host().host_id}
        answer = stores.leases.acquire(*request, datetime.now(UTC), LEASE, **identity)
        if not answer.acquired and _is_dead(answer):
            log.info("%s was held by %s, which is gone", environment, _who(answer))
            answer = stores.leases.acquire(*request, datetime.now(UTC), LEASE, **identity, instead_of=answer)
        if answer.acquired and no_longer_awaited:
            # The store answered too late; meanwhile the lock of this machine protected the environment.
            stores.leases.release(environment, owner, runner=runner)
        return None if answer.acquired else _who(answer)

    def holder_in_memory(records: RecoveryRecords) -> str | None:
        nonlocal no_longer_awaited
        no_longer_awaited = True
        refuse_owner(environment, records.host_id)
        return _holder_known(records, datetime.now(UTC))

    return await from_stores(acquire, holder_in_memory)


async def _renew(environment: str, owner: str, reason: str, runner: Runner) -> LeaseLostError:
    """Renew until another holds the lease, or it expired without a renewal; returns the error that says so."""

    def renew(stores: Stores) -> LeaseLostError | None:
        now = datetime.now(UTC)
        if stores.leases.renew(environment, owner, now, LEASE, runner=runner):
            return None
        other = stores.leases.current(environment, now)
        if other is None and outlives:
            # It was taken while the stores were away, by the lock of this machine alone.
            identity: dict[str, Any] = {"runner": runner, "host_id": this_host().host_id}
            other = stores.leases.acquire(environment, owner, reason, now, LEASE, **identity)
            if other.acquired:
                return None
        return LeaseLostError(
            f"{owner} lost environment {environment} to {_who(other) if other else 'no other holder'};",
            advice="this machine stood still for a minute, or its clock was set; start again when it is free.",
        )

    outlives, renewed = outlives_stores(), time.monotonic()
    while True:
        await asyncio.sleep(HEARTBEAT.total_seconds())
        began = time.monotonic()
        try:
            loss = await from_stores(renew, lambda _: None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the body must not go on without a lease
            # The lease outlives three missed renewals, so a store that is busy once costs nothing. While the stores
            # are away no other can take it, and an operation waits for them.
            log.warning("lease of %s not renewed: %s", environment, error or type(error).__name__)
            lasts = max(LEASE, OUTLAST) if isinstance(error, StoreUnreachableError) else LEASE
            if began - renewed >= lasts.total_seconds():
                return _expiry_error(environment, owner, f"it could not be renewed: {error or type(error).__name__}")
            continue
        if loss is not None:
            return loss
        renewed = began


def _expiry_error(environment: str, owner: str, why: str) -> LeaseLostError:
    return LeaseLostError(
        f"{owner} holds environment {environment} no longer, because {why.rstrip(';.')};",
        advice=f"`roas history {owner}` says how far it came; `roas db check` looks at the stores.",
    )


async def _let_go(environment: str, owner: str, runner: Runner) -> None:
    write = ReleaseLease(environment=environment, owner=owner, runner=runner)
    try:
        await to_stores(write)
    except StoreError as error:
        # It expires by itself, and how the operation ended matters more than this.
        log.warning("lease of %s not given back: %s", environment, error)


def _is_dead(lease: LeaseResult) -> bool:
    return lease.runner is not None and is_alive(lease.runner) is False


def _who(lease: LeaseResult) -> str:
    runner = f", {lease.runner}" if lease.runner is not None else ""
    return f"{lease.holder} ({lease.reason}{runner}) since {lease.acquired_at:%H:%M:%S} UTC"


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
        if isinstance(error, StoreConstraintError):
            raise
        await asyncio.to_thread(leave_for_later, write, journals_folder())
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
async def interrupted_steps(environment: str, besides: str) -> list[OperationStep]:
    """The steps of the last start that did anything, where it was interrupted and has not gone on; else none.

    `besides` is the operation that asks.
    """

    def find() -> list[OperationStep]:
        stores = open_stores()
        starts = stores.operations.history(environment, OperationType.START, limit=_STARTS_BACK)
        for operation in starts:
            if operation.deployment_id == besides:
                continue
            if steps := stores.progress.steps(operation.deployment_id):
                return steps if operation.record.interrupted else []
        return []

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


def _ours_to_end(stores: Stores, operations: list[Operation]) -> list[Operation]:
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
    unfinished = _ours_to_end(stores, stores.operations.running(environment))
    runners = (operation.record.runner for operation in unfinished)
    alive = {runner: is_alive(runner) for runner in runners if runner is not None}
    ended = []
    # A host whose clock is wrong must not take the living operations of others for dead.
    by_database = now - stores.hosts.skew()
    for operation in find_orphans(unfinished, stores.leases.list_held(now, environment), alive, by_database):
        message = interruption(operation, stores.progress.steps(operation.deployment_id))
        advice = f"`roas resume {operation.deployment_id}` goes on from there; a new start begins afresh."
        record = OperationRecord(interrupted=message, reason=message, advice=advice, error=INTERRUPTED)
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
