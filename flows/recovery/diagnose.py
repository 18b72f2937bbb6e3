"""Diagnosis: find the cause of an incident, and record it with its evidence and impact."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from adapters.config.needs import declared_needs
from adapters.stores.recovery_writes import RecordError
from core.deployment.needs import dependants_of_environment, was_down_when_it_failed
from core.errors.classify import OF_A_NEED, as_failure, as_need_down, as_one_of_several, classify
from core.errors.evidence import best_line, evidence_of, logs_of_failed
from core.errors.impact import analyse_impact
from core.errors.match import PatternSet
from core.errors.templates import template_of
from core.recovery.policy import AT_ONCE
from flows.common.judge_health import judge_now
from flows.common.needs import judge_needs
from models.compose import Application
from models.containers import ContainerState
from models.environments import Environment
from models.errors import REFUSED, SAID, SYMPTOMS, Category, RecordedError, Verdict
from models.evidence import EvidenceBundle
from models.failures import RoasError
from models.health import UNHEALTHY_STATES, HealthReport
from models.incidents import Incident
from models.metrics import Dependency
from models.recovery import RecoveryMethod, RecoveryOutcome
from models.settings import current_settings
from tasks.deployment.services import inspect_application, read_application, read_ports_taken
from tasks.errors.evidence import failure_evidence
from tasks.recovery.records import read_known_facts, record_error, record_error_of_the_run
from tasks.runtime.identifiers import new_error_id
from tasks.runtime.project import Project

log = logging.getLogger("roas")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentContext:
    """The environment, its application and who needs whom in it; None and empty where they could not be read."""

    project: Project | None
    application: Application | None
    dependencies: tuple[Dependency, ...] = ()
    compose_files: tuple[str, ...] = ()

    @property
    def environment(self) -> Environment | None:
        """The environment as it was loaded."""
        return self.project.environment if self.project is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A recorded error with its cause and evidence.

    `unpublished` is evidence that the run's page does not show yet. `disk_percent` is the use of the host's disk.
    `again` is the command that begins the operation again which failed, `said` the sentence that shows the cause.
    `was_reported_to_person`: validation refused what a person had typed.
    """

    error: RecordedError
    verdict: Verdict
    detected_at: datetime
    affected: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    script: str | None = None
    unpublished: tuple[EvidenceBundle, ...] = ()
    disk_percent: float | None = None
    again: str = ""
    said: str = ""
    was_reported_to_person: bool = False


def not_needed(reason: str, error_id: str = "") -> RecoveryOutcome:
    """Return the outcome where there is nothing to recover from."""
    return RecoveryOutcome(error_id=error_id, success=True, method=RecoveryMethod.NONE_NEEDED, steps=(), reason=reason)


async def diagnose(incident: Incident, context: IncidentContext, *, of_the_run: bool = False) -> Diagnosis:
    """Gather evidence, find the cause, and record both with the impact.

    `of_the_run`: the run may be suspended and begin again, and must find the error as it was recorded first.
    """
    now = datetime.now(UTC)
    service, environment = incident.service, context.environment
    needed = [need.depends_on for need in context.dependencies if need.service == service]
    # An operation that validation stopped has changed nothing, so its services and their health say nothing about it.
    stopped_before = incident.source == REFUSED
    operated = None if stopped_before else incident.deployment_id
    bundles, facts, health = await asyncio.gather(
        asyncio.sleep(0, incident.evidence)
        if incident.evidence or stopped_before
        else take_evidence(context, service, incident.text, deployment_id=incident.deployment_id),
        read_known_facts(incident.environment, now, incident.deployment_id),
        # A service that does not answer is not probed again; an operation concerns the health of all services.
        health_now(context, operated, probed_services=None if operated else needed)
        if environment and (needed or operated)
        else asyncio.sleep(0),
    )
    down = services_down(health, needed)
    if down:
        # One late answer is no reason to restart what others depend on.
        down = services_down(await health_now(context, probed_services=down), down)
    service_evidence = evidence_of(bundles[0]) if service and bundles else None
    evidence = (
        replace(service_evidence, dependencies_down=down, deployed_seconds_ago=facts.deployed_seconds_ago)
        if service_evidence
        else None
    )
    own_names = (
        {service, *(container.name for container in bundles[0].containers if container.service == service)}
        if service_evidence
        else set()
    )
    verdict = classify(incident.text, facts.patterns, evidence=evidence, own_names={name for name in own_names if name})
    if incident.source != "person":
        verdict = as_failure(verdict, incident.text, evidence)
    if verdict.category is Category.PORT_CONFLICT and "taken by" not in incident.text:
        verdict = await _with_holders(verdict, service, context)
    needs = [] if stopped_before else await _needs_behind(context, service, verdict)
    if needs:
        verdict = as_need_down(verdict, needs)
    if incident.failing_services >= AT_ONCE:
        # One error for all of them; what each shows is evidence of it.
        verdict, service = as_one_of_several(verdict, incident.failing_services), None
    untouched = await _containers_now(context) if facts.untouched else ()
    impact = analyse_impact(verdict, service, context.dependencies, untouched)
    takes_down = await _takes_down(incident.environment, service)
    if impact is not None and takes_down:
        impact = replace(impact, affected_services=(*impact.affected_services, *takes_down))
    record = record_error_of_the_run if of_the_run else record_error
    new_error = RecordedError(
        error_id=new_error_id(now),
        environment=incident.environment,
        text=incident.text,
        source=incident.source,
        verdict=verdict,
        first_seen=now,
        last_seen=now,
        deployment_id=incident.deployment_id,
        service=service,
        predictive=incident.predictive,
        evidence=(asdict(evidence) if evidence else {})
        | _words_of_cause(incident, verdict, bundles, facts.patterns)
        | ({"needs_down": needs} if needs else {})
        | ({"takes_down": takes_down} if takes_down else {}),
    )
    bundle_ids = tuple(bundle.bundle_id for bundle in bundles)
    error = await record(
        RecordError(
            error=new_error,
            impact=impact,
            bundles=bundle_ids,
            taken=incident.evidence,
            health=health if operated else None,
        )
    )
    log.info("error %s: %s. %s", error.error_id, verdict.category, verdict.reason)
    verdict = error.verdict if of_the_run else verdict
    return Diagnosis(
        error=error,
        verdict=verdict,
        detected_at=now,
        affected=impact.affected_services if impact else (),
        evidence=bundle_ids,
        script=facts.patterns.script_of(verdict.pattern_name),
        unpublished=incident.evidence,
        again=facts.again,
        said=bundles[0].first_cause if bundles else incident.text,
        was_reported_to_person=stopped_before and facts.typed,
        disk_percent=next((bundle.host.disk_percent for bundle in bundles if bundle.host), None),
    )


