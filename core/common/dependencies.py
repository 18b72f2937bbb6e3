"""Which service needs which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from models.compose import Application
from models.environments import Environment
from models.metrics import Dependency, DependencyType, HealthImpact


def dependencies_of(environment: Environment, application: Application | None) -> list[Dependency]:
    """Return who needs whom: what the environment says, and what the Compose files say beyond it.

    A service that lives in another's network, processes or volumes needs that one, too. Everything that asks who needs
    whom asks this, except for what Compose itself does in the order of depends_on: the start.
    Without an application, whose files cannot be read, what the environment says stands alone.
    """
    declared = application.services if application is not None else {}
    dependencies: dict[tuple[str, str], Dependency] = {}
    for name in declared or environment.services:
        of_files = dict.fromkeys(declared[name].inside_of, True) if name in declared else {}
        of_files |= (
            {other: entry.required for other, entry in declared[name].depends_on.items()} if name in declared else {}
        )
        for other, required in of_files.items():
            dependencies[name, other] = Dependency(
                service=name,
                depends_on=other,
                dependency_type=DependencyType.REQUIRED if required else DependencyType.OPTIONAL,
                health_impact=HealthImpact.CRITICAL if required else HealthImpact.MODERATE,
            )
        for spec in environment.service(name).dependencies:
            dependencies[name, spec.service] = Dependency(
                service=name, depends_on=spec.service, dependency_type=spec.type, health_impact=spec.impact
            )
    return list(dependencies.values())


def dependants_of(services: Iterable[str], dependencies: Iterable[Dependency]) -> frozenset[str]:
    """Return all that need one of some services, directly or not, without these services."""
    names, needs = frozenset(services), tuple(dependencies)
    dependants: set[str] = set()
    while more := {need.service for need in needs if need.depends_on in names | dependants} - dependants:
        dependants |= more
    return frozenset(dependants - names)


def reachable(service: str, needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return everything a service depends on, directly or not, nearest first."""
    names = [service]
    for name in names:
        names.extend(dependency for dependency in dict.fromkeys(needs.get(name, ())) if dependency not in names)
    return tuple(names[1:])


def needs_of(dependencies: Iterable[Dependency]) -> dict[str, list[str]]:
    """Return the services that each service needs."""
    needs: dict[str, list[str]] = {}
    for need in dependencies:
        needs.setdefault(need.service, []).append(need.depends_on)
    return needs
