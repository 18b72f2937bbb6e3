"""Update an application: fetch new images first, replace one service after the other, be back where one fails."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from core.deployment.hooks import data_warning
from core.deployment.release import may_have_run
from core.deployment.update import partial_template, to_blame
from core.reporting.timing import Phase
from flows.common import parameters
from flows.common.requester import require_consent
from flows.deployment.startup import FETCH, LOOK, REMEMBER, keep_evidence, keep_release, keep_template, prove, waves_of
from flows.execution.execute import start_in_order
from flows.execution.going_back import START_BACK
from flows.execution.interrupted_fetch import FETCHING_FOR_HOOKS
from flows.execution.overlap import replace_start_first
from flows.execution.turns import Turns
from flows.operation.recorder import OperationRequest
from flows.operation.steps import Step, operate
from flows.recovery.escalate import escalate
from flows.storage.snapshot import forget_where_possible
from flows.update.canary import USUAL, remember_usual_errors
from flows.update.context import CHANGING, Update
from flows.update.gate import JUDGED, check_gate, override_reason
from flows.update.held_back import keep_failed_release
from flows.update.hooks import fetch_for_hooks, name_hook_images, recall_data, run_after_hooks, run_before_hooks
from flows.update.release_notes import NOTED, note_what_changes
from flows.update.saved_data import save_before_update
from flows.update.windows import begun_by_itself, skipped_update, unchanged_update
from models.compose import OF_UPDATE
from models.failures import BadInputError, RoasError, StartFailedError, ValidationFailedError
from models.operations import DATA_SAVED
from models.records import Release
from models.results import OperationResult
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.proxies import CLOCKS
from tasks.deployment.release import inspect_release
from tasks.deployment.services import create_containers, inspect_application, read_template
from tasks.runtime.identifiers import new_release_id

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
    confirm: str = parameters.CONFIRM,
) -> OperationResult | State[Any]:
    """Pull and build new images, replace one service after the other, and prove each; or leave it as it served before.

    All images are fetched before a container is touched. It is recorded as a start. One that fails is rolled back like
    a start, and the image that failed is held back: no later update takes it until a user lifts that.

    Returns the recorded result; where validation found something critical the run ends Failed, and nothing was touched.
    A run that a schedule or an automation begins outside of the environment's update windows, or with the files and
    images with which the last update failed, ends as Skipped, and nothing is recorded.

    Raises:
        BadInputError: A named service does not exist, or needs another one that would have to be replaced first; or
            a person asks outside of the update windows; or it is locked, and `confirm` is not its name.
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
    options = replace(OF_UPDATE, services=frozenset(services) if services else None)
    if (unchanged := await unchanged_update(environment, request, options)) is not None:
        return unchanged
    run = Update(
        wanted_plan=plan,
        options=options,
        override_gate=override_reason(override_gate),
        begun_by_itself=begun_by_itself(request),
    )
    if deployment_id is None:
        await require_consent(environment, "update", confirm, asked_by)
    try:
        await operate(run, UPDATE, environment, request, on_failure=escalate, back=UPDATE_BACK)
    except ValidationFailedError as error:
        return run.refusal(error)
    return run.result()


async def note_what_is_asked(update: Update) -> None:
    """Note which services are to be updated.

    Raises:
        BadInputError: A person stopped the environment while a schedule's update waited for its turn.
    """
    update.record.update = tuple(sorted(update.options.services or ())) or "all"
    name, own = update.recorder.name, update.recorder.deployment_id
    if update.begun_by_itself and not update.recorder.done and not await is_meant_to_run(name, but=own):
        raise BadInputError(f"{name} was stopped on request meanwhile;", advice="start it with `roas start` first.")


async def ask_gate(update: Update) -> str | None:
    """Let the gate judge the fetched images; nothing that runs was touched.

    Raises:
        GateRefusedError: It refuses them; the images get their names back.
    """
    # Hooks run new images too, so the gate judges those as well.
    return await check_gate(await fetch_for_hooks(update))


async def decide_changes(update: Update) -> str:
    """Decide which services the update changes."""
    return json.dumps(update.changed_services)


async def keep_what_is_replaced(update: Update) -> None:
    """Keep evidence of what is replaced, and the configuration of the release; containers are made one by one."""
    log.info("updating %s", waves_of(update))
    update.template, _ = await asyncio.gather(keep_template(update), keep_evidence(update))
    if update.template is not None and update.scope is not None:
        unchanged_services = set(update.application.services) - update.scope
        update.template = partial_template(update.template, update.release, unchanged_services)


