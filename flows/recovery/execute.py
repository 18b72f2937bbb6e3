"""Execute a recovery step by step: record each step, verify the service, and roll back what failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from prefect.utilities.importtools import import_object

from core.deployment.restart import Aftermath
from core.deployment.restart import DependantAnswer as After
from core.recovery.action_targets import ActionContext
from core.recovery.actions import ACTIONS, RefusedAction, prepare
from core.recovery.facts import is_well, shows_failure, without_lost_starts
from core.recovery.policy import (
    OBSERVED_SOURCES,
    RecoveryFacts,
    RecoveryPlan,
    room_for_dependant,
    waits_for_itself,
    without_dependencies,
)
from flows.operation.steps import Run, Step, go_back, run_steps
from flows.recovery.diagnose import IncidentContext, health_now, services_down
from models.compose import Application
from models.errors import RecordedError, Strategy
from models.failures import ActionRefusedError, HalfRestoredError, NotFoundError, RoasError
from models.health import UNHEALTHY_STATES, ServiceHealth
from models.metrics import DependencyType
from models.operations import RECOVERY_OF, Runner
from models.recovery import UNDO, PlannedStep, RecoveryExecution, RecoveryStep, StepSpec
from models.results import OperationResult
from tasks.deployment.configuration import refuse_to_restart
from tasks.deployment.lease import hold_environment
from tasks.deployment.proxies import ProxyFollower
from tasks.deployment.services import inspect_application
from tasks.deployment.start_service import ask_again, wait_until_healthy
from tasks.errors.redact import redact
from tasks.monitoring.events import watch_project
from tasks.recovery.actions import STEPS, StepContext, measure_engine_disk, read_action_context
from tasks.recovery.own_process import roll_back_in_own_process
from tasks.recovery.records import past_recoveries, read_attempt, span_of_operation, write_attempt
from tasks.runtime.plain_tasks import makes_task_runs
from tasks.runtime.project import Project
from tasks.runtime.traces import describe_span, link_span, separate_trace, span
from tasks.storage.restores import refuse_half_restored

log = logging.getLogger("roas")

HOLD_WAIT = timedelta(seconds=10)
"""How long a recovery waits for the operation that holds the environment; then it is postponed."""

_ROLLBACK = "flows.deployment.rollback.rollback"
"""Its flow, found by name: an operation that fails leads to recovery, so each would import the other."""

_ASK_WITHIN_SECONDS = 20.0
_DAY = timedelta(days=1)
_STARTS = frozenset({StepSpec.START, StepSpec.RESTART, StepSpec.RECREATE, StepSpec.JOIN})
"""Steps after which a service runs anew, and may have another address."""

_CUT_OFF = "its runner ended in the middle of it; it is not done again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One error of one service that recovery acts on.

    `objection` returns the wish of a person against acting on a service now, or against undoing there what the attempt
    did (True); None without one. `finish` records how an attempt ended, with its ticket.
    """

    project: Project
    context: IncidentContext
    error: RecordedError
    service: str
    runner: Runner
    facts: RecoveryFacts
    script: str | None
    detected_at: datetime
    objection: Callable[[str, bool], Awaitable[str | None]]
    finish: Callable[[RecoveryExecution], Awaitable[None]]


