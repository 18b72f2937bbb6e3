"""Find the services that fail first among services that depend on each other."""

from __future__ import annotations

from collections.abc import Iterable

from models.health import UNHEALTHY_STATES, ServiceVerdict
from models.metrics import Dependency


def first_causes(verdicts: Iterable[ServiceVerdict], dependencies: Iterable[Dependency]) -> list[ServiceVerdict]:
    """Return the unhealthy services that depend on no other unhealthy service.

    In a dependency cycle there is none, so all of them are returned.
    """
    unhealthy = {verdict.service: verdict for verdict in verdicts if verdict.health in UNHEALTHY_STATES}
    dependants = {need.service for need in dependencies if need.depends_on in unhealthy}
    return [verdict for name, verdict in unhealthy.items() if name not in dependants] or list(unhealthy.values())
