"""Start an application: validate, plan, execute in order, verify health, keep the release; roll back a failure."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import Field

from core.deployment.images import unplanned
from core.deployment.plan import plan_id, refuse_paused, start_waves
from core.deployment.release import Document, replaced_services
from core.deployment.update import narrowed, part_of, partial_template, update_scope
from core.deployment.validate import refused_service, validate
from core.reporting.timing import Phase
from flows.common import parameters
from flows.common.phases import begin_phase, timed
from flows.deployment.execute import keep_proven, start_in_order, verify
from flows.deployment.failure import escalate
from flows.deployment.fetch_evidence import evidence_of_fetches
from flows.deployment.half_restored import refuse_half_restored
from flows.deployment.hooks import recall_data, remember_hook_images
from flows.deployment.interrupted_fetch import FETCHING, names_before, settle_interrupted
from flows.deployment.overlap import replace_start_first, settle_replacements
from flows.deployment.rollback import StartRollback, found_by
from flows.deployment.turns import Turns
from flows.deployment.update_context import UpdateContext
from flows.deployment.update_steps import after_proof, before_containers_change, before_fetched_images_run
from flows.operation.recorder import ROLLING_BACK, OperationRecorder, OperationRequest, recorded
from models.compose import Application, FetchKind, FetchOptions, Plan
from models.environments import Environment
from models.failures import BadInputError, ComposeError, PlanChangedError, ValidationFailedError
from models.health import Health, HealthReport, ServiceHealth
from models.operations import FOUND, OperationType
from models.records import Release
from models.results import OperationResult, ServiceStart
from models.validation import Facts, ValidationResult
from tasks.deployment.configuration import refuse_broken_configurations
from tasks.deployment.hooks import end_left_hooks
from tasks.deployment.images import fetch_images, image_names, keep_equal_images, leave_images
from tasks.deployment.operations import record_validation
from tasks.deployment.proxies import answers_through, prove_through
from tasks.deployment.proxy_trials import refuse_lost_routes
from tasks.deployment.release import changed_variables
from tasks.deployment.services import (
    NO_FETCH,
    PlannedStart,
    PreDeploySnapshot,
    create_containers,
    gather_facts,
    inspect_application,
    plan_start,
    proven_releases,
    read_template,
    snapshot_containers,
)
from tasks.errors.evidence import take_evidence
from tasks.storage.snapshots import end_own_pauses

log = logging.getLogger("roas")

CHANGING = "changing"
"""Step of an update: it is decided which services it changes; its detail is their names."""


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

    A start that fails is rolled back to the last proven release, or where there is none, to the state before it.
    It is recorded as failed all the same, with how it was rolled back.

    Returns the recorded result; where validation found something critical the run ends Failed with the
    result, its findings in `errors`, as its data, and nothing was touched.

    Raises:
        StartFailedError: A service did not come up in time, or a required one is not healthy.
        PlanChangedError: The start would not do what `plan` says.
        RoasError: Whatever else failed; recorded and handed to error recovery before it is raised.
    """
    begin_phase(Phase.RECORD)
    undo = StartRollback()
    start = Startup(undo, plan, FetchOptions(pull=pull, build=build))
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    try:
        async with recorded(OperationType.START, environment, request, on_failure=escalate, rollback=undo) as recorder:
            await start.run(recorder)
    except ValidationFailedError as error:
        return Failed(message=f"validation of {environment} failed: {error.what}", data=start.refused(error.what))
    return start.result()


