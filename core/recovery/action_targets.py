"""What an action finds to act on.

A target is a container, an image, a network, a release or a script; never a volume, the engine, a credential or
something of another project.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.compose import Application, NetworkFact, PortHolder, ServiceDeclaration
from models.containers import ContainerState, replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTarget:
    """One thing an action acts on, and the project that owns it."""

    name: str
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """State of the project before an action.

    - `application`: None if the Compose files cannot be read.
    - `needs`: what the service needs, of the Compose files and of the environment.
    - `container_states`: all containers of the project; `holders`: those of any project that hold a host port.
    - `anonymous_volumes`: of the service's containers; `networks`: of the project; `empty_networks`: with no container.
    - `image_held`: whether the engine has the service's image; `image_moved`: its name means another than runs.
    - `release`: the proven release before the current one, which was deployed `deployed_ago` before the error.
    - `script_problem`: why the script may not run.
    - `disk_percent`: use of the disk that holds the engine's data, 0-100; None where it cannot be measured.
    - `probe_passes`: whether the service's own probe and health check pass now; None if nothing checks it.
    - `stopped_by_person`: the engine's events or the records show it; `decided`: a person decided on the action.
    """

    project: str
    service: str
    application: Application | None
    environment: str = ""
    container_states: tuple[ContainerState, ...] = ()
    needs: tuple[str, ...] = ()
    dependencies_down: tuple[str, ...] = ()
    holders: tuple[PortHolder, ...] = ()
    anonymous_volumes: tuple[str, ...] = ()
    image_held: bool = True
    image_moved: bool = False
    networks: tuple[NetworkFact, ...] = ()
    empty_networks: tuple[str, ...] = ()
    dangling: tuple[str, ...] = ()
    release: str | None = None
    deployed_ago: timedelta | None = None
    roll_back_within: timedelta = timedelta()
    script: str | None = None
    script_problem: str | None = None
    disk_percent: float | None = None
    probe_passes: bool | None = None
    stopped_by_person: bool = False
    decided: bool = False

    @property
    def containers(self) -> tuple[ContainerState, ...]:
        """The service's own containers."""
        return tuple(replicas(self.container_states, self.service))

    @property
    def declaration(self) -> ServiceDeclaration | None:
        """The service as the Compose files declare it; None where they do not."""
        return None if self.application is None else self.application.services.get(self.service)


def _own(context: ActionContext, *names: str | None) -> tuple[ActionTarget, ...]:
    return tuple(ActionTarget(name=name, project=context.project) for name in names if name is not None)


def _containers(container_states: Iterable[ContainerState]) -> tuple[ActionTarget, ...]:
    return tuple(ActionTarget(name=container.container_id, project=container.project) for container in container_states)


def service_containers(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the containers of the service."""
    return _containers(context.containers)


def service_and_dependencies(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the containers of the service and of its failed dependencies."""
    down = [state for state in replicas(context.container_states) if state.service in context.dependencies_down]
    return _containers((*context.containers, *down))


def port_holders(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the containers that hold a port of the service."""
    holders = {holder.container: holder.project for holder in holders_of_wanted_ports(context)}
    return tuple(ActionTarget(name=name, project=project) for name, project in holders.items())


def service_image(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the image of the service."""
    return _own(context, context.declaration.image if context.declaration else None)


def dangling_images(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the images of the project that no name leads to any more."""
    return _own(context, *context.dangling)


def missing_networks(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the declared networks that do not exist."""
    there = {network.name for network in context.networks}
    declared = context.application.networks if context.application else ()
    return _own(context, *(network.name for network in declared if not network.external and network.name not in there))


def unused_networks(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the networks that nothing declares or uses."""
    declared = {network.name for network in (context.application.networks if context.application else ())}
    return tuple(
        ActionTarget(name=network.name, project=network.project)
        for network in context.networks
        if network.name in context.empty_networks and network.name not in declared
    )


def previous_release(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the proven release before the current one."""
    return _own(context, context.release)


def recovery_script(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the recovery script of the service."""
    return _own(context, context.script)


def wanted_ports(context: ActionContext) -> set[tuple[int, str]]:
    """Return the host ports that the service publishes, with their protocols."""
    ports = context.declaration.ports if context.declaration else ()
    return {(port.published, port.protocol) for port in ports if port.published is not None}


def holders_of_wanted_ports(context: ActionContext) -> list[PortHolder]:
    """Return the other containers that hold a port of the service."""
    ports, names = wanted_ports(context), {container.name for container in context.containers}
    holders = [holder for holder in context.holders if holder.container not in names]
    return [holder for holder in holders if (holder.port, holder.protocol) in ports]


def containers_to_restart(
    containers: Sequence[ContainerState], *, since: datetime | None, asked_to_end: Collection[str]
) -> list[ContainerState]:
    """Return the containers that an interrupted restart, begun at `since`, has still to restart.

    `asked_to_end` are those that the engine was asked to stop since then: it starts them again itself. A container
    that is not up has to be started in any case.
    """
    if since is None:
        return list(containers)
    return [
        state
        for state in containers
        if not (state.up and (state.container_id in asked_to_end or _is_after(state.started_at, since)))
    ]


def all_made_since(since: datetime | None, containers: Sequence[ContainerState]) -> bool:
    """Whether an interrupted recreation, begun at `since`, has created all containers."""
    return (
        since is not None
        and bool(containers)
        and all(_is_after(container.created_at, since) for container in containers)
    )


def _is_after(moment: datetime | None, since: datetime) -> bool:
    return moment is not None and moment > since
