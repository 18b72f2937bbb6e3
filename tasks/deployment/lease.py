"""Hold an environment for one operation: the lease in the stores, and the lock of this machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from adapters.host.local_lock import LocalLock
from adapters.host.processes import is_alive, this_process
from adapters.stores import Stores
from adapters.stores.outages import OUTLAST
from adapters.stores.recovery_writes import ReleaseLease
from models.failures import (
    EnvironmentBusyError,
    LeaseLostError,
    StoreError,
    StoreUnreachableError,
)
from models.operations import (
    RECOVERY_OF,
    LeaseResult,
)
from models.operations.record import Runner
from models.records import RecoveryRecords
from models.settings import current_settings
from tasks.deployment.operations import RECOVERY_WAIT
from tasks.runtime.hosts import refuse_owner, this_host
from tasks.runtime.store_access import from_stores, outlives_stores, to_stores
from tasks.runtime.stores import open_stores, stores_exist

log = logging.getLogger("roas")

LEASE = timedelta(seconds=60)

HEARTBEAT = timedelta(seconds=15)
"""A holder that missed three heartbeats is taken for dead."""

_ASK_AGAIN = timedelta(seconds=1)


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


@contextmanager
def alone_in(environment: str, what: str) -> Iterator[str | None]:
    """Be the only "drill" or "rehearsal" of an environment on this host, by a lock that ends with the process; yields
    the other one."""
    lock = LocalLock(current_settings().data_dir.absolute() / "held" / f"{environment}.{what}.lock")
    try:
        yield lock.take(f"{this_process()} since {datetime.now(UTC):%H:%M:%S} UTC")
    finally:
        lock.release()


def holder_of(environment: str) -> str | None:
    """Who runs an operation on an environment now, why and since when; None where no process does.

    A holder whose process is gone from this machine does not count.

    Raises:
        StoreError: The store cannot be read.
    """
    return _living_owner(open_stores().leases.current(environment, datetime.now(UTC)) if stores_exist() else None)


async def who_holds(environment: str) -> str | None:
    """The same; while the stores are away, who held it when they were read last, or holds it on this machine."""

    def holder_in_memory(records: RecoveryRecords) -> str | None:
        return _holder_known(records, datetime.now(UTC)) or _local_lock(environment).holder()

    return await from_stores(
        lambda stores: _living_owner(stores.leases.current(environment, datetime.now(UTC))), holder_in_memory
    )


def _living_owner(lease: LeaseResult | None) -> str | None:
    return None if lease is None or _is_dead(lease) else _who(lease)


def _holder_known(records: RecoveryRecords, now: datetime) -> str | None:
    """Another process that held the environment when the stores were read last, and may do so still.

    Of this host it is none: who holds the environment here has its lock as well, which tells the present.
    """
    lease = records.lease
    if lease is None or lease.expires_at <= now or _is_ours(lease) or lease.host_id == this_host().host_id:
        return None
    return _living_owner(lease)


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
