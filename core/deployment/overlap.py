"""Decide whether a service can be replaced start-first: its new container proven beside the old one."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from core.common.dependencies import reachable
from core.deployment.plan import needs_in
from models.compose import Application, Mount, MountKind, Plan, PlannedAction, ServiceDeclaration
from models.containers import ContainerState, replicas
from models.environments import Environment
from models.overlap import OverlapDecision, RunProgram

START_FIRST = "start-first"

RELOADED = frozenset({"nginx"})
"""The kinds of proxy that keep addresses until they are reloaded; others ask for them again by themselves."""

_TRIED = frozenset({"nginx", "haproxy"})
"""The kinds of proxy that only read, so that a second one of the same files does no harm."""

_SHARED_MODES = ("host", "service:", "container:")
_ID_DIGITS = 12


def wants_overlap(declaration: ServiceDeclaration, environment: Environment) -> bool:
    """Whether the environment, or else the Compose file, says that the service is replaced start-first."""
    order = environment.service(declaration.name).order
    return (order or declaration.update_order) == START_FIRST


def decide_overlap(
    application: Application,
    service: str,
    environment: Environment,
    container_states: Sequence[ContainerState],
    programs: Mapping[str, RunProgram],
) -> OverlapDecision:
    """Decide whether a service that should be replaced start-first can be.

    `container_states` are those of the project, and `programs` what services were recognised to run.
    """
    declaration = application.services[service]
    containers = replicas(container_states, service)
    because = (
        _exclusive(declaration, application)
        or _writes(declaration, application, environment.service(service).shared_volumes)
        or _reason_for_one(declaration, environment, programs.get(service))
        or _unready(declaration, environment, containers)
    )
    if because:
        return OverlapDecision(possible=False, because=because)
    kinds = proxies_of(application, service, environment, programs).values()
    return OverlapDecision(
        possible=True, note=_warning_of_cut(application, service, unproven_networks(application, service, kinds))
    )


def unproven_networks(application: Application, service: str, proxies: Collection[str] = ()) -> tuple[str, ...]:
    """The engine's names of the networks where a new container gets its names only once it is proven.

    In a network that holds nothing but the service and what it depends on, no other service calls it. `proxies` are the
    kinds of proxy in front: Traefik follows the health and the address of containers itself, and would not see that a
    container has another address after it took its name.
    """
    if "traefik" in proxies:
        return ()
    needed = {*reachable(service, needs_in(application)), service}
    names = {network.key: network for network in application.networks}
    return tuple(
        names[key].name
        for key in application.services[service].networks
        if key in names and (names[key].external or any(member not in needed for member in _members(application, key)))
    )


def fixed_subnets(application: Application) -> frozenset[str]:
    """The engine's names of the networks with a subnet of the Compose file: addresses can be chosen there."""
    return frozenset(network.name for network in application.networks if network.subnets and not network.external)


def proxies_of(
    application: Application, service: str, environment: Environment, programs: Mapping[str, RunProgram]
) -> dict[str, str]:
    """The kind of proxy, such as nginx, by each service that passes requests on to this one."""
    named = environment.service(service).proxy
    if named is not None:
        program = programs.get(named)
        return {named: program.proxy if program else ""}
    shared = set(application.services[service].networks)
    return {
        name: program.proxy
        for name, program in programs.items()
        if program.proxy
        and name != service
        and name in application.services
        and shared & set(application.services[name].networks)
    }


def proxies_to_try(
    planned: Plan,
    application: Application,
    environment: Environment,
    programs: Mapping[str, RunProgram],
    answers: Mapping[str, int],
) -> tuple[str, ...]:
    """The proxies that a plan restarts and that can be tried before. `answers` are their statuses now.

    What is behind one has to stay as it is: a new version may listen where only the new files look for it. One that
    gets its certificates itself is not tried, because a second one would ask for them, too.
    """
    changed = [line.service for line in planned.changes]
    return tuple(
        line.service
        for line in planned.services
        if line.action is PlannedAction.RESTART
        and line.service in programs
        and programs[line.service].proxy in _TRIED
        and line.service in answers
        and not is_gateway_failure(answers[line.service])
        and not any(
            line.service in proxies_of(application, other, environment, programs)
            for other in changed
            if other in application.services
        )
    )


def is_gateway_failure(status: int) -> bool:
    """Whether a proxy says by this status that what is behind it does not answer."""
    return status in (502, 503, 504)


def missing_in_proxy(name: str, kind: str, text: str) -> str:
    """What the configuration of a proxy lacks, so that requests fail during a replacement; empty where nothing.

    `text` is its configuration without comments, and empty where that is not known.
    """
    if kind == "traefik" and "entryPoints" not in text:
        # Its own settings are elsewhere, such as in its command.
        return ""
    settings = {
        "traefik": ("providersThrottleDuration", "dialTimeout"),
        "haproxy": ("resolvers", "server-template", "option redispatch", "retry-on"),
        "caddy": ("lb_try_duration",),
    }.get(kind, ())
    words = " ".join(text.split())
    lacking = [setting for setting in settings if setting not in words] if words else []
    if kind == "nginx" and "proxy_next_upstream off" in words:
        return f"{name} does not try another address, because its configuration has proxy_next_upstream off"
    if not lacking:
        return ""
    keeps = "keeps the addresses that it found when it started" if "resolvers" in lacking else "does not try again"
    if kind == "traefik":
        keeps = "notices late that a container has ended"
    return f"requests may fail, because {name} {keeps}: its configuration has no {', '.join(lacking)}"


