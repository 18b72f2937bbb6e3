"""Life cycle: compress, clean up, archive, optimise, vacuum; each step is retried and repeated by itself."""

from __future__ import annotations

import logging

from adapters.stores.lifecycle import LifecycleStep
from prefect import flow

from tasks.retention import (
    archive_deployments_step,
    clean_errors_step,
    compress_monitoring_step,
    optimise_step,
    vacuum_step,
)

log = logging.getLogger("roas")


@flow(name="lifecycle", flow_run_name="lifecycle")
async def lifecycle(dry_run: bool = False) -> list[LifecycleStep]:
    """Carry out the five steps in order; with `dry_run` say what would go and change nothing.

    Raises:
        StoreError: A step failed after its retries; the steps before it are done, and repeating is safe.
    """
    results = []
    for step in (
        compress_monitoring_step,
        clean_errors_step,
        archive_deployments_step,
        optimise_step,
        vacuum_step,
    ):
        result = await step(dry_run=dry_run)
        log.info("%s", result)
        results.append(result)
    return results
