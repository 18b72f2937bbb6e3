"""Judge the health of each service and of the whole environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from core.common.networks import lost_networks
from models.compose import Application, ServiceDeclaration
from models.containers import ContainerState, replicas
from models.environments import Environment, ServiceSpec
from models.health import UNHEALTHY_STATES, Health, HealthReport, ProbeResult, ServiceHealth, ServiceVerdict, Unasked
from models.metrics import Dependency, DependencyStatus
from models.operations import StateChange

_HEALTHY = {ServiceHealth.HEALTHY, ServiceHealth.COMPLETED}
_NOTHING_WRONG = {*_HEALTHY, ServiceHealth.UNPROVEN}
_WORST_FIRST = (
    *(ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED, ServiceHealth.UNKNOWN, ServiceHealth.DEGRADED),
    *(ServiceHealth.STARTING, ServiceHealth.UNPROVEN, ServiceHealth.COMPLETED, ServiceHealth.HEALTHY),
)
_KILLED = 137


def judge_service(
    service: str,
    container_states: Sequence[ContainerState],
    probe: ProbeResult | None,
    *,
    spec: ServiceSpec,
    one_shot: bool = False,
) -> ServiceVerdict:
    """Judge a service from all its containers and its probe, with the reason.

    A one-shot service should end with exit code 0. Containers of `compose run` are no replicas and do not count.
    """
    containers = replicas(container_states)
    health, reason = _together([_judge_container(container, probe, one_shot) for container in containers])
    probes = () if probe is None else (probe,)
    return ServiceVerdict(service=service, health=health, reason=reason, required=spec.required, probes=probes)


def unknown_service(service: str, why: str, *, spec: ServiceSpec) -> ServiceVerdict:
    """Return the verdict on a service that could not be inspected."""
    reason = f"not known: {why}"
    return ServiceVerdict(service=service, health=ServiceHealth.UNKNOWN, reason=reason, required=spec.required)


def judge_environment(
    environment: str,
    verdicts: Sequence[ServiceVerdict],
    *,
    now: datetime,
    dependencies: Iterable[Dependency] = (),
    deployment_id: str | None = None,
    system_load: float | None = None,
    critical_alerts: int = 0,
    findings: Iterable[str] = (),
) -> HealthReport:
    """Judge the whole environment.

    Unhealthy if a required service or dependency is down or nothing is known; degraded if anything else is wrong.
    That a running service has neither health check nor probe is no fault: its verdict says so, the findings do not.
    """
    needs, problems = tuple(dependencies), tuple(findings)
    return HealthReport(
        environment=environment,
        overall=_overall(verdicts, needs, critical_alerts, bool(problems)),
        checked_at=now,
        services=tuple(verdicts),
        deployment_id=deployment_id,
        system_load=system_load,
        critical_alerts=critical_alerts,
        findings=tuple(dict.fromkeys((*_findings(verdicts, needs), *problems))),
    )


def judge_declared(
    declaration: ServiceDeclaration,
    container_states: Sequence[ContainerState],
    probe: ProbeResult | None,
    spec: ServiceSpec,
) -> ServiceVerdict:
    """Judge a declared service from its containers and its probe, or without a probe that was not asked.

    A running service counts as a job only if another service awaits its end: one with neither health check nor
    restart policy may be meant to stay up. A service that exited with code 0 counts as completed in both cases.
    """
    containers = replicas(container_states, declaration.name)
    # One beside the container that it replaces does not count until it takes its place.
    containers = [container for container in containers if container.replaces is None] or containers
    runs = any(container.state == "running" for container in containers)
    one_shot = declaration.awaited if runs else declaration.one_shot
    verdict = judge_service(declaration.name, containers, probe, spec=spec, one_shot=one_shot)
    if verdict.health is ServiceHealth.UNPROVEN and probe is None and spec.probe is not None:
        return replace(verdict, reason="runs; its probe is asked at the next check")
    return verdict


def judge_without_probe(
    declaration: ServiceDeclaration, container_states: Sequence[ContainerState], unasked: Unasked, spec: ServiceSpec
) -> ServiceVerdict:
    """Judge a declared service whose probe cannot be asked from this machine; the reason says so."""
    verdict = judge_declared(declaration, container_states, None, spec.model_copy(update={"probe": None}))
    return replace(verdict, reason=f"{verdict.reason}; its probe is not asked: {unasked.why}")


def judge_all(
    environment: Environment,
    application: Application,
    container_states: Sequence[ContainerState],
    answers: Mapping[str, ProbeResult | Unasked | str],
) -> list[ServiceVerdict]:
    """Judge every declared service; `answers` are the probe results, or why a probe could not run.

    Where a probe cannot be asked from this machine, the engine's own health check decides.
    """
    verdicts = []
    for name, declaration in application.services.items():
        spec, answer = environment.service(name), answers.get(name)
        if declaration.replicas and isinstance(answer, str):
            verdicts.append(unknown_service(name, answer, spec=spec))
        elif declaration.replicas and not isinstance(answer, str):
            if isinstance(answer, Unasked):
                verdict = judge_without_probe(declaration, container_states, answer, spec)
            else:
                verdict = judge_declared(declaration, container_states, answer, spec)
            networks = lost_networks(name, application, container_states)
            verdicts.append(_verdict_of_disconnected(verdict, networks) if networks else verdict)
    return verdicts


def _verdict_of_disconnected(verdict: ServiceVerdict, networks: Sequence[str]) -> ServiceVerdict:
    reason = f"its container is not connected to network {', '.join(networks)}, which its Compose files declare"
    if verdict.health in UNHEALTHY_STATES:
        reason = f"{reason}; {verdict.reason}"
    return replace(verdict, health=ServiceHealth.UNHEALTHY, reason=reason)


def worst_service(report: HealthReport) -> ServiceVerdict:
    """Return the root of an unhealthy environment: a required service that is down, if there is one.

    If nothing could be inspected, the environment itself, as unknown.
    """
    if not report.services:
        why = "; ".join(report.findings) or "nothing of it was seen"
        return ServiceVerdict(service=report.environment, health=ServiceHealth.UNKNOWN, reason=why)
    return next(
        (verdict for verdict in report.services if verdict.required and verdict.health in UNHEALTHY_STATES),
        report.services[0],
    )


def state_changes(report: HealthReport, before: Mapping[str, str], deployment_id: str) -> list[StateChange]:
    """Return the changes from the states recorded last (`before`, by service), with their reasons."""
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


def _judge_container(
    container_state: ContainerState, probe: ProbeResult | None, one_shot: bool
) -> tuple[ServiceHealth, str]:
    match container_state.state:
        case "running":
            return _judge_running(container_state, probe, one_shot)
        case "restarting":
            times = f"{container_state.restart_count} restart{'s' if container_state.restart_count != 1 else ''}"
            return ServiceHealth.UNHEALTHY, f"keeps ending: {times}, last {_exit_in_words(container_state)}"
        case "exited" if one_shot and container_state.exit_code == 0:
            return ServiceHealth.COMPLETED, "did its work and ended with exit code 0"
        case "exited" if one_shot:
            return ServiceHealth.UNHEALTHY, f"did not do its work: {_exit_in_words(container_state)}"
        case "exited" | "dead":
            words = _exit_in_words(container_state).removeprefix("exit ")
            return ServiceHealth.STOPPED, f"does not run: its container exited with {words}"
        case "created":
            why = f": {container_state.error}" if container_state.error else ""
            return ServiceHealth.STOPPED, f"was created but never started{why}"
        case "paused":
            return ServiceHealth.UNHEALTHY, "is paused: it holds its memory but does nothing"
        case "removing":
            return ServiceHealth.STOPPED, "is being removed"
        case other:
            return ServiceHealth.UNKNOWN, f"is in a state this program does not know: {other}"


def _judge_running(
    container_state: ContainerState, probe: ProbeResult | None, one_shot: bool
) -> tuple[ServiceHealth, str]:
    if one_shot:
        return ServiceHealth.STARTING, "is still at its work and has not ended"
    container_health, probe_name = container_state.health, f"the {probe.kind} probe of {probe.target}" if probe else ""
    if container_health == "unhealthy":
        return ServiceHealth.UNHEALTHY, f"its own health check fails{_last_output(container_state)}"
    if probe is not None and not probe.ok:
        contrast = "its own health check passes, but" if container_health == "healthy" else "runs, but"
        health = ServiceHealth.STARTING if container_health == "starting" else ServiceHealth.UNHEALTHY
        return health, f"{contrast} {probe_name} failed: {probe.detail}"
    if container_health == "starting":
        return ServiceHealth.STARTING, "runs, and its own health check has not passed yet"
    if probe is not None and (reading := next((candidate for candidate in probe.readings if candidate.degrades), None)):
        return ServiceHealth.DEGRADED, f"{probe_name} answers, but {reading.words}"
    if container_health == "healthy":
        return (
            ServiceHealth.HEALTHY,
            f"its own health check passes{f', and {probe_name} answers' if probe_name else ''}",
        )
    if probe is not None:
        took = "" if probe.latency_ms is None else f" in {probe.latency_ms:.0f} ms"
        return ServiceHealth.HEALTHY, f"{probe_name} answers{took}"
    return ServiceHealth.UNPROVEN, "runs, but has neither health check nor probe to prove it works"


def _together(replicas: Sequence[tuple[ServiceHealth, str]]) -> tuple[ServiceHealth, str]:
    if not replicas:
        return ServiceHealth.STOPPED, "has no container"
    health, reason = min(replicas, key=lambda replica: _WORST_FIRST.index(replica[0]))
    well = sum(replica[0] in _HEALTHY for replica in replicas)
    # All run where the worst is unproven: nothing is known to be wrong with any.
    if len(replicas) == 1 or well == len(replicas) or health is ServiceHealth.UNPROVEN:
        return health, reason
    if well and health is not ServiceHealth.STARTING:
        health = ServiceHealth.DEGRADED
    return health, f"{well} of {len(replicas)} replicas are healthy; one {reason}"


def _exit_in_words(container_state: ContainerState) -> str:
    if container_state.oom_killed:
        return f"exit code {container_state.exit_code}, killed by the kernel for using too much memory"
    if container_state.exit_code == _KILLED:
        return f"exit code {_KILLED}, killed by a signal from outside"
    detail = f" ({container_state.error})" if container_state.error else ""
    return f"exit code {container_state.exit_code}{detail}"


def _last_output(container_state: ContainerState) -> str:
    if not container_state.health_log:
        return ""
    last = container_state.health_log[-1]
    words = " ".join(last.output.split())[:200]
    return f": {words}" if words else f": exit code {last.exit_code} without a word"


def _overall(
    verdicts: Sequence[ServiceVerdict], needs: Sequence[Dependency], critical_alerts: int, has_findings: bool
) -> Health:
    broken = [need for need in needs if need.status is DependencyStatus.FAILED]
    if (
        not verdicts
        or all(verdict.health is ServiceHealth.UNKNOWN for verdict in verdicts)
        or any(verdict.required and verdict.health in UNHEALTHY_STATES for verdict in verdicts)
        or any(need.is_critical for need in broken)
    ):
        return Health.UNHEALTHY
    if broken or critical_alerts or has_findings or any(verdict.health not in _NOTHING_WRONG for verdict in verdicts):
        return Health.DEGRADED
    return Health.HEALTHY


def _findings(verdicts: Sequence[ServiceVerdict], needs: Sequence[Dependency]) -> Iterable[str]:
    if not verdicts:
        yield "no service of this environment was seen"
    down = {verdict.service for verdict in verdicts if verdict.health in UNHEALTHY_STATES}
    for verdict in (verdict for verdict in verdicts if verdict.health not in _NOTHING_WRONG):
        dependencies = [
            need.depends_on for need in needs if need.service == verdict.service and need.depends_on in down
        ]
        because = f"; it needs {', '.join(dependencies)}, which is down" if dependencies else ""
        yield f"{verdict.service} {verdict.reason}{because}"
    for need in needs:
        if need.status is DependencyStatus.FAILED and all(verdict.service != need.depends_on for verdict in verdicts):
            yield f"{need.service} does not reach {need.depends_on}"
