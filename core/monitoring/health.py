"""Health: one service judged from what was seen and probed, the whole from its services, and a score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from core.common.intervals import wilson
from models.analysis import Grade, ServiceScore, Share
from models.containers import ContainerState
from models.environments import ServiceSpec
from models.failures import BadInputError
from models.health import Health, HealthReport, ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyStatus, DependencyType, HealthImpact

WEIGHTS = {"uptime": 0.30, "performance": 0.25, "errors": 0.25, "dependencies": 0.20}
"""What each part of a service's score counts."""

CAP_DOWN = 40.0
CAP_DEPENDENCY_DOWN = 60.0
"""A weighted mean would give 70 to a dead service: so the score is capped while one is down."""

_WELL = {ServiceHealth.HEALTHY, ServiceHealth.COMPLETED}
_DOWN = {ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED}
_WORST_FIRST = (
    ServiceHealth.UNHEALTHY,
    ServiceHealth.STOPPED,
    ServiceHealth.UNKNOWN,
    ServiceHealth.DEGRADED,
    ServiceHealth.STARTING,
    ServiceHealth.UNPROVEN,
    ServiceHealth.COMPLETED,
    ServiceHealth.HEALTHY,
)
_KILLED = 137
_GRADES = ((90.0, Grade.A), (80.0, Grade.B), (70.0, Grade.C), (60.0, Grade.D), (0.0, Grade.F))
_GRADE_MARGIN = 5.0
_GRADE_ROWS = 3
_BUDGETS_TO_ZERO = 10.0
_THIN = 30


def judge_service(
    service: str,
    container_states: Sequence[ContainerState],
    probe: ProbeResult | None,
    *,
    spec: ServiceSpec,
    one_shot: bool = False,
) -> ServiceVerdict:
    """What is known of a service from all its containers and its probe, with the reason.

    A one-shot service is one that is meant to end, with exit code 0. Containers of `compose run` are none
    of a service's replicas and are left out.
    """
    replicas = [
        _judge_container(container_state, probe, one_shot)
        for container_state in container_states
        if not container_state.one_off
    ]
    health, reason = _together(replicas)
    return ServiceVerdict(
        service=service,
        health=health,
        reason=reason,
        required=spec.required,
        probes=() if probe is None else (probe,),
    )


def unknown_service(service: str, why: str, *, spec: ServiceSpec) -> ServiceVerdict:
    """The verdict where nothing could be looked at, as when the engine does not answer."""
    return ServiceVerdict(
        service=service, health=ServiceHealth.UNKNOWN, reason=f"not known: {why}", required=spec.required
    )


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
    """The whole: unhealthy if a required service or dependency is down or nothing is known, degraded if
    anything else is less than well. What is not known or not proven never counts as healthy."""
    needs, found = tuple(dependencies), tuple(findings)
    return HealthReport(
        environment=environment,
        overall=_overall(verdicts, needs, critical_alerts, bool(found)),
        checked_at=now,
        services=tuple(verdicts),
        deployment_id=deployment_id,
        system_load=system_load,
        critical_alerts=critical_alerts,
        findings=tuple(dict.fromkeys((*_findings(verdicts, needs), *found))),
    )


def score_service(
    service: str,
    *,
    uptime: Share | None = None,
    surprise: float | None = None,
    requests: Share | None = None,
    dependencies: Sequence[Dependency] | None = None,
    down: bool = False,
    objective: float = 0.999,
) -> ServiceScore:
    """The health score of a service: 0.30 uptime, 0.25 performance, 0.25 error rate, 0.20 dependencies.

    `uptime` counts checks, `requests` counts requests or probes, each over the objective's period;
    `objective` is the share of each that must be good, 0-1: at the whole budget spent a part has 90
    points, at ten budgets none. `surprise` is how unusual the worst metric is, 0-1. A part without data
    is left out, the rest weighs more, and the coverage says so. Raises BadInputError for an impossible share.
    """
    if not 0 < objective < 1:
        raise BadInputError(f"An objective of {objective} is none;", advice="give a share like 0.999.")
    if surprise is not None and not 0 <= surprise <= 1:
        raise BadInputError(f"A surprise of {surprise} is none;", advice="give a share between 0 and 1.")
    parts: dict[str, float | None] = {
        "uptime": _budget_points(_value(uptime), objective),
        "performance": None if surprise is None else 100 * (1 - surprise),
        "errors": _budget_points(_value(requests), objective),
        "dependencies": None if not dependencies else _dependency_points(dependencies),
    }
    cap, why = _cap(down, dependencies or ())
    score = _weighted(parts, cap)
    bounds = [
        _weighted(
            parts
            | {
                "uptime": _budget_points(_bound(uptime, side), objective),
                "errors": _budget_points(_bound(requests, side), objective),
            },
            cap,
        )
        for side in (0, 1)
    ]
    return ServiceScore(
        service=service,
        score=score,
        low=bounds[0],
        high=bounds[1],
        grade=None if score is None else grade(score),
        coverage=sum(WEIGHTS[name] for name, points in parts.items() if points is not None),
        parts=parts,
        cap=why,
        suggestions=_suggestions(parts, uptime, requests, dependencies or (), why),
    )


