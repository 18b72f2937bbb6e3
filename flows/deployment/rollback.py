"""Rollback: bring back a release that was proven before, and prove it again."""

from __future__ import annotations

import asyncio
import logging

from prefect import flow
from pydantic import Field

from core.deployment.release import differences
from flows.deployment.execute import keep_proven
from flows.deployment.failure import escalate
from flows.deployment.operation import OperationRequest, recorded
from flows.deployment.roll_back_start import FOUND, StartRollback, apply_release
from flows.runtime import parameters
from models.operations import OperationType
from models.results import OperationResult
from tasks.deployment.release import choose_release
from tasks.deployment.services import proven_releases, read_application, snapshot_containers

log = logging.getLogger("roas")


@flow(name="rollback", flow_run_name="roll back {environment}")
async def rollback(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    release: str | None = Field(
        None, description="Its id, as `roas releases` lists it; without it the newest that is not what runs now."
    ),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
) -> OperationResult:
    """Bring an environment back to a proven release: the named one, or the newest that is not what runs now.

    It is recorded as a start of that release. Volumes are never touched; variables and mounted files are
    used as they are now. One that fails is undone like any start.

    Raises:
        NotFoundError: There is no such release, or none that differs from what runs.
        ReleaseError: The release cannot be applied any more.
        StartFailedError: A service of it did not come up.
    """
    undo = StartRollback()
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    async with recorded(OperationType.START, environment, request, on_failure=escalate, rollback=undo) as recorder:
        declared = await recorder.load()
        wanted, releases, application, found = await asyncio.gather(
            choose_release(declared, release),
            proven_releases(environment),
            read_application(declared),
            snapshot_containers(declared),
        )
        changes = differences(releases[0], wanted) if releases else ()
        recorder.facts |= {"rollback_to": wanted.release_id, "changes": list(changes)}
        log.info("rolling back to release %s: %s", wanted.release_id, "; ".join(changes) or "it is the latest one")
        await recorder.step(FOUND, detail=undo.arm(application, found, None))
        released, starts, health = await apply_release(recorder, declared, wanted)
        recorder.facts["health"] = str(health.overall)
        await keep_proven(recorder, declared, released, wanted.compose, of=wanted)
    return recorder.result(
        f"release {wanted.release_id} serves again: {len(starts)} services proven",
        services=starts,
        health=health,
    )