async def execute(case: Case, attempt: RecoveryPlan | RecoveryExecution) -> RecoveryExecution:
    """Make a planned attempt, or continue one that was interrupted or failed, whose finished steps are not repeated.

    It is recorded, and a failure is in the returned execution.

    Raises:
        ActionRefusedError: The action may not be taken now; nothing was done.
        EnvironmentBusyError: An operation holds the environment; nothing was done.
    """
    diagnosed = datetime.now(UTC)
    continued = isinstance(attempt, RecoveryExecution)
    async with AsyncExitStack() as stack:
        # The rollback operation holds the environment itself.
        if attempt.strategy is not Strategy.ROLL_BACK_RELEASE:
            await stack.enter_async_context(
                hold_environment(
                    case.project.environment.name,
                    owner=attempt.attempt_id or case.error.error_id,
                    reason=f"{RECOVERY_OF} {case.service}{', resumed' if continued else ''}",
                    runner=case.runner,
                    wait=HOLD_WAIT,
                )
            )
        if isinstance(attempt, RecoveryPlan):
            ready = await _prepare(case, attempt, diagnosed)
            await _refuse_half_restored(case, ready)
            # Another process may have held the environment until now, for a person who stopped the service.
            if (wish := await case.objection(case.service, False)) is not None:
                raise ActionRefusedError(wish)
            return await _run_attempt(case, ready)
        before = attempt
        with suppress(NotFoundError):
            # Another process may have continued it until now.
            attempt = replace(await read_attempt(str(before.attempt_id)), error_id=before.error_id)
        if attempt.ended_at is not None and attempt.ended_at != before.ended_at:
            log.info("recovery %s was ended by another process meanwhile", attempt.attempt_id)
            return attempt
        await _refuse_half_restored(case, attempt)
        steps = without_lost_starts(attempt.steps, await inspect_application(case.project))
        if len(steps) < len(attempt.steps):
            log.warning("%s failed again after recovery %s had started it", case.service, attempt.attempt_id)
        again = replace(attempt, runner=case.runner, ended_at=None, success=None, final_status="running", steps=steps)
        return await _run_attempt(case, replace(again, manual_intervention_required=False))


async def _refuse_half_restored(case: Case, execution: RecoveryExecution) -> None:
    """Start nothing on data of which a part is put back and another is not: it would write to them.

    Raises:
        ActionRefusedError: They are; the advice says how that goes on.
    """
    if not any(step.doing in _STARTS for step in execution.planned):
        return
    try:
        await refuse_half_restored(case.project.environment)
    except HalfRestoredError as error:
        raise ActionRefusedError(error.what.rstrip(";"), advice=error.advice) from error


async def _prepare(case: Case, plan: RecoveryPlan, diagnosed: datetime) -> RecoveryExecution:
    strategy, down = plan.strategy, plan.dependencies
    if down and not plan.decided:
        down = services_down(await health_now(case.context, probed_services=down), down)
        strategy = strategy if down else without_dependencies(strategy, case.error)
    action_context = await read_action_context(
        case.project,
        case.context.application,
        case.service,
        dependencies_down=down,
        script=case.script,
        began=case.error.first_seen,
    )
    action_context = await _with_own_checks(case, strategy, action_context, decided=plan.decided)
    ready = prepare(strategy, action_context)
    if isinstance(ready, RefusedAction) and case.error.source in OBSERVED_SOURCES and is_well(action_context):
        # It was seen to fail and is healthy by itself meanwhile: that is verified, and nothing else is done.
        strategy = Strategy.WAIT_AND_RETRY
        ready = prepare(strategy, replace(action_context, decided=True))
    if isinstance(ready, RefusedAction):
        raise ActionRefusedError(ready.because, advice=ready.instead)
    return RecoveryExecution(
        error_id=case.error.error_id,
        strategy=strategy,
        started_at=datetime.now(UTC),
        attempt_id=plan.attempt_id,
        attempt=plan.attempt,
        environment=case.project.environment.name,
        service=case.service,
        engine=case.project.environment.engine,
        host_id=case.facts.host_id,
        points=ACTIONS[strategy].points,
        runner=case.runner,
        planned=ready.steps,
        undo=ready.undo,
        detected_at=case.detected_at,
        diagnosed_at=diagnosed,
    )


