"""A service judged by what its Compose file says it is: a job that ends, or something that stays up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from core.errors.evidence import shorten
from core.monitoring.health import judge_service, unknown_service
from core.monitoring.measurements import ILL, by_service
from models.compose import Application, ServiceDeclaration
from models.containers import ContainerState
from models.environments import Environment, ServiceSpec
from models.errors import Category, Evidence, Severity, Strategy, Verdict
from models.health import HealthReport, ProbeResult, ServiceHealth, ServiceVerdict
from models.operations import StateChange

_SEVERAL = "several services fail at once"
"""Instead of the template of their words: who fails differs from look to look, and the cause is one."""


def worst_service(report: HealthReport) -> ServiceVerdict:
    """The service that an unhealthy environment is to be blamed on: a required one that is down, if there is one.

    Where nothing was seen at all, the environment itself is to be blamed, as unknown.
    """
    if not report.services:
        why = "; ".join(report.findings) or "nothing of it was seen"
        return ServiceVerdict(service=report.environment, health=ServiceHealth.UNKNOWN, reason=why)
    return next((one for one in report.services if one.required and one.health in ILL), report.services[0])


def state_changes(report: HealthReport, before: Mapping[str, str], deployment_id: str) -> list[StateChange]:
    """What differs from the states recorded last (`before`, by service), each with the reason of its verdict."""
    return [
        StateChange(
            deployment_id=deployment_id,
            service=verdict.service,
            previous_state=before.get(verdict.service),
            new_state=str(verdict.health),
            changed_at=report.checked_at,
            reason=verdict.reason,
            details={"cause": f"seen by health check {deployment_id}"},
        )
        for verdict in report.services
        if before.get(verdict.service) != verdict.health
    ]


def as_failure(verdict: Verdict, text: str, evidence: Evidence | None = None) -> Verdict:
    """The verdict on `text` that came out of a failure: it may be of unknown cause, but not benign.

    What ended well has failed all the same where it was to stay up.
    """
    if verdict.category is not Category.BENIGN:
        return verdict
    if evidence is not None and evidence.container_state == "exited" and evidence.exit_code == 0:
        return dataclasses.replace(
            verdict,
            category=Category.CONTAINER_EXITED,
            severity=Severity.HIGH,
            strategy=Strategy.RESTART_SERVICE,
            reason="It ended with exit code 0, and it is to stay up.",
        )
    return dataclasses.replace(
        verdict,
        category=Category.UNKNOWN,
        severity=Severity.HIGH,
        strategy=Strategy.INVESTIGATE,
        reason=f'"{shorten(text)}" is a failure and names no known cause',
    )


def as_one_of_several(verdict: Verdict, failing: int) -> Verdict:
    """The verdict on one of so many services that fail at once: their one cause is in none of their words."""
    return dataclasses.replace(
        verdict,
        category=Category.UNKNOWN,
        severity=Severity.CRITICAL,
        strategy=Strategy.INVESTIGATE,
        reason=f"{failing} services fail at once, which points to the host or the engine.",
        pattern_name=None,
        span=None,
        template=_SEVERAL,
    )


def judge_declared(
    declaration: ServiceDeclaration,
    container_states: Sequence[ContainerState],
    probe: ProbeResult | None,
    spec: ServiceSpec,
) -> ServiceVerdict:
    """Judge a declared service from its containers and its probe.

    A running service counts as a job only where somebody awaits its end: one that merely has neither check
    nor restart policy may well be meant to stay up. What has ended well counts as done for both.
    """
    mine = [seen for seen in container_states if seen.service == declaration.name and not seen.one_off]
    runs = any(seen.state == "running" for seen in mine)
    one_shot = declaration.awaited if runs else declaration.one_shot
    return judge_service(declaration.name, mine, probe, spec=spec, one_shot=one_shot)


def judge_all(
    environment: Environment,
    application: Application,
    container_states: Sequence[ContainerState],
    answers: Mapping[str, ProbeResult | str],
) -> list[ServiceVerdict]:
    """Judge every declared service; its answer is what its probe said, or why that could not be asked."""
    seen = by_service(container_states)
    return [
        _judge_answered(environment, declaration, seen.get(declaration.name, []), answers.get(declaration.name))
        for declaration in application.services.values()
        if declaration.replicas
    ]


def _judge_answered(
    environment: Environment,
    declaration: ServiceDeclaration,
    container_states: Sequence[ContainerState],
    answer: ProbeResult | str | None,
) -> ServiceVerdict:
    spec = environment.service(declaration.name)
    if isinstance(answer, str):
        return unknown_service(declaration.name, answer, spec=spec)
    return judge_declared(declaration, container_states, answer, spec)
