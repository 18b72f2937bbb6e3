"""Impact: who is hit by an error, how badly, and for how long by experience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from models.containers import ContainerState, replicas
from models.errors import BusinessImpact, Category, Impact, ImpactType, Severity, Verdict
from models.metrics import Dependency, DependencyType

_SECONDS = {
    60: {Category.NAME_CONFLICT},
    120: {Category.HEALTHCHECK_FAILED, Category.DEPENDENCY_REFUSED},
    180: {Category.CONTAINER_EXITED, Category.OOM_KILLED, Category.TIMEOUT, Category.DATABASE_LOCKED},
    240: {Category.DEPENDENCY_FAILED_START},
    300: {Category.PORT_CONFLICT, Category.DOCKER_NETWORK, Category.DNS_FAILURE, Category.REDIS_STATE},
    600: {Category.DOCKER_PERMISSION_DENIED, Category.VOLUME_MOUNT, Category.MISSING_ENV_SECRET, Category.AUTH_FAILED},
    900: {Category.DOCKER_DAEMON_UNREACHABLE, Category.SCHEMA_NOT_MIGRATED},
    1200: {
        *(Category.IMAGE_PULL_FAILED, Category.COMPOSE_INVALID, Category.DISK_FULL),
        *(Category.RESOURCE_LIMIT, Category.SERVICE_CONFIG_INVALID),
    },
    7200: {Category.DATABASE_CORRUPT, Category.STATE_MISMATCH, Category.HOST_STORAGE_FAILURE},
}
"""Seconds until a category is usually mended once someone acts; the others take half an hour."""

_HALF_AN_HOUR = 1800
_USUAL_SECONDS = {category: seconds for seconds, categories in _SECONDS.items() for category in categories}
_SLOW = {Category.HEALTHCHECK_FAILED, Category.TIMEOUT, Category.PERFORMANCE_THRESHOLD}
_SLOW |= {Category.DATABASE_LOCKED, Category.REDIS_STATE, Category.EXTERNAL_API, Category.UNKNOWN}
_LOSS = {Category.DISK_FULL, Category.DATABASE_CORRUPT, Category.HOST_STORAGE_FAILURE}
_WHOLE_ENGINE = frozenset({Category.DOCKER_DAEMON_UNREACHABLE, Category.KERNEL_NETWORK_DRIVER})


def analyse_impact(
    verdict: Verdict, service: str | None, dependencies: Sequence[Dependency], untouched: Sequence[ContainerState] = ()
) -> Impact | None:
    """Judge who is hit and for how long, by the usual time of the category; None where no user is.

    The affected services begin with the service itself, then come those that need it, nearest first. `untouched` are
    the containers that a failed operation left as they were: while they run, it hits no user.
    """
    if verdict.category is Category.BENIGN or _goes_on(service, untouched):
        return None
    impact_type, grave = _impact_type(verdict), verdict.severity in (Severity.HIGH, Severity.CRITICAL)
    if service is None or (verdict.category in _WHOLE_ENGINE and grave):
        named = {name for need in dependencies for name in (need.service, need.depends_on)}
        affected = tuple(sorted({*named, service} if service else named))
    else:
        affected = (service, *_dependants(service, dependencies))
    return Impact(
        impact_type=impact_type,
        affected_services=affected,
        estimated_recovery_seconds=_USUAL_SECONDS.get(verdict.category, _HALF_AN_HOUR),
        business_impact=_business_impact(verdict, impact_type, affected, dependencies),
    )


def add_experience(impact: Impact, history_seconds: Sequence[float]) -> Impact:
    """The impact with the median of how long this environment's own recoveries of the same category took."""
    if not history_seconds:
        return impact
    return replace(impact, estimated_recovery_seconds=round(median(history_seconds)))


def _goes_on(service: str | None, untouched: Sequence[ContainerState]) -> bool:
    # A job that has done its work does not run, and is not hit.
    running = [state for state in replicas(untouched, service) if (state.state, state.exit_code) != ("exited", 0)]
    return bool(running) and all(state.state == "running" and state.health != "unhealthy" for state in running)


def _impact_type(verdict: Verdict) -> ImpactType:
    critical = verdict.severity is Severity.CRITICAL
    if verdict.category in _LOSS or (critical and verdict.category is Category.REDIS_STATE):
        return ImpactType.DATA_LOSS
    slow = not critical and (verdict.category in _SLOW or verdict.severity is not Severity.HIGH)
    return ImpactType.PERFORMANCE_DEGRADED if slow else ImpactType.SERVICE_DOWN


def _dependants(service: str, dependencies: Sequence[Dependency]) -> list[str]:
    """Who needs the service, nearest first. The harm goes on only through those that cannot do without."""
    hit: list[str] = []
    fallen, ordered = [service], sorted(dependencies, key=lambda need: need.service)
    for name in fallen:
        for need in ordered:
            if need.depends_on == name and need.service not in (service, *hit):
                hit.append(need.service)
                if need.dependency_type is DependencyType.REQUIRED:
                    fallen.append(need.service)
    return hit


def _business_impact(
    verdict: Verdict, impact_type: ImpactType, affected: tuple[str, ...], dependencies: Sequence[Dependency]
) -> BusinessImpact:
    if verdict.severity is Severity.CRITICAL or impact_type is ImpactType.DATA_LOSS:
        return BusinessImpact.CRITICAL
    if verdict.severity is Severity.LOW:
        return BusinessImpact.LOW
    carries_others = any(need.depends_on in affected and need.is_critical for need in dependencies)
    if impact_type is ImpactType.SERVICE_DOWN:
        return BusinessImpact.CRITICAL if carries_others and len(affected) > 3 else BusinessImpact.HIGH
    return BusinessImpact.HIGH if carries_others else BusinessImpact.MEDIUM
