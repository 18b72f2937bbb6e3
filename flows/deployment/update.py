"""Update an application: fetch new images first, replace one service after the other, be back where one fails."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import Field

from core.deployment.hooks import data_warning
from core.deployment.release import may_have_run
from core.deployment.update import to_blame
from flows.common import parameters
from flows.common.identifiers import new_release_id
from flows.deployment.failure import escalate
from flows.deployment.gate import override_reason
from flows.deployment.rollback import StartRollback
from flows.deployment.startup import Startup
from flows.deployment.update_windows import skipped_update, unchanged_update
from flows.operation.recorder import ROLLING_BACK, OperationRecorder, OperationRequest, recorded
from models.compose import OF_UPDATE
from models.failures import BadInputError, RoasError, StartFailedError, ValidationFailedError
from models.operations import OperationType
from models.results import OperationResult
from tasks.deployment.proxies import CLOCKS
from tasks.deployment.release import failed_before, hold_back, inspect_release
from tasks.deployment.services import inspect_application, read_template

log = logging.getLogger("roas")


@flow(name="update", flow_run_name="update {environment}")
async def update(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    services: list[str] | None = Field(None, description="Only these services; without them all."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    plan: str | None = Field(
        None, description="The id that `roas plan --update` printed: do exactly that, or nothing."
    ),
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    now: bool = Field(False, description="Also outside of the environment's update windows."),
    override_gate: str | None = Field(
        None, description="Why the update may go on although the environment's gate refuses the images."
    ),
) -> OperationResult | State[Any]:
    """Pull and build new images, replace one service after the other, and prove each; or leave it as it served before.

    All images are fetched before a container is touched. It is recorded as a start. One that fails is rolled back like
    a start, and the image that failed is held back: no later update takes it until a user lifts that.

    Returns the recorded result; where validation found something critical the run ends Failed, and nothing was touched.
    A run that a schedule or an automation begins outside of the environment's update windows, or with the files and
    images with which the last update failed, ends as Skipped, and nothing is recorded.

    Raises:
        BadInputError: A named service does not exist, or needs another one that would have to be replaced first; or
            a person asks outside of the update windows.
        ComposeError: An image could not be pulled or built; nothing was touched.
        GateRefusedError: The environment's gate refuses the images; nothing was touched.
        StartFailedError: A service did not come up; no service after it was touched.
        PlanChangedError: The update would not do what `plan` says.
    """
    if plan is not None and services:
        raise BadInputError("A plan is of all services;", advice="give an update of some services no --plan.")
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    if not now and (skipped := await skipped_update(environment, request)) is not None:
        return skipped
    undo = UpdateRollback()
    only = frozenset(services) if services else None
    options = replace(OF_UPDATE, services=only)
    if (unchanged := await unchanged_update(environment, request, options)) is not None:
        return unchanged
    run = Startup(undo, plan, options, override_reason(override_gate))
    try:
        async with recorded(OperationType.START, environment, request, on_failure=escalate, rollback=undo) as recorder:
            recorder.facts["update"] = sorted(only) if only else "all"
            await run.run(recorder)
    except ValidationFailedError as error:
        return Failed(message=f"validation of {environment} failed: {error.what}", data=run.refused(error.what))
    return run.result()


class UpdateRollback(StartRollback):
    """Rolls back an update, and holds back the images that failed."""

    one_by_one = True

    async def __call__(self, recorder: OperationRecorder, error: Exception) -> None:
        """Hold back the failed images while their containers are there, and roll back.

        Raises:
            RoasError: It could not be rolled back.
        """
        if isinstance(error, StartFailedError) and ROLLING_BACK not in recorder.done:
            try:
                await self._hold_back(recorder, error)
            except RoasError as trouble:
                log.warning("the image that failed is not held back: %s", await recorder.without_secrets(trouble))
        snapshots = recorder.facts.get("snapshots")
        if snapshots and not recorder.facts.get("data") and await self._may_have_run(recorder):
            # The containers that the snapshot was taken for may have changed its data.
            recorder.facts["data"] = data_warning((), (), snapshots)
        if data := recorder.facts.get("data"):
            log.warning("%s", data)
        await super().__call__(recorder, error)

    async def _may_have_run(self, recorder: OperationRecorder) -> bool:
        """Whether a container of the new version may have run; True where that is not known."""
        if self.armed is None:
            return False
        if ROLLING_BACK in recorder.done:
            return True
        try:
            now = await inspect_application(await recorder.load())
        except RoasError as error:
            log.warning("which containers ran is not known: %s", await recorder.without_secrets(error))
            return True
        return may_have_run(self.armed[1].before, now, recorder.started_at - CLOCKS)

    async def _hold_back(self, recorder: OperationRecorder, error: StartFailedError) -> None:
        if self.armed is None:
            return
        application, _, release = self.armed
        environment, now = await recorder.load(), datetime.now(UTC)
        template = await read_template(environment, application)
        tried = await inspect_release(
            environment, application, template, new_release_id(now), recorder.deployment_id, now
        )
        blamed = to_blame(tried.images, release.images if release else None, error.service)
        if not blamed or await failed_before(recorder.deployment_id, environment.name):
            return
        reason = f"{', '.join(blamed)} failed: {recorder.facts.get('reason') or type(error).__name__}"
        digests = {name: tried.digests.get(name, tried.images[name]) for name in blamed}
        await hold_back(replace(tried, digests=digests, proven=False, reason=reason))
        recorder.facts["held_back"] = digests
        log.warning("held back until a user lifts it: %s", ", ".join(f"{n} {d}" for n, d in digests.items()))