async def _with_own_checks(case: Case, strategy: Strategy, context: ActionContext, *, decided: bool) -> ActionContext:
    """Add what costs time to read, where it matters: the disk, and the service's own probe."""
    context = replace(context, stopped_by_person=case.facts.stopped_by_person, decided=decided)
    if strategy is Strategy.PRUNE_DISK:
        context = replace(context, disk_percent=await measure_engine_disk(case.project))
    if decided or not context.containers or shows_failure(context):
        return context
    health = await health_now(case.context, probed_services=[case.service])
    health_by_service = {verdict.service: verdict.health for verdict in health.services} if health else {}
    judged = health_by_service.get(case.service)
    passes = False if judged in UNHEALTHY_STATES else True if judged is ServiceHealth.HEALTHY else None
    return replace(context, probe_passes=passes)


async def _run_attempt(case: Case, execution: RecoveryExecution) -> RecoveryExecution:
    """Run an attempt as a trace of its own, with a link to the operation that the error came of."""
    with separate_trace(
        f"recover {case.service}",
        environment=case.project.environment.name,
        service=case.service,
        error_id=case.error.error_id,
        deployment_id=case.error.deployment_id,
        category=str(case.error.verdict.category),
        strategy=str(execution.strategy),
        attempt_id=execution.attempt_id,
    ):
        link_span("operation", await span_of_operation(case.project.environment.name, case.error.deployment_id))
        done = await _run_steps(case, execution)
        describe_span(outcome="success" if done.success else "failed")
        return done


async def _run_steps(case: Case, execution: RecoveryExecution) -> RecoveryExecution:
    attempt, failed = _Attempt(case, execution), None
    try:
        await run_steps(attempt, [Step(step.doing, partial(_Attempt.act, step=step)) for step in execution.planned])
    except (RoasError, TimeoutError) as error:
        failed = await _redact(case, error)
        await go_back(attempt, [Step(step.doing, partial(_Attempt.undo, step=step)) for step in execution.undo], error)
    if failed is None:
        attempt.execution = replace(attempt.execution, verified_at=datetime.now(UTC))
        await _ask_dependants(case, attempt)
    return await attempt.finish(failed)


