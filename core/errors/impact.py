"""Impact: who is hit by an error, how badly, and for how long by experience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from models.errors import BusinessImpact, Category, Impact, ImpactType, Severity, Verdict
from models.metrics import Dependency, DependencyType, HealthImpact


@dataclass(frozen=True, slots=True)
class _TypicalImpact:
    """What a category usually does, and the seconds until it is mended once someone acts."""

    impact: ImpactType
    seconds: int


_DOWN, _SLOW, _LOSS = ImpactType.SERVICE_DOWN, ImpactType.PERFORMANCE_DEGRADED, ImpactType.DATA_LOSS

_USUAL: dict[Category, _TypicalImpact] = {
    Category.DOCKER_DAEMON_UNREACHABLE: _TypicalImpact(_DOWN, 900),
    Category.DOCKER_PERMISSION_DENIED: _TypicalImpact(_DOWN, 600),
    Category.IMAGE_PULL_FAILED: _TypicalImpact(_DOWN, 1200),
    Category.PORT_CONFLICT: _TypicalImpact(_DOWN, 300),
    Category.NAME_CONFLICT: _TypicalImpact(_DOWN, 60),
    Category.DOCKER_NETWORK: _TypicalImpact(_DOWN, 300),
    Category.VOLUME_MOUNT: _TypicalImpact(_DOWN, 600),
    Category.COMPOSE_INVALID: _TypicalImpact(_DOWN, 1200),
    Category.MISSING_ENV_SECRET: _TypicalImpact(_DOWN, 600),
    Category.CONTAINER_EXITED: _TypicalImpact(_DOWN, 180),
    Category.OOM_KILLED: _TypicalImpact(_DOWN, 180),
    Category.HEALTHCHECK_FAILED: _TypicalImpact(_SLOW, 120),
    Category.DEPENDENCY_FAILED_START: _TypicalImpact(_DOWN, 240),
    Category.DEPENDENCY_REFUSED: _TypicalImpact(_DOWN, 120),
    Category.DNS_FAILURE: _TypicalImpact(_DOWN, 300),
    Category.TIMEOUT: _TypicalImpact(_SLOW, 180),
    Category.TLS_CERTIFICATE: _TypicalImpact(_DOWN, 1800),
    Category.DISK_FULL: _TypicalImpact(_LOSS, 1200),
    Category.RESOURCE_LIMIT: _TypicalImpact(_DOWN, 1200),
    Category.PERFORMANCE_THRESHOLD: _TypicalImpact(_SLOW, 1800),
    Category.EXEC_FORMAT_ENTRYPOINT: _TypicalImpact(_DOWN, 1800),
    Category.DATABASE_LOCKED: _TypicalImpact(_SLOW, 180),
    Category.DATABASE_CORRUPT: _TypicalImpact(_LOSS, 7200),
    Category.REDIS_STATE: _TypicalImpact(_SLOW, 300),
    Category.DISCORD_API: _TypicalImpact(_DOWN, 1800),
    Category.PYTHON_IMPORT_CONFIG: _TypicalImpact(_DOWN, 1800),
    Category.KERNEL_NETWORK_DRIVER: _TypicalImpact(_DOWN, 1800),
    Category.UNKNOWN: _TypicalImpact(_SLOW, 1800),
    Category.BENIGN: _TypicalImpact(_SLOW, 0),
}

_WHOLE_ENGINE = frozenset({Category.DOCKER_DAEMON_UNREACHABLE, Category.KERNEL_NETWORK_DRIVER})


def analyse_impact(
    verdict: Verdict,
    service: str | None,
    dependencies: Sequence[Dependency],
) -> Impact:
    """Judge who is hit and for how long, by the usual time of the category.

    The affected services begin with the service itself, then come those that need it, nearest first.
    """
    usual = _USUAL[verdict.category]
    if verdict.category is Category.BENIGN:
        return Impact(
            impact_type=usual.impact,
            affected_services=(),
            estimated_recovery_seconds=0,
            business_impact=BusinessImpact.LOW,
        )
    impact_type = _impact_type(verdict, usual)
    if service is None or (
        verdict.category in _WHOLE_ENGINE and verdict.severity in (Severity.HIGH, Severity.CRITICAL)
    ):
        named = {name for need in dependencies for name in (need.service, need.depends_on)}
        affected = tuple(sorted(named | ({service} if service else set())))
    else:
        affected = (service, *_dependants(service, dependencies))
    return Impact(
        impact_type=impact_type,
        affected_services=affected,
        estimated_recovery_seconds=usual.seconds,
        business_impact=_business_impact(verdict, impact_type, affected, dependencies),
    )


def by_experience(impact: Impact, history_seconds: Sequence[float]) -> Impact:
    """The impact with the median of how long this environment's own recoveries of the same category took."""
    if not history_seconds:
        return impact
    return replace(impact, estimated_recovery_seconds=round(median(history_seconds)))


def _impact_type(verdict: Verdict, usual: _TypicalImpact) -> ImpactType:
    if verdict.severity is Severity.CRITICAL and verdict.category is Category.REDIS_STATE:
        return ImpactType.DATA_LOSS
    if usual.impact is ImpactType.SERVICE_DOWN and verdict.severity in (Severity.LOW, Severity.MEDIUM):
        return ImpactType.PERFORMANCE_DEGRADED
    if usual.impact is ImpactType.PERFORMANCE_DEGRADED and verdict.severity is Severity.CRITICAL:
        return ImpactType.SERVICE_DOWN
    return usual.impact


def _dependants(service: str, dependencies: Sequence[Dependency]) -> list[str]:
    """Who needs the service, nearest first. The harm goes on only through those that cannot do without."""
    hit: list[str] = []
    wave = [service]
    while wave:
        following: list[str] = []
        for fallen in wave:
            for need in sorted(dependencies, key=lambda need: need.service):
                if need.depends_on != fallen or need.service == service:
                    continue
                if need.service not in hit:
                    hit.append(need.service)
                    if need.dependency_type is DependencyType.REQUIRED:
                        following.append(need.service)
        wave = following
    return hit


def _business_impact(
    verdict: Verdict,
    impact_type: ImpactType,
    affected: tuple[str, ...],
    dependencies: Sequence[Dependency],
) -> BusinessImpact:
    if verdict.severity is Severity.CRITICAL or impact_type is ImpactType.DATA_LOSS:
        return BusinessImpact.CRITICAL
    if verdict.severity is Severity.LOW:
        return BusinessImpact.LOW
    carries_others = any(
        need.depends_on in affected
        and need.dependency_type is DependencyType.REQUIRED
        and need.health_impact is HealthImpact.CRITICAL
        for need in dependencies
    )
    if impact_type is ImpactType.SERVICE_DOWN:
        return BusinessImpact.CRITICAL if carries_others and len(affected) > 3 else BusinessImpact.HIGH
    return BusinessImpact.HIGH if carries_others else BusinessImpact.MEDIUM
