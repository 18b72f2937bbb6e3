"""Plan a restart: the order of services, the groups of replicas, and how dependants react."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from core.deployment.plan import one_check, start_waves
from models.compose import Application, ServiceDeclaration
from models.containers import ContainerState
from models.health import UNHEALTHY_STATES, ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyType

_PROBED = timedelta(seconds=15)
"""How long a client usually takes to find its server again."""

_LONGEST = timedelta(seconds=60)
_MARGIN = timedelta(seconds=2)


class DependantAnswer(StrEnum):
    """What a dependant says after what it needs was restarted."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """How a dependant does after what it needs was restarted, and by which sign."""

    answer: DependantAnswer
    reason: str


def roll_order(application: Application, dependencies: Iterable[Dependency]) -> tuple[str, ...]:
    """All services, each after what it needs; side by side, those that require something go first.

    What the environment adds to the Compose files counts where it makes no circle.

    Raises:
        ComposeError: Services of the Compose files depend on each other in a circle.
    """
    needs = [need for need in dependencies if need.depends_on in application.services]
    requiring = {need.service for need in needs if need.dependency_type is DependencyType.REQUIRED}
    remaining_services = [
        name for wave in start_waves(application) for name in sorted(wave, key=lambda n: (n not in requiring, n))
    ]
    order: list[str] = []
    while remaining_services:
        lacking = {need.service for need in needs if need.depends_on in remaining_services}
        ready = next((name for name in remaining_services if name not in lacking), remaining_services[0])
        remaining_services.remove(ready)
        order.append(ready)
    return tuple(order)


def restarted_needs(service: str, dependencies: Iterable[Dependency], restarted: Collection[str]) -> tuple[str, ...]:
    """What a service needs itself and was restarted: the required ones first."""
    needs = [need for need in dependencies if need.service == service and need.depends_on in restarted]
    needs.sort(key=lambda need: (need.dependency_type is not DependencyType.REQUIRED, need.depends_on))
    return tuple(dict.fromkeys(need.depends_on for need in needs))


def replica_groups(containers: Sequence[ContainerState], *, serves: bool) -> tuple[tuple[ContainerState, ...], ...]:
    """Which containers of a service are restarted together, group after group.

    Those that do not serve go first and together; of those that do, one at a time, so that the others serve
    meanwhile. If the service does not serve (`serves` False), all are restarted at once.
    """
    well = [
        container for container in containers if container.state == "running" and container.health in (None, "healthy")
    ]
    ill = [container for container in containers if container not in well]
    if not serves and not ill:
        return (tuple(well),)
    return (*((tuple(ill),) if ill else ()), *((container,) for container in well))


def settle_time(declaration: ServiceDeclaration, *, probed: bool) -> timedelta:
    """How long a dependant may take to show whether it copes: its check must have run once since then."""
    check = declaration.healthcheck
    if check is None or check.disabled:
        return _PROBED if probed else timedelta()
    return min(max(one_check(check) + _MARGIN, _PROBED), _LONGEST)


def aftermath(
    verdict: ServiceVerdict, container_states: Sequence[ContainerState], probe: ProbeResult | None, *, since: datetime
) -> Aftermath:
    """What a dependant shows now of the time after `since`, when what it needs was proven again.

    A health check counts by its last result, if that is newer: its verdict may be as old as several intervals.
    """
    if verdict.health in UNHEALTHY_STATES:
        return Aftermath(answer=DependantAnswer.UNHEALTHY, reason=verdict.reason)
    if verdict.health is ServiceHealth.COMPLETED:
        return Aftermath(answer=DependantAnswer.HEALTHY, reason=verdict.reason)
    checked = [state for state in container_states if state.health is not None]
    checks = [state.health_log[-1] if state.health_log else None for state in checked]
    newer = [last for last in checks if last is not None and datetime.fromisoformat(last.ended_at) > since]
    failing = next((last for last in newer if last.exit_code != 0), None)
    if failing is not None:
        output = " ".join(failing.output.split())[:200] or f"exit code {failing.exit_code}"
        return Aftermath(answer=DependantAnswer.UNHEALTHY, reason=f"its own health check fails again: {output}")
    if len(newer) < len(checks):
        return Aftermath(answer=DependantAnswer.UNPROVEN, reason="its own health check has not run again yet")
    if verdict.health is ServiceHealth.HEALTHY and (checks or probe is not None):
        return Aftermath(answer=DependantAnswer.HEALTHY, reason=verdict.reason)
    return Aftermath(answer=DependantAnswer.UNPROVEN, reason=verdict.reason)
