"""Life cycle: compress, clean up, archive, optimise, vacuum, clear away; each step is repeated by itself."""

from __future__ import annotations

import logging

from prefect import flow
from pydantic import Field

from flows.common.server_outages import keep_runs_without_lease
from models.storage import LifecycleStep
from tasks.storage.retention import STEPS

log = logging.getLogger("roas")
keep_runs_without_lease()


@flow(name="lifecycle", flow_run_name="lifecycle")
async def lifecycle(
    dry_run: bool = Field(False, description="On: say what would go, change nothing."),
) -> list[LifecycleStep]:
    """Carry out the steps in order; with `dry_run` say what would go and change nothing.

    Raises:
        StoreError: A step failed after its retries; the steps before it are done, and repeating is safe.
    """
    results = []
    for step in STEPS:
        result = await step(dry_run)
        log.info("%s", result)
        results.append(result)
    return results
