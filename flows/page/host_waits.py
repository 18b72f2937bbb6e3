"""A run of this server that its host has not begun: how long it waits, and when the host was heard of last."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool

from core.runtime.host_waits import HostWait
from flows.page.prefect_runs import PrefectRuns

NOT_BEGUN = ("SCHEDULED", "PENDING")


def has_begun(run: Mapping[str, Any]) -> bool:
    """Whether a program runs it or has run it."""
    return (run.get("state") or {}).get("type") not in (None, *NOT_BEGUN)


async def host_wait(runs: PrefectRuns, environment: str, pool: str, asked_at: datetime) -> HostWait:
    """How it stands with a run of an environment that was asked of a work pool.

    Raises:
        RoasError: The server or the stores do not say.
    """
    from tasks.reporting.fleet import read_silence

    host, silence = await run_in_threadpool(read_silence, environment) or ("", None)
    return HostWait(
        host=host,
        silence=silence,
        pool=pool,
        has_worker=await runs.is_pool_ready(pool),
        waited=datetime.now(UTC) - asked_at,
    )
