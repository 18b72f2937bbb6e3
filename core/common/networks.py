"""Compare the networks that containers are connected to with those that their service declares."""

from __future__ import annotations

from collections.abc import Iterable

from models.compose import Application
from models.containers import ContainerState, replicas


def lost_networks(service: str, application: Application, container_states: Iterable[ContainerState]) -> list[str]:
    """Return the declared networks that a running container of the service is not connected to.

    The engine keeps a container disconnected over a restart.
    """
    declaration = application.services.get(service)
    if declaration is None:
        return []
    names = {network.key: network.name for network in application.networks}
    declared = [names[key] for key in declaration.networks if key in names]
    running = [container for container in replicas(container_states, service) if container.state == "running"]
    return [name for name in declared if any(name not in container.networks for container in running)]