def reload_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command that makes an nginx ask for addresses again; `command` is the one that it was started with."""
    words = [part for argument in command for part in argument.split()]
    file = next((after for word, after in itertools.pairwise(words) if word == "-c" and after.startswith("/")), None)
    return ("nginx", *(("-c", file) if file else ()), "-s", "reload")


def beside_name(replaced: ContainerState) -> str:
    """The name of a container while it is beside the one that it replaces."""
    return f"{replaced.container_id[:_ID_DIGITS]}_{replaced.name}"


def surplus(declaration: ServiceDeclaration, containers: Sequence[ContainerState]) -> tuple[ContainerState, ...]:
    """The containers that were created to be copied and were never started, beyond the declared number."""
    replicas = [container for container in containers if container.replaces is None]
    extra = max(0, len(replicas) - declaration.replicas)
    unused = [container for container in replicas if container.state == "created" and container.started_at is None]
    return tuple(sorted(unused, key=lambda container: container.number, reverse=True)[:extra])


def _exclusive(declaration: ServiceDeclaration, application: Application) -> str:
    for port in declaration.ports:
        if port.published is not None:
            return f"port {port.published} of the host is fixed"
    if declaration.container_name is not None:
        return f"the name {declaration.container_name} of its container is fixed"
    if declaration.network_mode.startswith(_SHARED_MODES) or declaration.inside_of:
        return f"it uses the network, processes or volumes of {declaration.network_mode or declaration.inside_of[0]}"
    if declaration.fixed_address:
        return f"its address {declaration.fixed_address} is fixed"
    inside = sorted(name for name, service in application.services.items() if declaration.name in service.inside_of)
    return f"{', '.join(inside)} lives inside of its container" if inside else ""


def _writes(declaration: ServiceDeclaration, application: Application, shared: Sequence[str]) -> str:
    names = {volume.key: volume.name for volume in application.volumes}
    for mount in declaration.mounts:
        if not _has_one_writer(mount):
            continue
        if not {mount.source, mount.target, names.get(mount.source, mount.source)} & {name for name in shared if name}:
            kind = "volume" if mount.kind is MountKind.VOLUME else "path"
            source = mount.source or mount.target
            return f"it may write {kind} {source}; mount it read-only, or name it in shared_volumes of the service"
    return ""


def _has_one_writer(mount: Mount) -> bool:
    if mount.read_only or mount.kind not in (MountKind.BIND, MountKind.VOLUME):
        return False
    return not mount.source.endswith(".sock")


def _reason_for_one(declaration: ServiceDeclaration, environment: Environment, program: RunProgram | None) -> str:
    if program is not None and program.stateful:
        return f"it runs {program.name}, which keeps data, and two of it must not run at once"
    if environment.service(declaration.name).outside_logins or (program is not None and program.outside_logins):
        return "it logs in elsewhere, and two of it would answer twice"
    return "it is a job" if declaration.one_shot else ""


def _unready(declaration: ServiceDeclaration, environment: Environment, containers: Sequence[ContainerState]) -> str:
    for container in containers:
        if container.anonymous_volumes:
            return f"its image keeps data in an anonymous volume ({', '.join(container.anonymous_volumes)})"
    checked = declaration.checked or any(container.health is not None for container in containers)
    if not checked and environment.service(declaration.name).probe is None:
        return "it has no health check and no probe, so nothing says when the new container serves"
    running = sum(container.state == "running" for container in containers)
    if running < len(containers) or running != declaration.replicas:
        return f"{running} of {declaration.replicas} containers run now"
    return ""


def _warning_of_cut(application: Application, service: str, networks: Sequence[str]) -> str:
    """What a user should know: a container that gets a name in a network loses its connections in that network."""
    keys = {network.name: network.key for network in application.networks}
    joined = {keys[name] for name in networks}
    names = sorted(reachable(service, needs_in(application)))
    needed = [name for name in names if joined & set(application.services[name].networks)]
    if not needed:
        return ""
    return (
        f"its connections to {', '.join(needed)} are closed once when it takes its name, so it must connect again; "
        f"a network with {service} and {', '.join(needed)} alone avoids that"
    )


def _members(application: Application, key: str) -> list[str]:
    return [name for name, service in application.services.items() if key in service.networks]


def goes_forward(new: ContainerState, old: ContainerState | None, *, joined: bool, old_named: bool, back: bool) -> bool:
    """Whether an interrupted replacement is finished; else the new container is removed, and the old one serves on.

    `joined`: others find the new one under the service's name. `old_named`: they still find the old one. `back`: the
    operation is rolled back.
    """
    if old is None:
        return True
    serves = joined and new.state == "running" and new.health in (None, "healthy")
    if not old.up:
        return serves
    return serves and not (back and old_named)
