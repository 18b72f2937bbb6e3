"""What an action can act on, and the targets that each action finds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from models.compose import Application, NetworkFact, PortHolder, ServiceDeclaration
from models.containers import ContainerState


class TargetKind(StrEnum):
    """What an action may act on."""

    CONTAINER = "container"
    IMAGE = "image"
    NETWORK = "network"
    RELEASE = "release"
    SCRIPT = "script"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTarget:
    """One thing an action acts on, and the project that owns it."""

    kind: TargetKind
    name: str
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DanglingImage:
    """An image of the project that no name leads to any more."""

    image_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """State of the project before an action.

    `application` is None if the Compose files cannot be read. `container_states` are all containers of the project,
    `holders` the containers of any project that hold a host port. `anonymous_volumes` are those of the service's
    containers, `networks` the networks of the project, `empty_networks` those without a container. `image_held`: the
    engine has the service's image. `release` is the proven release before the current one, `deployed_ago` how long
    before the error the current one was deployed, None if there is none. `script_problem` says why the script may not
    run.
    """

    project: str
    service: str
    application: Application | None
    environment: str = ""
    container_states: tuple[ContainerState, ...] = ()
    dependencies_down: tuple[str, ...] = ()
    holders: tuple[PortHolder, ...] = ()
    anonymous_volumes: tuple[str, ...] = ()
    image_held: bool = True
    networks: tuple[NetworkFact, ...] = ()
    empty_networks: tuple[str, ...] = ()
    dangling: tuple[DanglingImage, ...] = ()
    release: str | None = None
    deployed_ago: timedelta | None = None
    roll_back_within: timedelta = timedelta()
    script: str | None = None
    script_problem: str | None = None

    @property
    def containers(self) -> tuple[ContainerState, ...]:
        """The service's own containers."""
        return tuple(seen for seen in self.container_states if seen.service == self.service and not seen.one_off)

    @property
    def declaration(self) -> ServiceDeclaration | None:
        """The service as the Compose files declare it; None where they do not."""
        return None if self.application is None else self.application.services.get(self.service)


def service_containers(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the containers of the service."""
    return tuple(
        ActionTarget(kind=TargetKind.CONTAINER, name=seen.container_id, project=seen.project)
        for seen in context.containers
    )


def service_and_dependencies(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the containers of the service and of its failed dependencies."""
    down = [seen for seen in context.container_states if seen.service in context.dependencies_down and not seen.one_off]
    return service_containers(context) + tuple(
        ActionTarget(kind=TargetKind.CONTAINER, name=seen.container_id, project=seen.project) for seen in down
    )


def port_holders(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the containers that hold a port of the service."""
    return tuple(
        ActionTarget(kind=TargetKind.CONTAINER, name=holder.container, project=holder.project)
        for holder in {one.container: one for one in holders_of_wanted_ports(context)}.values()
    )


def service_image(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the image of the service."""
    declaration = context.declaration
    if declaration is None:
        return ()
    return (ActionTarget(kind=TargetKind.IMAGE, name=declaration.image, project=context.project),)


def dangling_images(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the dangling images of the project."""
    return tuple(
        ActionTarget(kind=TargetKind.IMAGE, name=one.image_id, project=context.project) for one in context.dangling
    )


def missing_networks(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the declared networks that do not exist."""
    there = {network.name for network in context.networks}
    return tuple(
        ActionTarget(kind=TargetKind.NETWORK, name=network.name, project=context.project)
        for network in (context.application.networks if context.application else ())
        if not network.external and network.name not in there
    )


def unused_networks(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the networks that nothing declares or uses."""
    declared = {network.name for network in (context.application.networks if context.application else ())}
    return tuple(
        ActionTarget(kind=TargetKind.NETWORK, name=network.name, project=network.project)
        for network in context.networks
        if network.name in context.empty_networks and network.name not in declared
    )


def previous_release(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the proven release before the current one."""
    if context.release is None:
        return ()
    return (ActionTarget(kind=TargetKind.RELEASE, name=context.release, project=context.project),)


def recovery_script(context: ActionContext) -> tuple[ActionTarget, ...]:
    """Return the recovery script of the service."""
    if context.script is None:
        return ()
    return (ActionTarget(kind=TargetKind.SCRIPT, name=context.script, project=context.project),)


def wanted_ports(declaration: ServiceDeclaration) -> set[tuple[int, str]]:
    """Return the host ports that a service publishes, with their protocols."""
    return {(port.published, port.protocol) for port in declaration.ports if port.published is not None}


def holders_of_wanted_ports(context: ActionContext) -> list[PortHolder]:
    """Return the other containers that hold a port of the service."""
    declaration = context.declaration
    wanted = wanted_ports(declaration) if declaration else set()
    mine = {seen.name for seen in context.containers}
    return [one for one in context.holders if (one.port, one.protocol) in wanted and one.container not in mine]
