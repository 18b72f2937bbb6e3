"""Life cycle: compress, clean up, archive, optimise, vacuum; each step is retried and repeated by itself."""

from __future__ import annotations

import logging

from prefect import flow
from pydantic import Field

from models.retention import LifecycleStep
from tasks.retention import archive_deployments, clean_errors, compress_monitoring, optimise, vacuum

log = logging.getLogger("roas")

_STEPS = (compress_monitoring, clean_errors, archive_deployments, optimise, vacuum)


@flow(name="lifecycle", flow_run_name="lifecycle")
async def lifecycle(
    dry_run: bool = Field(False, description="On: say what would go, change nothing."),
) -> list[LifecycleStep]:
    """Carry out the five steps in order; with `dry_run` say what would go and change nothing.

    Raises:
        StoreError: A step failed after its retries; the steps before it are done, and repeating is safe.
    """
    results = []
    for step in _STEPS:
        result = await step(dry_run)
        log.info("%s", result)
        results.append(result)
    return results
