"""Which service needs which."""

from __future__ import annotations

from collections.abc import Iterable

from models.compose import Application
from models.environments import Environment
from models.metrics import Dependency, DependencyType, HealthImpact


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