class _Attempt(Run):
    """Journal of a running attempt: each step is recorded before and after it is run.

    The service is down meanwhile, so the attempt is recorded with its first step and ended with its last, without
    writes of its own. A runner that dies in between leaves an interrupted step.
    """

    def __init__(self, case: Case, execution: RecoveryExecution) -> None:
        self.execution = execution
        self._case = case
        self._step_context = StepContext(
            project=case.project,
            application=case.context.application,
            attempt_id=str(execution.attempt_id),
            facts={
                "ROAS_ENVIRONMENT": case.project.environment.name,
                "ROAS_PROJECT": case.project.environment.project,
                "ROAS_SERVICE": case.service,
                "ROAS_ERROR_ID": case.error.error_id,
                "ROAS_CATEGORY": str(case.error.verdict.category),
            },
        )

    @property
    def earlier_failure(self) -> Exception | None:
        """Why the attempt had failed, where its runner died in the middle of the rollback."""
        reasons = (step.detail for step in self.execution.steps if step.ok is False)
        return ActionRefusedError(next(reasons, _CUT_OFF)) if self.execution.undone else None

    async def act(self, step: PlannedStep) -> None:
        """Run a step unless it is finished; of an interrupted one only what the engine has not done yet."""
        recorded_step = self._recorded_step(str(step.doing), step.target)
        if recorded_step is not None and recorded_step.ok:
            return
        cut_off = recorded_step if recorded_step is not None and recorded_step.ok is None else None
        if cut_off is not None and step.doing is StepSpec.ROLL_BACK:
            raise ActionRefusedError(
                f"The rollback of {self._case.project.environment.name} was cut off;",
                advice="`roas resume` goes on with it.",
            )
        if cut_off is not None and step.doing is StepSpec.RUN_SCRIPT:
            # How far the script came is unknown, so verification judges it.
            self.note(replace(cut_off, ok=True, detail=_CUT_OFF, ended_at=datetime.now(UTC)))
            return
        if step.doing is not StepSpec.VERIFY:
            await self._refuse_against_a_wish(step)
        began = cut_off.started_at if cut_off is not None else None
        self._step_context = replace(self._step_context, cut_off_from=began)
        await self.record(step.doing, step.target, self._do(step), began=began)

    async def record(self, name: str, target: str, doing: Awaitable[str], *, began: datetime | None = None) -> None:
        """Record a step before and after it runs; `began` is when a dead runner began it."""
        begun = RecoveryStep(name=str(name), target=target, ok=None, detail="", started_at=began or datetime.now(UTC))
        self.note(begun)
        try:
            writing = asyncio.create_task(write_attempt(self.execution))
            if name != StepSpec.VERIFY:
                await writing
            try:
                # Verification changes nothing, so it does not wait for its record.
                with span(
                    f"{name} {target}", environment=self._case.project.environment.name, service=self._case.service
                ):
                    detail = await doing
            finally:
                await writing
        except (RoasError, TimeoutError) as error:
            detail = await _redact(self._case, error)
            self.note(replace(begun, ok=False, detail=detail, ended_at=datetime.now(UTC)))
            raise
        ended = datetime.now(UTC)
        if name != StepSpec.VERIFY and self.execution.verified_at is None:
            # Restarting dependants after verification is not part of this recovery's duration.
            self.execution = replace(self.execution, acted_at=ended)
        self.note(replace(begun, ok=True, detail=detail, ended_at=ended))

    async def undo(self, step: PlannedStep) -> None:
        """Roll back a step of a failed attempt; where it cannot be, the others are all the same."""
        self.execution = replace(self.execution, undone=True)
        name = f"{UNDO}{step.doing}"
        if (earlier := self._recorded_step(name, step.target)) is not None and earlier.ok:
            return
        try:
            await self._refuse_against_a_wish(step, undoing=True)
            await self.record(name, step.target, self._do(step))
        except (RoasError, TimeoutError) as error:
            log.error("%s of %s could not be rolled back: %s", step.doing, step.target, error)
            if (entry := self._recorded_step(name, step.target)) is None or entry.ok is not False:
                now, detail = datetime.now(UTC), await _redact(self._case, error)
                self.note(
                    RecoveryStep(name=name, target=step.target, ok=False, detail=detail, started_at=now, ended_at=now)
                )

    async def _refuse_against_a_wish(self, step: PlannedStep, *, undoing: bool = False) -> None:
        """Ask again before a step whether a person wants it: since the plan was made, minutes may have passed."""
        if (wish := await self._case.objection(step.service, undoing)) is not None:
            raise ActionRefusedError(f"{step.doing} of {step.target} was not done: {wish}")

    async def finish(self, failed: str | None) -> RecoveryExecution:
        """Record how the attempt ended."""
        ended, execution = datetime.now(UTC), self.execution
        seconds = ((execution.verified_at or ended) - execution.started_at).total_seconds()
        status = f"{self._case.service} healthy again after {seconds:.1f} s" if failed is None else failed
        self.execution = replace(
            execution,
            ended_at=ended,
            success=failed is None,
            final_status=status,
            manual_intervention_required=failed is not None,
        )
        await self._case.finish(self.execution)
        log.info("recovery of %s: %s", self._case.service, status)
        return self.execution

    async def _do(self, step: PlannedStep) -> str:
        application = self._case.context.application
        if step.doing is StepSpec.VERIFY:
            proven = await wait_until_healthy(
                self._case.project,
                application,
                step.service,
                since=self.execution.started_at,
                while_running=waits_for_itself(self._case.error.verdict),
            )
            if application is not None:
                proxies = self._proxies(application)
                await proxies.follow(step.service, changed=False)
                await proxies.settle()
            return proven
        if step.doing is StepSpec.ROLL_BACK and not makes_task_runs():
            asked_by = f"error recovery of {self._case.error.error_id}"
            return await roll_back_in_own_process(self._case.project.environment.name, step.targets[0], asked_by)
        if step.doing is StepSpec.ROLL_BACK:
            result: OperationResult = await import_object(_ROLLBACK)(
                self._case.project.environment.name,
                release=step.targets[0],
                asked_by=f"error recovery of {self._case.error.error_id}",
                compose_files=list(self._case.context.compose_files),
            )
            return f"{result.reason} (deployment {result.deployment_id})"
        if application is not None and step.doing in (StepSpec.RESTART, StepSpec.RECREATE):
            await refuse_to_restart(self._case.project, application, step.service, self._case.error.error_id)
        done = await STEPS[step.doing](self._step_context, step)
        if application is not None and step.doing in _STARTS:
            # What refuses may need another service that is down, too; verification tries again, and tells.
            await self._proxies(application).follow(step.service)
        return done

    def _proxies(self, application: Application) -> ProxyFollower:
        since = self.execution.started_at
        return ProxyFollower(project=self._case.project, application=application, since=since)

    def _recorded_step(self, name: str, target: str) -> RecoveryStep | None:
        return next((entry for entry in self.execution.steps if (entry.name, entry.target) == (name, target)), None)

    def note(self, step: RecoveryStep) -> None:
        """Add a step to the journal; it replaces the step of the same name and target."""
        other_steps = tuple(
            entry for entry in self.execution.steps if (entry.name, entry.target) != (step.name, step.target)
        )
        self.execution = replace(self.execution, steps=(*other_steps, step))