def grade(score: float) -> Grade:
    """The letter of a score of 0-100 points."""
    return next(letter for least, letter in _GRADES if score >= least or letter is Grade.F)


def hold_grade(previous: Grade | None, scores: Sequence[float]) -> Grade | None:
    """The grade to show, oldest score first: it changes after three rows five points past a border."""
    if not scores:
        return previous
    if previous is None:
        return grade(scores[-1])
    recent = scores[-_GRADE_ROWS:]
    if len(recent) < _GRADE_ROWS:
        return previous
    letters = list(Grade)
    at_best = grade(max(recent) + _GRADE_MARGIN)
    at_worst = grade(min(recent) - _GRADE_MARGIN)
    if letters.index(at_best) > letters.index(previous):
        return at_best
    if letters.index(at_worst) < letters.index(previous):
        return at_worst
    return previous


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
            said = _exit_in_words(container_state).removeprefix("exit ")
            return ServiceHealth.STOPPED, f"does not run: its container exited with {said}"
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
    if container_state.health == "unhealthy":
        return ServiceHealth.UNHEALTHY, f"its own health check fails{_last_output(container_state)}"
    if probe is not None and not probe.ok:
        contrast = "its own health check passes, but " if container_state.health == "healthy" else "runs, but "
        return (
            ServiceHealth.STARTING if container_state.health == "starting" else ServiceHealth.UNHEALTHY,
            f"{contrast}{_probe_in_words(probe)} failed: {probe.detail}",
        )
    if container_state.health == "starting":
        return ServiceHealth.STARTING, "runs, and its own health check has not passed yet"
    if container_state.health == "healthy":
        also = f", and {_probe_in_words(probe)} answers" if probe else ""
        return ServiceHealth.HEALTHY, f"its own health check passes{also}"
    if probe is not None:
        took = "" if probe.latency_ms is None else f" in {probe.latency_ms:.0f} ms"
        return ServiceHealth.HEALTHY, f"{_probe_in_words(probe)} answers{took}"
    return ServiceHealth.UNPROVEN, "runs, but has neither health check nor probe to prove it works"


def _together(replicas: Sequence[tuple[ServiceHealth, str]]) -> tuple[ServiceHealth, str]:
    if not replicas:
        return ServiceHealth.STOPPED, "has no container"
    health, reason = min(replicas, key=lambda one: _WORST_FIRST.index(one[0]))
    well = sum(one[0] in _WELL for one in replicas)
    if len(replicas) == 1 or well == len(replicas):
        return health, reason
    if well and health not in (ServiceHealth.STARTING, ServiceHealth.UNPROVEN):
        return ServiceHealth.DEGRADED, f"{well} of {len(replicas)} replicas are well; one {reason}"
    return health, f"{well} of {len(replicas)} replicas are well; one {reason}"


def _exit_in_words(container_state: ContainerState) -> str:
    if container_state.oom_killed:
        return f"exit code {container_state.exit_code}, killed by the kernel for using too much memory"
    if container_state.exit_code == _KILLED:
        return f"exit code {_KILLED}, killed by a signal from outside"
    said = f" ({container_state.error})" if container_state.error else ""
    return f"exit code {container_state.exit_code}{said}"


def _last_output(container_state: ContainerState) -> str:
    if not container_state.health_log:
        return ""
    last = container_state.health_log[-1]
    words = " ".join(last.output.split())[:200]
    return f": {words}" if words else f": exit code {last.exit_code} without a word"


def _probe_in_words(probe: ProbeResult) -> str:
    return f"the {probe.kind} probe of {probe.target}"