async def replace_in_turn(update: Update) -> None:
    """Replace one service after the other, and prove each before the next."""
    recorder, plan = update.recorder, update.plan

    async def create(service: str) -> str | None:
        if plan.service(service).start_first:
            return await replace_start_first(recorder, update.application, service)
        await create_containers.with_options(task_run_name=f"create {service}")(
            update.project, fetched=True, services=[service]
        )
        return None

    update.services = await start_in_order(recorder, update.part, planned=plan, turns=Turns(plan, create))


def _has_changes(update: Update) -> bool:
    return bool(update.changed_services)


def _will_change(update: Update) -> bool:
    return bool(update.plan.changes)


def _has_saved_data(update: Update) -> bool:
    return bool(update.record.snapshots)


def _compares_errors(update: Update) -> bool:
    return _has_changes(update) and any(hook.canary is not None for hook in update.environment.hooks.after)


UPDATE: tuple[Step[Update], ...] = (
    Step("note what is asked", note_what_is_asked, looks=True),
    *LOOK,
    *FETCH,
    Step(FETCHING_FOR_HOOKS, name_hook_images, Phase.FETCH, when=_will_change),
    Step(NOTED, note_what_changes, when=_has_changes),
    Step(JUDGED, ask_gate, Phase.FETCH, when=_will_change),
    REMEMBER,
    Step("recall data", recall_data, looks=True, when=lambda update: update.goes_back),
    Step(CHANGING, decide_changes, when=_has_changes),
    Step(DATA_SAVED, save_before_update, when=_has_changes),
    Step("forget old data", lambda update: forget_where_possible(update.project), when=_has_saved_data),
    Step(USUAL, remember_usual_errors, when=_compares_errors),
    Step("run hooks before", run_before_hooks, when=_has_changes),
    Step("keep what is replaced", keep_what_is_replaced, Phase.CREATE),
    Step("replace in turn", replace_in_turn, Phase.SERVICES),
    Step("prove", prove, Phase.PROOF),
    Step("run hooks after", run_after_hooks, when=_has_changes),
    Step("keep release", keep_release),
)
"""An update."""


async def hold_images_back(update: Update) -> None:
    """Hold the images back that failed, while their containers are there."""
    failure = update.failure

    async def tried() -> Release | None:
        service = failure.service if isinstance(failure, StartFailedError) else None
        release = await tried_release(update)
        blamed = to_blame(release.images, update.release.images if update.release else None, service)
        if not blamed:
            return None
        reason = f"{', '.join(blamed)} failed: {update.record.reason or type(failure).__name__}"
        digests = {name: release.digests.get(name, release.images[name]) for name in blamed}
        return replace(release, digests=digests, proven=False, reason=reason)

    await keep_failed_release(update.recorder, tried)


async def warn_of_data(update: Update) -> None:
    """Say what the containers of the new version may have done to data that was saved before."""
    record = update.record
    if record.snapshots and not record.data and await _may_have_run(update):
        # The containers that the snapshot was taken for may have changed its data.
        record.data = data_warning((), (), record.snapshots)
    if record.data:
        log.warning("%s", record.data)


def may_hold_back(update: Update) -> bool:
    """Whether the new version failed, and this was not looked at yet."""
    return update.armed and isinstance(update.failure, StartFailedError) and not update.goes_back


WARN_OF_DATA = Step("warn of data", warn_of_data)
UPDATE_BACK: tuple[Step[Update], ...] = (
    Step("hold images back", hold_images_back, when=may_hold_back),
    WARN_OF_DATA,
    *START_BACK,
)
"""How an update goes back."""


async def tried_release(update: Update) -> Release:
    """The release that failed, as it would have been kept."""
    now = datetime.now(UTC)
    application, deployment_id = update.application, update.recorder.deployment_id
    template = await read_template(update.project, application)
    return await inspect_release(update.project, application, template, new_release_id(now), deployment_id, now)


async def _may_have_run(update: Update) -> bool:
    """Whether a container of the new version may have run; True where that is not known."""
    if not update.armed:
        return False
    if update.goes_back:
        return True
    try:
        now = await inspect_application(update.project)
    except RoasError as error:
        log.warning("which containers ran is not known: %s", await update.recorder.without_secrets(error))
        return True
    return may_have_run(update.before.before, now, update.recorder.started_at - CLOCKS)
