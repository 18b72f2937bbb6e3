"""One operation at a time on an environment: a lease that a dead holder loses by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from models.failures import EnvironmentBusyError, StoreError
from tasks.stores import open_stores

log = logging.getLogger("roas")

LEASE = timedelta(seconds=60)
HEARTBEAT = timedelta(seconds=15)
"""A holder that missed three heartbeats is taken for dead."""


@asynccontextmanager
async def hold_environment(environment: str, *, owner: str, reason: str) -> AsyncIterator[None]:
    """Hold an environment's lease while the body runs, renewing it until then.

    Raises:
        EnvironmentBusyError: Somebody else holds it; the message names who, why and until when.
    """
    log_store = open_stores().deployments
    answer = await asyncio.to_thread(log_store.acquire_lease, environment, owner, reason, datetime.now(UTC), LEASE)
    if not answer.acquired:
        raise EnvironmentBusyError(
            f"Environment {environment} is held by {answer.holder} ({answer.reason}) "
            f"until {answer.expires_at:%H:%M:%S};",
            advice="wait for it to end, or stop its run; a dead holder loses the lease by itself.",
        )
    heartbeat = asyncio.create_task(_renew(environment, owner))
    try:
        yield
    finally:
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat
        await asyncio.to_thread(log_store.release_lease, environment, owner)


async def _renew(environment: str, owner: str) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT.total_seconds())
        try:
            await asyncio.to_thread(open_stores().deployments.renew_lease, environment, owner, datetime.now(UTC), LEASE)
        except StoreError as error:
            # The lease outlives three missed renewals, so a store that is busy once costs nothing.
            log.warning("lease of %s not renewed: %s", environment, error)