async def _ask_dependants(case: Case, attempt: _Attempt) -> None:
    """Check the services that require the recovered one; restart what stays unhealthy, within its own budget."""
    application, since = case.context.application, attempt.execution.verified_at
    if application is None or since is None or case.error.predictive:
        return
    required = {
        need.service
        for need in case.context.dependencies
        if need.depends_on == case.service and need.dependency_type is DependencyType.REQUIRED
    }
    names = sorted(required & application.services.keys())
    if not names:
        return
    await write_attempt(attempt.execution)
    async with watch_project(case.project) as watch:

        async def ask(name: str) -> Aftermath:
            try:
                async with asyncio.timeout(_ASK_WITHIN_SECONDS):
                    return await ask_again(case.project, application.services[name], watch, since)
            except (RoasError, TimeoutError) as error:
                return Aftermath(answer=After.UNPROVEN, reason=str(error) or "it did not answer in time")

        answers = await asyncio.gather(*(ask(name) for name in names))
    for name, answer in zip(names, answers, strict=True):
        now = datetime.now(UTC)
        attempt.note(
            RecoveryStep(
                name="ask again",
                target=name,
                ok=answer.answer is not After.UNHEALTHY,
                detail=f"{name} is {answer.answer}: {answer.reason}",
                started_at=since,
                ended_at=now,
            )
        )
        if answer.answer is After.UNHEALTHY:
            await _restart_dependant(case, attempt, name, now)


async def _restart_dependant(case: Case, attempt: _Attempt, name: str, now: datetime) -> None:
    past = await past_recoveries(case.error.error_id, now - _DAY)
    hindrance = room_for_dependant(
        name, case.error, past=past, policy=case.project.environment.recovery, facts=case.facts, now=now
    )
    if hindrance is not None:
        log.warning("%s is still unhealthy, and is not restarted: %s", name, hindrance)
        return
    try:
        for doing in (StepSpec.RESTART, StepSpec.VERIFY):
            await attempt.act(PlannedStep(doing=doing, service=name))
    except (RoasError, TimeoutError) as error:
        # The next sweep finds it by itself; the service of this attempt is recovered.
        log.warning("%s did not get over the failure of %s: %s", name, case.service, error)


async def _redact(case: Case, error: Exception) -> str:
    return await redact(
        case.project.environment.name, str(error) or "it did not end in time", case.context.compose_files
    )
