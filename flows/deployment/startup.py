"""Start an application: validate, plan, execute in order, verify health, keep the release; roll back a failure."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from core.deployment.hooks import later_data_warning
from core.deployment.images import unplanned_services
from core.deployment.plan import plan_id, refuse_paused, start_waves
from core.deployment.release import Document, is_there, replaced_services
from core.deployment.update import narrow_plan, update_scope
from core.deployment.validate import refused_service, validate
from core.reporting.timing import Phase
from flows.common import parameters
from flows.common.needs import wait_for_needs
from flows.common.phases import begin_phase
from flows.execution.execute import keep_proven, start_in_order, verify
from flows.execution.going_back import START_BACK, recall_before, remember
from flows.execution.interrupted_fetch import FETCHING, names_before, settle_interrupted
from flows.execution.overlap import settle_replacements
from flows.execution.start import Start
from flows.operation.recorder import OperationRequest
from flows.operation.steps import Step, operate
from flows.recovery.escalate import escalate
from models.compose import Application, FetchKind, FetchOptions
from models.failures import BadInputError, ComposeError, PlanChangedError, ValidationFailedError
from models.operations import FOUND
from models.results import OperationResult
from tasks.deployment.application_copy import end_left_copy
from tasks.deployment.configuration import refuse_broken_configurations
from tasks.deployment.hooks import end_left_hooks
from tasks.deployment.images import fetch_images, image_names, keep_equal_images, leave_images
from tasks.deployment.operations import record_validation
from tasks.deployment.proxies import answers_through, prove_through
from tasks.deployment.proxy_trials import refuse_lost_routes
from tasks.deployment.release import changed_variables, may_have_changed_data
from tasks.deployment.services import (
    PlannedStart,
    create_containers,
    gather_facts,
    inspect_application,
    plan_start,
    proven_releases,
    read_template,
    snapshot_containers,
)
from tasks.errors.evidence import take_evidence
from tasks.storage.restores import refuse_half_restored
from tasks.storage.snapshots import end_own_pauses

log = logging.getLogger("roas")

CREATED = "created"
"""Step of a start: its containers are made."""


@flow(name="startup", flow_run_name="start {environment}")
async def startup(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    plan: str | None = Field(None, description="The id that `roas plan` printed: do exactly that, or nothing."),
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    pull: bool = Field(False, description="Pull every image first, whatever its pull policy, except never."),
    build: bool = Field(False, description="Build every image that has a build section first."),
) -> OperationResult | State[Any]:
    """Start an environment's application and prove that it serves, or leave it as it served before.

    `plan` is the id that `roas plan` printed: where the start would now do anything else, it stops before it
    touches anything. `pull` and `build` fetch images that their pull policies would leave as they are.
    `wait_seconds` is how long to wait for another operation on the environment to end. `compose_files` start an
    application that has no environment file; `environment` is then its project.

    A start that fails is rolled back to the last proven release; where there is none, or a person had stopped the
    environment, to the state before it.
    It is recorded as failed all the same, with how it was rolled back.

    Returns the recorded result; where validation found something critical the run ends Failed with the
    result, its findings in `errors`, as its data, and nothing was touched.

    Raises:
        StartFailedError: A service did not come up in time, or a required one is not healthy.
        PlanChangedError: The start would not do what `plan` says.
        RoasError: Whatever else failed; recorded and handed to error recovery before it is raised.
    """
    begin_phase(Phase.RECORD)
    start = Start(wanted_plan=plan, options=FetchOptions(pull=pull, build=build))
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    try:
        await operate(start, START, environment, request, on_failure=escalate, back=START_BACK)
    except ValidationFailedError as error:
        return start.refusal(error)
    return start.result()


async def look(start: Start) -> None:
    """Load the environment, wait for what it needs of others, and gather the facts that validation judges.

    Raises:
        NeedDownError: Another environment that it needs is down.
    """
    await start.recorder.open()
    await refuse_half_restored(start.recorder.environment, start.recorder.deployment_id)
    await end_own_pauses(start.environment)
    await end_left_copy(start.project)
    if not start.goes_back:
        # Before the facts: a need's start may make the network that both are in.
        await wait_for_needs(start.environment)
    start.looked = await gather_facts(start.project)


async def check(start: Start) -> None:
    """Judge the facts; nothing was touched yet.

    Raises:
        ValidationFailedError: Something is critical.
    """
    facts, environment, recorder = start.looked, start.environment, start.recorder
    validation = start.validation = validate(facts, datetime.now(UTC), recorder.redactor.text)
    await record_validation(recorder.deployment_id, validation)
    if not validation.passed:
        raise ValidationFailedError(
            "; ".join(check.finding for check in validation.critical),
            advice=" ".join(dict.fromkeys(check.fix for check in validation.critical if check.fix)),
            service=refused_service(validation, facts.declared if isinstance(facts.declared, Application) else None),
        )
    start.application = facts.application
    await end_left_hooks(start.project, facts.container_states, recorder.deployment_id)
    passed, warned = len(validation.checks) - len(validation.failed_checks), len(validation.failed_checks)
    warnings = f", {warned} warning{'s' if warned != 1 else ''}" if warned else ""
    log.info("%s: %d checks passed%s", environment.name, passed, warnings)


async def settle(start: Start) -> None:
    """Finish or undo what an interrupted operation has half done."""
    recorder, states = start.recorder, start.looked.container_states
    await settle_replacements(recorder, start.application, back=start.goes_back, container_states=states)
    start.names_before = await settle_interrupted(recorder)


async def make_plan(start: Start) -> None:
    """Decide what to do, and find the state to go back to.

    Raises:
        PlanChangedError: It is not what the plan says that was asked for.
        PausedError: A person paused a service of it.
    """
    recorder, environment, application = start.recorder, start.environment, start.application
    planned, snapshot, releases = await asyncio.gather(
        _plan(start, start.options), snapshot_containers(start.project), proven_releases(environment.name)
    )
    start.plan, start.builds = planned.plan, planned.builds
    scope = start.scope if start.scope is not None else application.services.keys()
    # Also where it is taken up again: a person may have paused one since.
    refuse_paused(start.looked.container_states, scope, start.noun)
    if planned.inputs:
        start.record.inputs = planned.inputs
    if not recorder.steps:
        _refuse_other_volumes(start)
    # An operation that is taken up again has done part of its plan, so the plan of the rest differs.
    if not recorder.steps:
        _refuse_another_plan(start)
    _record_plan(start, compared=bool(releases))
    for line in start.plan.services:
        if line.note:
            log.warning("%s: %s", line.service, line.note)
    earlier = recorder.step_detail(FOUND)
    start.before, start.release = recall_before(earlier) if earlier else snapshot, releases[0] if releases else None
    if start.release is not None and (values := await changed_variables(start.project, start.release)):
        log.warning("%s changed since release %s", ", ".join(values), start.release.release_id)


async def name_images(start: Start) -> str | None:
    """Decide which images the names refer to again where the operation goes back."""
    recorder, fetches = start.recorder, start.plan.fetches
    if names := names_before(recorder.steps):
        start.keep_names(names)
    elif start.names_before and not fetches:
        start.keep_names(start.names_before)
        return json.dumps(start.names_before)
    if not fetches or start.goes_back:
        return None
    if (detail := recorder.step_detail(FETCHING)) is None:
        start.fetched_names = await image_names(start.project, start.application, fetches) | start.names_before
        start.keep_names(start.fetched_names)
        return json.dumps(start.fetched_names)
    start.fetched_names = json.loads(detail)
    return None


async def fetch(start: Start) -> None:
    """Pull and build first, while nothing that runs is touched, and plan again with the images that came.

    Raises:
        ImageFetchError: An image cannot be had.
        PlanChangedError: The images change more than the plan says that was asked for.
    """
    recorder, plan = start.recorder, start.plan
    await _fetch_images(start)
    fetched = (await _plan(start, replace(start.options, fetched=True))).plan
    start.plan = fetched
    if not recorder.steps:
        _refuse_other_volumes(start)
    surprising = unplanned_services(plan, fetched)
    if surprising and start.wanted_plan is not None and not recorder.steps:
        raise PlanChangedError(
            f"Plan {start.wanted_plan} does not replace {', '.join(surprising)}, but the images that were "
            "fetched would: " + "; ".join(f"{name}, {fetched.service(name).because}" for name in surprising),
            advice=f"run `roas plan {start.environment.name}` again; nothing that runs was touched.",
        )
    for name in surprising:
        log.warning("%s is replaced, which no plan before the fetch said: %s", name, fetched.service(name).because)
    start.plan = replace(fetched, fetches=plan.fetches)
    _record_plan(start, compared=start.release is not None)


async def check_programs(start: Start) -> None:
    """Ask the programs whether they take their new configurations, and proxies what they answer before the change.

    Raises:
        ValidationFailedError: One refuses its configuration, or would lose a route.
    """
    application, plan = start.application, start.plan
    deployment_id, states = start.recorder.deployment_id, start.looked.container_states
    await refuse_broken_configurations(start.project, application, plan, states, deployment_id)
    start.answered = await answers_through(start.project, application, [line.service for line in plan.changes])
    await refuse_lost_routes(start.project, application, plan, start.answered, deployment_id)


async def create(start: Start) -> str | None:
    """Let Compose make all containers of the plan, and keep evidence of those that it replaces."""
    plan = start.plan
    log.info("starting %s", waves_of(start))
    await keep_evidence(start)
    # Images were fetched since the plan.
    refuse_paused(await inspect_application(start.project), replaced_services(plan), start.noun)
    start.replaced_since = time.monotonic()
    created = CREATED in start.recorder.done
    # What was created before a kill may have to change since: an image that another operation failed with was taken.
    needed = not created or bool(replaced_services(plan))
    making = create_containers(start.project, fetched=bool(plan.fetches)) if needed else asyncio.sleep(0)
    # Read while the containers are made of it: the files may change until the start is proven.
    start.template, _ = await asyncio.gather(keep_template(start), making)
    return None if created else ""


async def start_services(start: Start) -> None:
    """Start the services in their order, and prove each."""
    start.services = await start_in_order(
        start.recorder, start.application, planned=start.plan, replaced_since=start.replaced_since, as_before=True
    )


async def prove(start: Start) -> None:
    """Judge the health of the whole, also through the proxies in front.

    Raises:
        StartFailedError: A required service is unhealthy, or a proxy does not answer as before.
    """
    application = start.application
    start.health = await verify(start.recorder, application, only=start.scope)
    if start.answered:
        changed = [service.service for service in start.services if not service.kept]
        await prove_through(start.project, application, changed, start.answered)


def may_run_earlier(start: Start) -> bool:
    """Whether something else may run now than the last proven release, as names of images say."""
    return start.release is not None and not all(service.kept for service in start.services)


async def warn_of_later_data(start: Start) -> None:
    """Say where this start brought an earlier release back, and a later version may have changed its data."""
    states = await inspect_application(start.project)
    if start.release is None or is_there(start.release, states):
        return
    releases = await proven_releases(start.environment.name)
    running = next((release for release in releases if is_there(release, states)), None)
    if running is not None and await may_have_changed_data(start.environment, running):
        start.record.data = later_data_warning(running.release_id)
        log.warning("%s", start.record.data)


async def keep_release(start: Start) -> None:
    """Keep what runs now as a proven release, and settle the errors of earlier starts."""
    if start.template is not None:
        await keep_proven(start.recorder, start.application, start.template, builds=start.builds)
    start.recorder.settles, start.recorder.settled_services = True, start.scope


LOOK = (
    Step("inspect", look, Phase.VALIDATION, looks=True),
    Step("validate", check, Phase.VALIDATION, looks=True),
    Step("settle what was interrupted", settle, looks=True),
    Step("plan", make_plan, Phase.PLAN, looks=True),
)
"""What a start and an update find out before anything is touched."""
FETCH = (
    Step(FETCHING, name_images, Phase.FETCH, looks=True),
    Step("fetch", fetch, Phase.FETCH, when=lambda start: bool(start.plan.fetches)),
    Step("check programs", check_programs, Phase.FETCH, when=lambda start: start.recorder.step_detail(FOUND) is None),
)
"""What comes before a container is touched."""
REMEMBER = Step(FOUND, remember, looks=True)

START: tuple[Step[Start], ...] = (
    *LOOK,
    *FETCH,
    REMEMBER,
    Step(CREATED, create, Phase.CREATE),
    Step("start in order", start_services, Phase.SERVICES),
    Step("prove", prove, Phase.PROOF),
    Step("warn of data", warn_of_later_data, when=may_run_earlier),
    Step("keep release", keep_release),
)
"""A start."""


async def _plan(start: Start, options: FetchOptions) -> PlannedStart:
    """Plan the start, or the part of it that was asked for."""
    planned: PlannedStart = await plan_start(
        start.project, start.application, str(start.looked.compose_version), options
    )
    if not options.services:
        return planned
    if start.scope is None:
        start.scope = update_scope(start.application, planned.plan, sorted(options.services))
    return replace(planned, plan=narrow_plan(planned.plan, start.scope))


def _refuse_another_plan(start: Start) -> None:
    """Stop where the start would not do what the plan says that was asked for."""
    name, plan_asked_for, plan = start.environment.name, start.wanted_plan, start.plan
    if plan_asked_for is not None and plan_asked_for != plan_id(plan):
        raise PlanChangedError(
            f"Plan {plan_asked_for} is not what {start.noun} of {name} would do now (plan {plan_id(plan)}): "
            + "; ".join(f"{line.action} {line.service}, {line.because}" for line in plan.changes),
            advice=f"run `roas plan{' --update' if start.options.update else ''} {name}` again.",
        )


def _refuse_other_volumes(start: Start) -> None:
    """Refuse to leave data behind before a person has said that this is wanted, by naming the plan.

    Raises:
        BadInputError: It names the services and volumes; nothing was touched.
    """
    moved = [f"{line.service}: {change}" for line in start.plan.services for change in line.other_volumes]
    if not moved or start.wanted_plan is not None:
        return
    name, advice = start.environment.name, "give the volume its `name:` of before in the Compose files"
    if start.record.source is None:
        # A sync has no plan to name: its files are there only while it runs.
        plan_command, word = ("plan --update", "update") if start.options.update else ("plan", "start")
        advice += f", or, if you want this: `roas {plan_command} {name}`, then `roas {word} {name} --plan ID`"
    raise BadInputError(
        f"{'; '.join(moved)}. A renamed volume is a new one, so nothing was touched;", advice=f"{advice}."
    )


def _record_plan(start: Start, *, compared: bool) -> None:
    plan, record = start.plan, start.record
    record.plan = {"id": plan_id(plan)} | {line.service: str(line.action) for line in plan.services}
    if compared:
        record.changes = tuple(f"{line.action} {line.service}: {line.because}" for line in plan.changes)


async def _fetch_images(start: Start) -> None:
    application, planned = start.application, start.plan.fetches
    await fetch_images(start.project, planned)
    if any(image.kind is FetchKind.BUILD for image in planned):
        await keep_equal_images(start.project, application, planned, start.fetched_names)
    fetches = [image for image in planned if not image.through]
    start.record.fetched = {image.service: str(image.kind) for image in fetches if not image.held_back}
    held_back = {image.service: image.note for image in fetches if image.held_back}
    reasons = await leave_images(
        start.project, application, planned, start.fetched_names, too_young_too=start.options.update
    )
    for service, why in reasons.items():
        log.warning("%s: %s", service, why)
    if held_back | reasons:
        start.record.not_taken = held_back | reasons


def waves_of(start: Start) -> str:
    """Which services start one after the other, in words."""
    return " then ".join(", ".join(wave) for wave in start_waves(start.part))


async def keep_evidence(start: Start) -> None:
    """Keep what the containers show that the plan replaces."""
    services: Sequence[str] = replaced_services(start.plan)
    if services:
        await take_evidence(
            start.project,
            start.application,
            services,
            deployment_id=start.recorder.deployment_id,
            reason="before it is replaced",
            page_later=True,
        )


async def keep_template(start: Start) -> Document | None:
    """What a release keeps of the configuration. A start does not fail where it cannot be kept; it says so."""
    try:
        return await read_template(start.project, start.application)
    except ComposeError as error:
        log.warning("no rollback to this start is possible: %s", error)
        start.record.release_not_kept = error.what
        return None