def _overall(
    verdicts: Sequence[ServiceVerdict], needs: Sequence[Dependency], critical_alerts: int, found: bool
) -> Health:
    broken = [one for one in needs if one.status is DependencyStatus.FAILED]
    if (
        not verdicts
        or all(verdict.health is ServiceHealth.UNKNOWN for verdict in verdicts)
        or any(verdict.required and verdict.health in _DOWN for verdict in verdicts)
        or any(_is_hard(one) for one in broken)
    ):
        return Health.UNHEALTHY
    if broken or critical_alerts or found or any(verdict.health not in _WELL for verdict in verdicts):
        return Health.DEGRADED
    return Health.HEALTHY


def _is_hard(need: Dependency) -> bool:
    return need.dependency_type is DependencyType.REQUIRED and need.health_impact is HealthImpact.CRITICAL


def _findings(verdicts: Sequence[ServiceVerdict], needs: Sequence[Dependency]) -> Iterable[str]:
    if not verdicts:
        yield "no service of this environment was seen"
    judged: Mapping[str, ServiceVerdict] = {verdict.service: verdict for verdict in verdicts}
    for verdict in verdicts:
        if verdict.health in _WELL:
            continue
        lost = [
            need.depends_on
            for need in needs
            if need.service == verdict.service and need.depends_on in judged and judged[need.depends_on].health in _DOWN
        ]
        because = f"; it needs {', '.join(lost)}, which is down" if lost else ""
        yield f"{verdict.service} {verdict.reason}{because}"
    for need in needs:
        if need.status is DependencyStatus.FAILED and need.depends_on not in judged:
            yield f"{need.service} does not reach {need.depends_on}"


def _value(share: Share | None) -> float | None:
    return None if share is None else share.value


def _bound(share: Share | None, side: int) -> float | None:
    return None if share is None or not share.total else wilson(share.good, share.total)[side]


def _budget_points(share: float | None, objective: float) -> float | None:
    if share is None:
        return None
    budgets_spent = (1 - share) / (1 - objective)
    return 100 * max(0.0, 1 - budgets_spent / _BUDGETS_TO_ZERO)


def _dependency_points(needs: Sequence[Dependency]) -> float:
    weights = {HealthImpact.CRITICAL: 3.0, HealthImpact.MODERATE: 2.0, HealthImpact.LOW: 1.0}
    worth = {DependencyStatus.ACTIVE: 1.0, DependencyStatus.INACTIVE: 0.5, DependencyStatus.FAILED: 0.0}
    total = sum(weights[need.health_impact] for need in needs)
    return 100 * sum(weights[need.health_impact] * worth[need.status] for need in needs) / total


def _cap(down: bool, needs: Sequence[Dependency]) -> tuple[float, str]:
    if down:
        return CAP_DOWN, f"the service is down: at most {CAP_DOWN:.0f} points"
    lost = [need.depends_on for need in needs if _is_hard(need) and need.status is DependencyStatus.FAILED]
    if lost:
        return (
            CAP_DEPENDENCY_DOWN,
            f"{', '.join(lost)}, which it needs, is down: at most {CAP_DEPENDENCY_DOWN:.0f} points",
        )
    return 100.0, ""


def _weighted(parts: Mapping[str, float | None], cap: float) -> float | None:
    known = {name: points for name, points in parts.items() if points is not None}
    if not known:
        return None
    weight = sum(WEIGHTS[name] for name in known)
    return min(cap, sum(WEIGHTS[name] * points for name, points in known.items()) / weight)


def _suggestions(
    parts: Mapping[str, float | None],
    uptime: Share | None,
    requests: Share | None,
    needs: Sequence[Dependency],
    cap: str,
) -> tuple[str, ...]:
    advice = {
        "uptime": "look at the errors of its last outages: what ended it, and would it end it again?",
        "performance": "compare its metrics with their baselines; the alert names the one that stands out.",
        "errors": "read its logs around the failed requests; a recent deployment is the first suspect.",
        "dependencies": "mend what it needs first: "
        + ", ".join(sorted({need.depends_on for need in needs if need.status is not DependencyStatus.ACTIVE})),
    }
    lost = {name: WEIGHTS[name] * (100 - points) for name, points in parts.items() if points is not None}
    reported = [cap] if cap else []
    reported += [
        f"{name} costs {lost[name]:.0f} points: {advice[name]}"
        for name in sorted(lost, key=lost.__getitem__, reverse=True)
        if lost[name] >= 1
    ]
    missing = [name for name, points in parts.items() if points is None]
    if missing:
        reported.append(f"no data for {', '.join(missing)}: the score says nothing about it")
    if any(share is not None and 0 < share.total < _THIN for share in (uptime, requests)):
        reported.append(f"fewer than {_THIN} checks: read the score with its bounds")
    return tuple(reported)
