"""Which service needs which, and which of them fail first."""

from __future__ import annotations

from collections.abc import Iterable

from models.compose import Application
from models.environments import Environment
from models.health import UNHEALTHY_STATES, ServiceVerdict
from models.metrics import Dependency, DependencyType, HealthImpact


def first_causes(verdicts: Iterable[ServiceVerdict], dependencies: Iterable[Dependency]) -> list[ServiceVerdict]:
    """Return the unhealthy services that depend on no other unhealthy service.

    In a dependency cycle there is none, so all of them are returned.
    """
    unhealthy = {verdict.service: verdict for verdict in verdicts if verdict.health in UNHEALTHY_STATES}
    dependants = {need.service for need in dependencies if need.depends_on in unhealthy}
    return [verdict for name, verdict in unhealthy.items() if name not in dependants] or list(unhealthy.values())


def dependencies_of(environment: Environment, application: Application | None) -> list[Dependency]:
    """Return who needs whom: what the environment says, and what the Compose files say beyond it.

    Without an application, whose files cannot be read, what the environment says stands alone.
    """
    declared = application.services if application is not None else {}
    found: dict[tuple[str, str], Dependency] = {}
    for name in declared or environment.services:
        for other, needed in declared[name].depends_on.items() if name in declared else ():
            found[name, other] = Dependency(
                service=name,
                depends_on=other,
                dependency_type=DependencyType.REQUIRED if needed.required else DependencyType.OPTIONAL,
                health_impact=HealthImpact.CRITICAL if needed.required else HealthImpact.MODERATE,
            )
        for spec in environment.service(name).dependencies:
            found[name, spec.service] = Dependency(
                service=name, depends_on=spec.service, dependency_type=spec.type, health_impact=spec.impact
            )
    return list(found.values())


def needs_of(dependencies: Iterable[Dependency]) -> dict[str, list[str]]:
    """Return the services that each service needs."""
    needs: dict[str, list[str]] = {}
    for need in dependencies:
        needs.setdefault(need.service, []).append(need.depends_on)
    return needs