def _words_of_cause(
    incident: Incident, verdict: Verdict, bundles: Sequence[EvidenceBundle], patterns: PatternSet
) -> dict[str, str]:
    """The line that shows the cause of a failed operation whose text says only how it failed."""
    untold = {*SYMPTOMS, Category.UNKNOWN, Category.APPLICATION_ERROR}
    if incident.deployment_id is None or verdict.category not in untold or not bundles:
        return {}
    bundle = bundles[0]
    logs = logs_of_failed(bundle.cause_service, bundle.containers, bundle.logs)
    line = best_line(bundle.cause_service, logs, patterns)
    return {SAID: template_of(line)} if line else {}


async def _needs_behind(context: IncidentContext, service: str | None, verdict: Verdict) -> list[str]:
    """Return the needs in other environments for whose absence a service may have failed, also if they are back.

    The log of a service still says so once they are; and an agent that waited for them may have been killed.
    """
    if context.environment is None or not context.environment.needs or verdict.category not in OF_A_NEED:
        return []
    containers = [state for state in await _containers_now(context) if service in (None, state.service)]
    moments = [moment for state in containers if (moment := state.started_at if state.up else state.finished_at)]
    failed_at = max(moments, default=datetime.now(UTC))
    states = await judge_needs(context.environment)
    return [state.need for state in states if was_down_when_it_failed(state, failed_at)]


async def _takes_down(environment: str, service: str | None) -> list[str]:
    """Return the other environments that need what failed, nearest first."""
    needs = await asyncio.to_thread(declared_needs, current_settings())
    return dependants_of_environment(environment, needs, None if service is None else [service])


async def _with_holders(verdict: Verdict, service: str | None, context: IncidentContext) -> Verdict:
    """Return the verdict on a taken port with who holds it now: the engine says only that it is taken."""
    if context.project is None:
        return verdict
    try:
        application = context.application or await read_application(context.project)
        holders = await read_ports_taken(context.project, application, service)
    except RoasError as error:
        log.info("who holds the port is not known: %s", error)
        return verdict
    return replace(verdict, reason=" ".join((verdict.reason, *holders)))


async def health_now(
    context: IncidentContext, deployment_id: str | None = None, *, probed_services: Collection[str] | None = None
) -> HealthReport | None:
    """Judge health now, with the probes of `probed_services`; None where the engine does not answer."""
    project = context.project
    if project is None:
        return None
    try:
        application = context.application or await read_application(project)
        return await judge_now(project, application, deployment_id=deployment_id, probed_services=probed_services)
    except RoasError as error:
        log.info("health of %s is not known: %s", project.environment.name, error)
        return None


async def _containers_now(context: IncidentContext) -> Sequence[ContainerState]:
    """Return none where the engine does not answer, which the health of the services says already."""
    with suppress(RoasError):
        return await inspect_application(context.project) if context.project else ()
    return ()


def services_down(health: HealthReport | None, needed: Sequence[str]) -> tuple[str, ...]:
    """Return those of the needed services that are down, in the same order."""
    unhealthy = (
        set()
        if health is None
        else {verdict.service for verdict in health.services if verdict.health in UNHEALTHY_STATES}
    )
    return tuple(name for name in needed if name in unhealthy)


async def take_evidence(
    context: IncidentContext, service: str | None, reason: str, *, deployment_id: str | None = None, keep: bool = True
) -> Sequence[EvidenceBundle]:
    """Take evidence of a failure, or read what its operation took; none where the environment is not known."""
    if context.project is None:
        return ()
    return await failure_evidence(
        context.project, context.application, service, deployment_id=deployment_id, reason=reason, keep=keep
    )