@dataclass(slots=True)
class Startup:
    """One start: what it has found out and done so far."""

    rollback: StartRollback
    wanted_plan: str | None
    options: FetchOptions = NO_FETCH
    override_gate: str | None = None
    recorder: OperationRecorder = field(init=False)
    _found: tuple[PreDeploySnapshot, Release | None] = field(init=False)
    _validation: ValidationResult | None = None
    _template: Document | None = None
    _services: tuple[ServiceStart, ...] = ()
    _health: HealthReport | None = None
    _scope: frozenset[str] | None = None
    _names_before: dict[str, str] = field(default_factory=dict)
    """The images that names referred to before an interrupted update whose images run already."""
    _answered: dict[str, int] = field(default_factory=dict)
    """What the proxies in front of what is changed answered before anything was touched."""

    async def run(self, recorder: OperationRecorder) -> None:
        """Load, validate, plan, execute, verify, keep the release."""
        self.recorder = recorder
        with timed(Phase.VALIDATION):
            environment = await recorder.load()
            await refuse_half_restored(recorder)
            await end_own_pauses(environment)
            facts = await self._validate(environment)
        back = ROLLING_BACK in recorder.done
        await settle_replacements(
            recorder, environment, facts.application, back=back, container_states=facts.container_states
        )
        self._names_before = await settle_interrupted(recorder, environment)
        with timed(Phase.PLAN):
            planned = await self._plan(environment, facts)
        async with evidence_of_fetches(recorder, environment):
            with timed(Phase.FETCH):
                plan = await self._fetch(environment, facts, planned)
        update = self._context(environment, facts.application, plan)
        if update is not None and update.changed:
            if recorder.reported(CHANGING) is None:
                await recorder.step(CHANGING, detail=json.dumps(update.changed))
            await before_containers_change(update)
        with timed(Phase.CREATE):
            replaced_since = await self._create(environment, facts.application, plan)
        with timed(Phase.SERVICES):
            self._services = await self._start(environment, facts.application, plan, replaced_since)
        with timed(Phase.PROOF):
            self._health = await verify(recorder, environment, facts.application, only=self._scope)
            if self._answered:
                changed = [start.service for start in self._services if not start.kept]
                await prove_through(environment, facts.application, changed, self._answered)
        if update is not None and update.changed:
            await after_proof(update, self._health)
        if self._template is not None:
            await keep_proven(recorder, environment, facts.application, self._template, builds=planned.builds)
        recorder.settles, recorder.settled_services = True, self._scope

    async def _start(
        self, environment: Environment, application: Application, plan: Plan, replaced_since: float
    ) -> tuple[ServiceStart, ...]:
        if not self.options.update:
            return await start_in_order(
                self.recorder, environment, application, planned=plan, replaced_since=replaced_since
            )

        async def create(service: str) -> str | None:
            if plan.of(service).start_first:
                return await replace_start_first(self.recorder, environment, application, service)
            await create_containers.with_options(task_run_name=f"create {service}")(
                environment, fetched=True, services=[service]
            )
            return None

        part = application if self._scope is None else part_of(application, self._scope)
        return await start_in_order(self.recorder, environment, part, planned=plan, turns=Turns(plan, create))

    async def _validate(self, environment: Environment) -> Facts:
        facts = await gather_facts(environment)
        validation = validate(facts, datetime.now(UTC), self.recorder.redactor.text)
        self._validation = validation
        await record_validation(self.recorder.deployment_id, validation)
        if not validation.passed:
            raise ValidationFailedError(
                "; ".join(check.finding for check in validation.critical),
                advice=" ".join(dict.fromkeys(check.fix for check in validation.critical if check.fix)),
                service=refused_service(
                    validation, facts.declared if isinstance(facts.declared, Application) else None
                ),
            )
        await end_left_hooks(environment, facts.container_states, self.recorder.deployment_id)
        passed, warned = len(validation.checks) - len(validation.failed), len(validation.failed)
        warnings = f", {warned} warning{'s' if warned != 1 else ''}" if warned else ""
        log.info("%s: %d checks passed%s", environment.name, passed, warnings)
        return facts

    async def _plan(self, environment: Environment, facts: Facts) -> PlannedStart:
        recorder, application = self.recorder, facts.application
        planned: PlannedStart
        planned, snapshot, releases = await asyncio.gather(
            plan_start(environment, application, str(facts.compose_version), self.options),
            snapshot_containers(environment),
            proven_releases(environment.name),
        )
        planned = replace(planned, plan=self._narrowed(application, planned.plan))
        plan = planned.plan
        scope = self._scope if self._scope is not None else facts.application.services.keys()
        # Also where it is taken up again: a person may have paused one since.
        refuse_paused(facts.container_states, scope, self._noun)
        if planned.inputs:
            recorder.facts["inputs"] = planned.inputs
        if not recorder.steps:
            self._refuse_other_volumes(environment, plan)
        self._record_plan(plan, compared=bool(releases))
        # An operation that is taken up again has done part of its plan, so the plan of the rest differs.
        expected_id = self.wanted_plan
        if expected_id is not None and not recorder.steps and expected_id != plan_id(plan):
            raise PlanChangedError(
                f"Plan {expected_id} is not what {self._noun} of {environment.name} would do now "
                f"(plan {plan_id(plan)}): "
                + "; ".join(f"{line.action} {line.service}, {line.because}" for line in plan.changes),
                advice=f"look at `roas plan{' --update' if self.options.update else ''} {environment.name}` again.",
            )
        for line in plan.services:
            if line.note:
                log.warning("%s: %s", line.service, line.note)
        earlier = recorder.reported(FOUND)
        before, release = found_by(earlier) if earlier else snapshot, releases[0] if releases else None
        self._found = (before, release)
        if release is not None and (values := await changed_variables(environment, release)):
            log.warning("%s changed since release %s", ", ".join(values), release.release_id)
        return planned

    def _refuse_other_volumes(self, environment: Environment, plan: Plan) -> None:
        """Refuse to leave data behind before a person has said that this is wanted, by naming the plan.

        Raises:
            BadInputError: It names the services and volumes; nothing was touched.
        """
        moved = [f"{line.service}: {change}" for line in plan.services for change in line.other_volumes]
        if not moved or self.wanted_plan is not None:
            return
        name, advice = environment.name, "give the volume its `name:` of before in the Compose files"
        if "source" not in self.recorder.facts:
            # A sync has no plan to name: its files are there only while it runs.
            plan_command, word = ("plan --update", "update") if self.options.update else ("plan", "start")
            advice += f", or, if you want this: `roas {plan_command} {name}`, then `roas {word} {name} --plan ID`"
        raise BadInputError(
            f"{'; '.join(moved)}. A renamed volume is a new one, so nothing was touched;", advice=f"{advice}."
        )

    async def _fetch(self, environment: Environment, facts: Facts, planned: PlannedStart) -> Plan:
        """Pull and build first, while nothing that runs is touched, and plan again with the images that came."""
        recorder, application, plan = self.recorder, facts.application, planned.plan
        failed_before = ROLLING_BACK in recorder.done
        if names := names_before(recorder.steps):
            self.rollback.keep_names(names)
        elif self._names_before and not plan.fetches:
            self.rollback.keep_names(self._names_before)
            await recorder.step(FETCHING, detail=json.dumps(self._names_before))
        if plan.fetches and not failed_before:
            await self._fetch_images(environment, application, plan)
            fetched: PlannedStart = await plan_start(
                environment, application, str(facts.compose_version), replace(self.options, fetched=True)
            )
            fetched = replace(fetched, plan=self._narrowed(application, fetched.plan))
            if not recorder.steps:
                self._refuse_other_volumes(environment, fetched.plan)
            surprising = unplanned(plan, fetched.plan)
            if surprising and self.wanted_plan is not None and not recorder.steps:
                raise PlanChangedError(
                    f"Plan {self.wanted_plan} does not replace {', '.join(surprising)}, but the images that were "
                    "fetched would: " + "; ".join(f"{name}, {fetched.plan.of(name).because}" for name in surprising),
                    advice=f"look at `roas plan {environment.name}` again; nothing that runs was touched.",
                )
            for name in surprising:
                log.warning(
                    "%s is replaced, which no plan before the fetch said: %s", name, fetched.plan.of(name).because
                )
            plan = replace(fetched.plan, fetches=plan.fetches)
            self._record_plan(plan, compared=self._found[1] is not None)
        if recorder.reported(FOUND) is None:
            await refuse_broken_configurations(
                environment, application, plan, facts.container_states, recorder.deployment_id
            )
            changed = [line.service for line in plan.changes]
            self._answered = await answers_through(environment, application, changed)
            await refuse_lost_routes(environment, application, plan, self._answered, recorder.deployment_id)
        update = self._context(environment, application, plan)
        if update is not None and plan.changes and not failed_before:
            self.rollback.keep_names(await remember_hook_images(update))
            await before_fetched_images_run(update)
        await recorder.step(FOUND, detail=self.rollback.arm(application, *self._found))
        if failed_before:
            recall_data(recorder)
        recorder.refuse_to_go_forward()
        return plan

    async def _fetch_images(self, environment: Environment, application: Application, plan: Plan) -> None:
        recorder = self.recorder
        if (detail := recorder.reported(FETCHING)) is None:
            names = await image_names(environment, application, plan.fetches)
            names |= self._names_before
            self.rollback.keep_names(names)
            detail = json.dumps(names)
            await recorder.step(FETCHING, detail=detail)
        await fetch_images(environment, plan.fetches)
        if any(fetch.kind is FetchKind.BUILD for fetch in plan.fetches):
            await keep_equal_images(environment, application, plan.fetches, json.loads(detail))
        fetches = [fetch for fetch in plan.fetches if not fetch.through]
        recorder.facts["fetched"] = {fetch.service: str(fetch.kind) for fetch in fetches if not fetch.held_back}
        held_back = {fetch.service: fetch.note for fetch in fetches if fetch.held_back}
        reasons = await leave_images(
            environment, application, plan.fetches, json.loads(detail), too_young_too=self.options.update
        )
        for service, why in reasons.items():
            log.warning("%s: %s", service, why)
        held_back |= reasons
        if held_back:
            recorder.facts["not_taken"] = held_back

    def _context(self, environment: Environment, application: Application, plan: Plan) -> UpdateContext | None:
        if not self.options.update:
            return None
        earlier = self.recorder.reported(CHANGING)
        return UpdateContext(
            recorder=self.recorder,
            environment=environment,
            application=application,
            plan=plan,
            release=self._found[1],
            # What a run that was interrupted has replaced is no change of the plan any more.
            changed=tuple(sorted({*json.loads(earlier or "[]"), *(line.service for line in plan.changes)})),
            override_gate=self.override_gate,
        )

    def _narrowed(self, application: Application, plan: Plan) -> Plan:
        if not self.options.services:
            return plan
        if self._scope is None:
            self._scope = update_scope(application, plan, sorted(self.options.services))
        return narrowed(plan, self._scope)

    @property
    def _noun(self) -> str:
        return "an update" if self.options.update else "a start"

    def _record_plan(self, plan: Plan, *, compared: bool) -> None:
        facts = self.recorder.facts
        facts["plan"] = {"id": plan_id(plan)} | {line.service: str(line.action) for line in plan.services}
        if compared:
            facts["changes"] = [f"{line.action} {line.service}: {line.because}" for line in plan.changes]

    async def _create(self, environment: Environment, application: Application, plan: Plan) -> float:
        """Replace what the plan replaces; returns when that began, as a moment of the monotonic clock."""
        recorder = self.recorder
        shown = application if self._scope is None else part_of(application, self._scope)
        waves = " then ".join(", ".join(wave) for wave in start_waves(shown))
        log.info("%s %s", "updating" if self.options.update else "starting", waves)
        evidence = self._evidence(environment, application, replaced_services(plan))
        if self.options.update:
            # Its containers are created one service after the other.
            self._template, _ = await asyncio.gather(_template(recorder, environment, application), evidence)
            if self._template is not None and self._scope is not None:
                unchanged_services = set(application.services) - self._scope
                self._template = partial_template(self._template, self._found[1], unchanged_services)
            return time.monotonic()
        await evidence
        # Images were fetched since the plan.
        refuse_paused(await inspect_application(environment), replaced_services(plan), self._noun)
        began = time.monotonic()
        # Read while the containers are made of it: the files may change until the start is proven.
        template = _template(recorder, environment, application)
        self._template, _ = await asyncio.gather(template, _create_containers(recorder, environment, plan))
        return began

    async def _evidence(self, environment: Environment, application: Application, services: Sequence[str]) -> None:
        if services:
            await take_evidence(
                environment,
                application,
                services,
                deployment_id=self.recorder.deployment_id,
                reason="before it is replaced",
                page_later=True,
            )

    def refused(self, why: str) -> OperationResult:
        """The result where validation stopped the start."""
        validation, recovery = self._validation, self.recorder.recovery
        errors = tuple(check.finding for check in validation.critical) if validation else ()
        errors = errors or (why,)
        return self.recorder.result(why, success=False, validation=validation, errors=errors, recovery=recovery)

    def result(self) -> OperationResult:
        """The result of a start that was proven."""
        services, health, validation = self._services, self._health, self._validation
        if health is not None and health.overall is Health.HEALTHY:
            unproven = health.count(ServiceHealth.UNPROVEN)
            without = f", {unproven} without health check or probe" if unproven else ""
            reason = f"{len(services) - unproven} services proven{without}"
        else:
            reason = f"health {health and health.overall}"
        return self.recorder.result(reason, services=services, health=health, validation=validation)


async def _create_containers(recorder: OperationRecorder, environment: Environment, plan: Plan) -> None:
    created = "created" in recorder.done
    # What was created before a kill may have to change since: an image that another operation failed with was taken.
    if not created or replaced_services(plan):
        await create_containers(environment, fetched=bool(plan.fetches))
    if not created:
        await recorder.step("created")


async def _template(recorder: OperationRecorder, environment: Environment, application: Application) -> Document | None:
    """What a release keeps of the configuration. A start does not fail where it cannot be kept; it says so."""
    try:
        return await read_template(environment, application)
    except ComposeError as error:
        log.warning("this start cannot be gone back to: %s", error)
        recorder.facts["release_not_kept"] = error.what
        return None
