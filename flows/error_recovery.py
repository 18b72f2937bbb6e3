"""Error recovery: match, classify, weigh, then act within bounds or ask a person; write all of it down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from prefect import flow

from core.classification import classify
from core.evidence import evidence_of
from core.impact import analyse_impact
from core.judging import as_failure
from core.recovery import Plan, PlanAction, RecoveryFacts, manual_steps, plan_recovery
from flows.identifiers import new_error_id, new_ticket_id
from flows.judging import dependencies_of, judge_now
from models.compose import Application
from models.environments import Environment, RecoveryPolicy
from models.errors_seen import Category, RecordedError, Strategy, Verdict
from models.failures import BadInputError, RoasError
from models.health import HealthReport, ServiceHealth
from models.metrics import Dependency
from models.recovery import RecoveryExecution, RecoveryMethod, RecoveryOutcome, Step, Ticket
from tasks.evidence import failure_evidence, link_evidence
from tasks.loading import load_environment
from tasks.monitoring import stopped_on_request
from tasks.recovery import (
    begin_execution,
    close_tickets,
    finish_execution,
    open_ticket,
    past_recoveries,
    read_patterns,
    record_error,
    record_impact,
    recovery_paused,
    restart_step,
    stopped_by_person,
    with_dependencies_down,
)
from tasks.redaction import redact
from tasks.services import read_application
from tasks.waiting import wait_until_well
from tasks.watching import is_watched

log = logging.getLogger("roas")

_BUDGET_WINDOW = timedelta(days=1)
_DOWN = frozenset({ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED})
_BY_RESTART = frozenset({Strategy.RESTART_SERVICE, Strategy.RESTART_DEPENDENCY_THEN_SERVICE})
"""The strategies this flow carries out; what else may be done is put to a person with its commands."""


@flow(name="error-recovery", flow_run_name="recover {environment}")
async def error_recovery(
    environment: str,
    text: str,
    deployment_id: str | None = None,
    service: str | None = None,
    source: str = "person",
    compose_files: list[str] | None = None,
    act: bool = True,
    predictive: bool = False,
    failing_services: int = 1,
) -> RecoveryOutcome:
    """Find what caused an error, and recover from it or open a ticket.

    `act` False judges and records only: for a dry run, and for failures of an operation that a person is
    looking at. `failing_services` is how many fail at once; several mean one cause, so none is restarted.
    """
    text = await redact(environment, text, tuple(compose_files or ()))
    declared, application, dependencies = await _surroundings(environment, tuple(compose_files or ()))
    if source == "event" and declared and application and service:
        reason = await _not_needed(declared, application, service)
        if reason is not None:
            log.info("nothing is done for %s: %s", service, reason)
            return RecoveryOutcome(
                error_id="", success=True, method=RecoveryMethod.NONE_NEEDED, steps=(), reason=reason
            )
    return await recover(
        environment,
        text,
        declared,
        application,
        dependencies,
        deployment_id=deployment_id,
        service=service,
        source=source,
        act=act,
        predictive=predictive,
        failing_services=failing_services,
    )


async def recover(
    environment: str,
    text: str,
    declared: Environment | None,
    application: Application | None,
    dependencies: Sequence[Dependency],
    *,
    deployment_id: str | None = None,
    service: str | None = None,
    source: str = "person",
    act: bool = True,
    predictive: bool = False,
    failing_services: int = 1,
) -> RecoveryOutcome:
    """What `error_recovery` does once the surroundings are known, within the caller's own run.

    A run of its own takes seconds to begin where its server is busy; a watcher has read the surroundings
    already, and a service that is down need not wait for either.
    """
    now = datetime.now(UTC)
    bundles = (
        await failure_evidence(declared, application, service, deployment_id=deployment_id, reason=text)
        if declared
        else []
    )
    evidence = evidence_of(bundles[0]) if service and bundles else None
    down = await _dependencies_down(declared, application, service, dependencies) if declared and service else ()
    evidence = with_dependencies_down(evidence, down)
    verdict = classify(text, evidence=evidence, patterns=await read_patterns())
    if source != "person":
        verdict = as_failure(verdict)
    error = await record_error(
        RecordedError(
            error_id=new_error_id(now),
            environment=environment,
            text=text,
            source=source,
            verdict=verdict,
            first_seen=now,
            last_seen=now,
            deployment_id=deployment_id,
            service=service,
            predictive=predictive,
            evidence=asdict(evidence) if evidence else {},
        )
    )
    if bundles:
        await link_evidence([bundle.bundle_id for bundle in bundles], error.error_id)
    log.info("error %s: %s, because %s", error.error_id, verdict.category, verdict.reason)
    if verdict.category is Category.BENIGN:
        return RecoveryOutcome(
            error_id=error.error_id,
            success=True,
            method=RecoveryMethod.NONE_NEEDED,
            steps=(),
            reason=verdict.reason,
        )
    impact = analyse_impact(verdict, service, dependencies)
    await record_impact(error.error_id, impact, now)
    plan = await _decide(declared, error, service, act=act, failing_services=failing_services, now=now)
    log.info("plan for %s: %s, because %s", error.error_id, plan.action, plan.reason)
    if plan.action is PlanAction.LEAVE_ALONE:
        return RecoveryOutcome(
            error_id=error.error_id,
            success=True,
            method=RecoveryMethod.NONE_NEEDED,
            steps=(),
            reason=plan.reason,
        )
    tried: tuple[str, ...] = ()
    if plan.action is PlanAction.RECOVER and declared is not None and service is not None:
        outcome = await _carry_out(declared, error, service, plan)
        if outcome.success:
            await close_tickets(error.error_id, datetime.now(UTC), "recovered automatically")
            return outcome
        tried = outcome.steps
    return await _ask_a_person(
        declared,
        error,
        verdict,
        service,
        plan,
        impact.affected_services,
        tried,
        tuple(bundle.bundle_id for bundle in bundles),
    )


async def _surroundings(
    environment: str, compose_files: tuple[str, ...]
) -> tuple[Environment | None, Application | None, list[Dependency]]:
    """The environment, its application and who needs whom in it; None and nothing where exactly that failed."""
    try:
        declared = await load_environment(environment, compose_files)
    except BadInputError:
        return None, None, []
    try:
        application = await read_application(declared)
    except RoasError as error:
        log.info("dependencies of %s are not known: %s", environment, error)
        return declared, None, []
    return declared, application, dependencies_of(declared, application)


async def _not_needed(environment: Environment, application: Application, service: str) -> str | None:
    """Why what an event told seconds ago calls for nothing now; None where it still does."""
    if await is_watched(environment.name, datetime.now(UTC)):
        return f"the watch of {environment.name} looks after it"
    if await stopped_on_request(environment.name) or await stopped_by_person(environment, service):
        return "it was stopped on request"
    health = await _health_now(environment, application)
    verdict = next((one for one in health.services if one.service == service), None) if health else None
    return f"it is {verdict.health} now" if verdict is not None and verdict.health not in _DOWN else None


async def _dependencies_down(
    environment: Environment, application: Application | None, service: str, dependencies: Sequence[Dependency]
) -> tuple[str, ...]:
    """What the service needs and does not have, nearest first."""
    needed = [need.depends_on for need in dependencies if need.service == service]
    if not needed:
        return ()
    health = await _health_now(environment, application)
    ill = {} if health is None else {v.service for v in health.services if v.health in _DOWN}
    return tuple(name for name in needed if name in ill)


async def _health_now(environment: Environment, application: Application | None) -> HealthReport | None:
    try:
        return await judge_now(environment, application or await read_application(environment))
    except RoasError as error:
        log.info("health of %s is not known: %s", environment.name, error)
        return None


async def _decide(
    environment: Environment | None,
    error: RecordedError,
    service: str | None,
    *,
    act: bool,
    failing_services: int,
    now: datetime,
) -> Plan:
    past = await past_recoveries(error.environment, now - _BUDGET_WINDOW)
    facts = RecoveryFacts(
        service=service,
        outside_logins=bool(environment and service and environment.service(service).outside_logins),
        stopped_by_person=bool(environment and service and await stopped_by_person(environment, service)),
        failing_services=failing_services,
        paused=await recovery_paused(error.environment, service, now),
        acting=act,
        can_carry_out=_BY_RESTART,
    )
    return plan_recovery(
        error,
        past=past,
        policy=environment.recovery if environment else RecoveryPolicy(),
        facts=facts,
        now=now,
    )


async def _carry_out(environment: Environment, error: RecordedError, service: str, plan: Plan) -> RecoveryOutcome:
    """Do what the plan says, write down each step as it happens, and prove that it helped."""
    if plan.delay:
        await asyncio.sleep(plan.delay.total_seconds())
    begun = datetime.now(UTC)
    execution = RecoveryExecution(error_id=error.error_id, strategy=plan.strategy, started_at=begun)
    execution_id = await begin_execution(execution)
    steps: list[Step] = []
    order = [*plan.dependencies, service] if plan.strategy is not Strategy.RESTART_SERVICE else [service]
    failed: str | None = None
    try:
        for name in order:
            steps.append(await _step("restart", name, restart_step(environment, name, plan.attempt, error.error_id)))
            verified = await _step("verify", name, wait_until_well(environment, name))
            steps.append(verified)
    except RoasError as trouble:
        failed = str(trouble)
        at = datetime.now(UTC)
        steps.append(Step(name="failed", target=service, ok=False, detail=failed, started_at=at, ended_at=at))
    ended = datetime.now(UTC)
    success = failed is None
    status = f"{service} healthy again after {(ended - begun).total_seconds():.1f} s" if success else str(failed)
    await finish_execution(
        execution_id,
        RecoveryExecution(
            error_id=error.error_id,
            strategy=plan.strategy,
            started_at=begun,
            ended_at=ended,
            success=success,
            steps=tuple(steps),
            final_status=status,
            manual_intervention_required=not success,
        ),
        resolution=f"automatic: {plan.strategy}" if success else None,
    )
    log.info("recovery of %s: %s", service, status)
    return RecoveryOutcome(
        error_id=error.error_id,
        success=success,
        method=RecoveryMethod.AUTOMATIC,
        steps=tuple(step.detail for step in steps),
        reason=status,
    )


async def _step(name: str, target: str, doing: Awaitable[str]) -> Step:
    began = datetime.now(UTC)
    detail = await doing
    return Step(name=name, target=target, ok=True, detail=detail, started_at=began, ended_at=datetime.now(UTC))


async def _ask_a_person(
    environment: Environment | None,
    error: RecordedError,
    verdict: Verdict,
    service: str | None,
    plan: Plan,
    affected: tuple[str, ...],
    tried: tuple[str, ...],
    evidence: tuple[str, ...],
) -> RecoveryOutcome:
    now = datetime.now(UTC)
    steps = manual_steps(verdict, service=service, project=environment.project if environment else error.environment)
    ticket = await open_ticket(
        Ticket(
            ticket_id=new_ticket_id(now),
            error_id=error.error_id,
            environment=error.environment,
            title=f"{verdict.category} of {service or error.environment}: {plan.reason}",
            opened_at=now,
            service=service,
            steps=steps,
            tried=tried,
            affected_services=affected,
            evidence=evidence,
        )
    )
    log.warning("ticket %s: %s", ticket.ticket_id, ticket.title)
    return RecoveryOutcome(
        error_id=error.error_id,
        success=False,
        method=RecoveryMethod.MANUAL_REQUIRED,
        steps=steps,
        ticket_id=ticket.ticket_id,
        reason=plan.reason,
    )
