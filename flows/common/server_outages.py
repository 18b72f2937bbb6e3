"""Outlive a Prefect server that is away: what Prefect gives up after seconds goes on until the server is back.

A worker or runner that cannot ask for work ends after some failed tries, and with it all runs that it carries; a run
whose concurrency lease cannot be renewed, or was forgotten by the server, is cancelled. Prefect has no setting for
either.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any
from uuid import UUID

log = logging.getLogger("roas")

_GIVEN_UP = "Service exceeded error threshold."


def keep_asking_the_server() -> None:
    """Let a worker or runner of this process ask for work again and again, however long its server is away."""
    for name in ("prefect.workers.base", "prefect.runner._scheduled_run_poller"):
        module = importlib.import_module(name)
        loop = module.critical_service_loop
        if not getattr(loop, "outlives_server", False):
            module.critical_service_loop = _without_end(loop)  # type: ignore[attr-defined]


def call_unsynced_workers_unhealthy() -> None:
    """Let a worker of this process be healthy once it knows its work pool: before it takes no runs, which Prefect's
    own answer leaves out, so that one that starts while its server is away would stay healthy.
    """
    worker = importlib.import_module("prefect.workers.base").BaseWorker
    is_polling = worker.is_worker_still_polling

    @wraps(is_polling)
    def is_synced_and_polling(self: Any, query_interval_seconds: float) -> bool:
        return bool(self._has_successfully_synced and is_polling(self, query_interval_seconds))

    worker.is_worker_still_polling = is_synced_and_polling


def keep_runs_without_lease() -> None:
    """Let runs of this process go on where the server does not renew the lease of their concurrency limit.

    Our own lease of an environment keeps two operations apart, whatever the server knows.
    """
    module = importlib.import_module("prefect.flow_engine")
    maintain: Callable[..., AbstractAsyncContextManager[None]] = module.amaintain_concurrency_lease

    if getattr(maintain, "outlives_server", False):
        return

    @wraps(maintain)
    def maintain_and_go_on(lease_id: UUID, lease_duration: float, **_: Any) -> AbstractAsyncContextManager[None]:
        return maintain(lease_id, lease_duration, raise_on_lease_renewal_failure=False)

    maintain_and_go_on.outlives_server = True  # type: ignore[attr-defined]
    module.amaintain_concurrency_lease = maintain_and_go_on  # type: ignore[attr-defined]


def _without_end(loop: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(loop)
    async def without_end(*args: Any, run_once: bool = False, **settings: Any) -> None:
        while True:
            try:
                await loop(*args, run_once=run_once, **settings)
            except RuntimeError as error:
                if run_once or str(error) != _GIVEN_UP:
                    raise
                log.warning("the Prefect server is away; asking it again until it answers")
            else:
                return

    without_end.outlives_server = True  # type: ignore[attr-defined]
    return without_end
