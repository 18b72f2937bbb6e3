"""One operation at a time on an environment: a lease that a dead holder loses by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.processes import is_alive
from models.failures import EnvironmentBusyError, LeaseLostError, StoreError
from models.operations import Runner
from models.records import LeaseResult
from tasks.stores import open_stores, stores_exist

log = logging.getLogger("roas")

LEASE = timedelta(seconds=60)
HEARTBEAT = timedelta(seconds=15)
"""A holder that missed three heartbeats is taken for dead."""

_ASK_AGAIN = timedelta(seconds=1)


@dataclass(slots=True)
class Hold:
    """A hold on an environment; `lost` is set once another took it, and then nothing may be done any more."""

    lost: LeaseLostError | None = None


@asynccontextmanager
async def hold_environment(
    environment: str, *, owner: str, reason: str, runner: Runner, wait: timedelta | None = None
) -> AsyncIterator[Hold]:
    """Hold an environment's lease while the body runs, renewing it until then.

    A holder whose process is gone from this machine loses it at once, any other by not renewing it. With
    `wait` a living holder is waited for that long. The body is cancelled where the lease is found taken.

    Raises:
        EnvironmentBusyError: Somebody else holds it; the message names who, why and since when.
        LeaseLostError: Another took it while the body ran.
    """
    await _take(environment, owner, reason, runner, wait or timedelta())
    hold, body = Hold(), asyncio.current_task()
    heartbeat = asyncio.create_task(_renew(environment, owner, runner))

    def give_up(ended: asyncio.Task[LeaseLostError]) -> None:
        if not ended.cancelled() and body is not None:
            hold.lost = ended.result()
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
        await _let_go(environment, owner, runner)
        if hold.lost is not None and body is not None:
            body.uncancel()
            raise hold.lost


def held_by(environment: str) -> str | None:
    """Who runs an operation on an environment now, why and since when; None where nobody does.

    A holder whose process is gone from this machine is nobody.

    Raises:
        StoreError: The store cannot be read.
    """
    lease = open_stores().deployments.lease(environment, datetime.now(UTC)) if stores_exist() else None
    if lease is None or _is_dead(lease):
        return None
    return _who(lease)


async def _take(environment: str, owner: str, reason: str, runner: Runner, wait: timedelta) -> None:
    store = open_stores().deployments
    deadline = datetime.now(UTC) + wait
    waits_for = None
    while True:
        asked = (environment, owner, reason)
        answer = await asyncio.to_thread(store.acquire_lease, *asked, datetime.now(UTC), LEASE, runner=runner)
        if not answer.acquired and _is_dead(answer):
            log.info("%s was held by %s, which is gone", environment, _who(answer))
            answer = await asyncio.to_thread(
                store.acquire_lease, *asked, datetime.now(UTC), LEASE, runner=runner, instead_of=answer
            )
        if answer.acquired:
            return
        now = datetime.now(UTC)
        if now >= deadline:
            raise EnvironmentBusyError(
                f"Environment {environment} is held by {_who(answer)};",
                advice="wait for it to end (--wait), or stop its run; a dead holder loses the lease by itself.",
            )
        if waits_for != answer.holder:
            waits_for = answer.holder
            log.info("waiting until %s at most for %s", f"{deadline:%H:%M:%S}", _who(answer))
        await asyncio.sleep(min(_ASK_AGAIN, deadline - now).total_seconds())


async def _renew(environment: str, owner: str, runner: Runner) -> LeaseLostError:
    """Renew until the lease is found to be another's, and tell whose."""
    store = open_stores().deployments
    while True:
        await asyncio.sleep(HEARTBEAT.total_seconds())
        try:
            held = await asyncio.to_thread(
                store.renew_lease, environment, owner, datetime.now(UTC), LEASE, runner=runner
            )
            if not held:
                other = await asyncio.to_thread(store.lease, environment, datetime.now(UTC))
                return LeaseLostError(
                    f"{owner} lost environment {environment} to {_who(other) if other else 'nobody'};",
                    advice="this machine stood still for a minute, or its clock was set; start again when it is free.",
                )
        except StoreError as error:
            # The lease outlives three missed renewals, so a store that is busy once costs nothing.
            log.warning("lease of %s not renewed: %s", environment, error)


async def _let_go(environment: str, owner: str, runner: Runner) -> None:
    try:
        await asyncio.to_thread(open_stores().deployments.release_lease, environment, owner, runner=runner)
    except StoreError as error:
        # It expires by itself, and how the operation ended matters more than this.
        log.warning("lease of %s not given back: %s", environment, error)


def _is_dead(lease: LeaseResult) -> bool:
    return lease.runner is not None and is_alive(lease.runner) is False


def _who(lease: LeaseResult) -> str:
    runner = f", {lease.runner}" if lease.runner is not None else ""
    return f"{lease.holder} ({lease.reason}{runner}) since {lease.acquired_at:%H:%M:%S} UTC"
