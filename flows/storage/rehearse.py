"""Rehearse: restore a snapshot where nothing uses it, and ask what it holds."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from adapters.host.processes import this_process
from core.storage.snapshots import choose_snapshot
from flows.common import parameters
from flows.common.requester import requester
from models.failures import RoasError
from models.snapshots import DataSnapshot, Rehearsal
from tasks.deployment.lease import hold_environment
from tasks.deployment.services import read_application
from tasks.recovery.notify import SNAPSHOT_FAILED, announce
from tasks.runtime.project import load_project
from tasks.storage.snapshots import parts_declared, record_rehearsal, rehearse_part, snapshots_of

log = logging.getLogger("roas")


@flow(name="rehearse", flow_run_name="rehearse a restore of {environment}")
async def rehearse(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    snapshot: str | None = Field(None, description="Its id, as `roas snapshot list` shows it; without it the newest."),
    asked_by: str | None = parameters.ASKED_BY,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
) -> DataSnapshot:
    """Restore each part of a snapshot into a scratch container or file, ask what it has, and record that.

    What runs is left alone. Returns the snapshot with the result, which may be that it cannot be restored.

    Raises:
        NotFoundError: There is no such snapshot that is whole.
    """
    project = await load_project(environment, ())
    target = choose_snapshot(await snapshots_of(environment), snapshot, environment)
    asker, _ = requester(asked_by)
    runner, wait = this_process(str(flow_run.get_id() or "")), timedelta(seconds=wait_seconds)
    owner = f"rehearsal-{target.snapshot_id}"
    async with hold_environment(environment, owner=owner, reason=f"rehearsal by {asker}", runner=runner, wait=wait):
        application = await read_application(project)
        began, contents, problem = time.monotonic(), {}, ""
        try:
            for data in parts_declared(project.environment, target):
                contents[data.name] = await rehearse_part(project, application, data, target)
                log.info("%s was restored: %s", data.name, contents[data.name])
        except RoasError as error:
            problem = project.redactor().text(error.what)
            log.error("snapshot %s cannot be restored: %s", target.snapshot_id, problem)
            announce(SNAPSHOT_FAILED, environment, text=f"rehearsal of {target.snapshot_id}: {problem}")
        result = Rehearsal(ok=not problem, seconds=round(time.monotonic() - began, 3), found=contents, problem=problem)
        await record_rehearsal(target, datetime.now(UTC), result)
    return next(
        candidate for candidate in await snapshots_of(environment) if candidate.snapshot_id == target.snapshot_id
    )
