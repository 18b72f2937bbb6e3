"""Plan a start: the order of services, their deadlines, and how running containers differ from the declaration."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from statistics import median

from core.common.dependencies import reachable
from models.compose import (
    Application,
    HealthcheckDeclaration,
    ImageFetch,
    Interruption,
    NetworkDeclaration,
    PathLink,
    Plan,
    PlannedAction,
    PlannedService,
    ServiceDeclaration,
)
from models.containers import ContainerState, replicas
from models.environments import Environment
from models.failures import ComposeError, PausedError
from models.metrics import Dependency
from models.overlap import OverlapDecision

# The engine's own values where a health check leaves them out.
_INTERVAL = timedelta(seconds=30)
_TIMEOUT = timedelta(seconds=30)
_RETRIES = 3

_NO_CASCADE = (2, 29, 7)

_MARGIN = timedelta(seconds=10)
_UNCHECKED = timedelta(seconds=60)
_JOB = timedelta(minutes=5)

JOB_RUNS_AGAIN = "it is a job, which runs at every start"


def outline_of(application: Application) -> Application:
    """The application as far as judging it goes: names, numbers and rules; no command, path or other free text."""
    fields = ("name", "depends_on", "restart", "replicas", "networks", "awaited", "one_shot")
    services = {
        name: ServiceDeclaration(image="", **{field: getattr(declared, field) for field in fields})
        for name, declared in application.services.items()
    }
    networks = tuple(NetworkDeclaration(key=network.key, name=network.name) for network in application.networks)
    return Application(project=application.project, services=services, networks=networks)


def start_waves(application: Application) -> tuple[tuple[str, ...], ...]:
    """Return the waves in which services start: each after all it depends on.

    Raises:
        ComposeError: Services depend on each other in a cycle.
    """
    return _waves(application, {name: set(names) for name, names in needs_in(application).items()})


def stop_waves(application: Application, dependencies: Sequence[Dependency]) -> tuple[tuple[str, ...], ...]:
    """Return the waves in which services stop: each before all it needs.

    What the environment adds to the Compose files counts where it makes no circle.

    Raises:
        ComposeError: Services of the Compose files depend on each other in a cycle.
    """
    needs = {name: set(names) for name, names in needs_in(application).items()}
    for need in sorted(dependencies, key=lambda need: (need.service, need.depends_on)):
        service, other = need.service, need.depends_on
        if {service, other} <= needs.keys() and service not in (other, *reachable(other, needs)):
            needs[service].add(other)
    return tuple(reversed(_waves(application, needs)))


def _waves(application: Application, needs: dict[str, set[str]]) -> tuple[tuple[str, ...], ...]:
    waves: list[tuple[str, ...]] = []
    while needs:
        ready = sorted(name for name, missing in needs.items() if not missing)
        if not ready:
            circle = " -> ".join(cycle(application))
            raise ComposeError(
                f"Services depend on each other in a circle: {circle}.", advice="Take one depends_on out of the circle."
            )
        waves.append(tuple(ready))
        needs = {name: missing - set(ready) for name, missing in needs.items() if name not in ready}
    return tuple(waves)


def needs_in(application: Application) -> dict[str, list[str]]:
    """What each service depends on and is part of the application, sorted: depends_on, and whose network,
    processes or volumes it shares."""
    services = application.services
    return {
        name: sorted({*declaration.depends_on, *declaration.inside_of} & services.keys())
        for name, declaration in services.items()
    }


def cycle(application: Application) -> tuple[str, ...]:
    """One circle of dependencies, its first service repeated at the end; empty where there is none."""
    done, needs = set[str](), needs_in(application)

    def follow(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done:
            return ()
        for other in needs[name]:
            if circle := follow(other, (*path, name)):
                return circle
        done.add(name)
        return ()

    return next((circle for name in sorted(application.services) if (circle := follow(name, ()))), ())


def dangling_dependencies(application: Application) -> tuple[tuple[str, str], ...]:
    """Pairs of a service and a required dependency that the application does not have."""
    return tuple(
        (name, other)
        for name, declaration in sorted(application.services.items())
        for other in sorted({*declaration.depends_on, *declaration.inside_of})
        if other not in application.services
        and (other in declaration.inside_of or declaration.depends_on[other].required)
    )


def start_deadline(declaration: ServiceDeclaration, environment: Environment) -> timedelta:
    """Return how long a service may take to start, from when its turn has come: what its environment says of it.

    Else at most what the environment says of all, and with a health check: until the engine must have called it
    unhealthy, plus a margin. An awaited job gets five minutes, anything else one minute.
    """
    timeout_seconds = environment.service(declaration.name).start_timeout_seconds
    if timeout_seconds is not None:
        return timedelta(seconds=timeout_seconds)
    check, needed = declaration.healthcheck, _JOB if declaration.awaited else _UNCHECKED
    if check is not None and not check.disabled:
        needed = (check.start_period or timedelta()) + (check.retries or _RETRIES) * one_check(check) + _MARGIN
    return min(needed, timedelta(seconds=environment.start_timeout_seconds))


def one_check(check: HealthcheckDeclaration) -> timedelta:
    """Return how long it takes at most until a health check has run once."""
    return (check.interval or _INTERVAL) + (check.timeout or _TIMEOUT)


def critical_path(
    ready_after: Mapping[str, timedelta], held_up_by: Mapping[str, Mapping[str, timedelta]]
) -> tuple[PathLink, ...]:
    """Return the chain of services that determined the duration of the start, from first to last.

    `ready_after` is when each service was proven or completed, and `held_up_by` how long each waited for which other,
    both from the beginning of the start. The time of a link is what the chain spent on that service.
    """
    if not ready_after:
        return ()
    chain = [max(ready_after, key=lambda name: (ready_after[name], name))]
    reached = ready_after[chain[0]]
    links: list[PathLink] = []
    while True:
        name = chain[-1]
        waits = {other: wait for other, wait in held_up_by.get(name, {}).items() if other not in chain}
        last = max(waits, key=lambda other: (waits[other], other), default=None)
        from_then = waits[last] if last is not None else timedelta()
        links.append(PathLink(service=name, took=max(timedelta(), reached - from_then)))
        if last is None or not from_then:
            return tuple(reversed(links))
        chain.append(last)
        reached = from_then


def plan(
    application: Application,
    container_states: Sequence[ContainerState],
    images: Mapping[str, str] | None = None,
    changed_files: Mapping[str, Sequence[str]] | None = None,
    *,
    compose_version: str = "",
    fetches: Mapping[str, ImageFetch] | None = None,
    measured: Mapping[str, Sequence[float]] | None = None,
    overlaps: Mapping[str, OverlapDecision] | None = None,
) -> Plan:
    """Plan what a start does with each service, and why.

    `images` are the ids of the engine's images by reference. `changed_files` are the mounted files of each service
    whose content changed since it was last proven. Compose before 2.29.7 replaces every dependant of a container it
    replaces. `fetches` are the images that the start pulls or builds first, by service. `measured` are the seconds of
    each service's earlier interruptions. `overlaps` are the services that should be replaced start-first.

    Raises:
        ComposeError: Services depend on each other in a cycle.
    """
    waves = start_waves(application)
    cascades = _version(compose_version) < _NO_CASCADE
    decided: dict[str, PlannedService] = {}
    fetches = fetches or {}
    for number, wave in enumerate(waves):
        for name in wave:
            declaration = application.services[name]
            containers = replicas(container_states, name)
            fetch = fetches.get(name)
            action, because = (
                _replacement(declaration, containers, images or {}, decided, fetch, cascades=cascades)
                or _restart_of(declaration, containers, (changed_files or {}).get(name, ()), decided)
                or _start_of(declaration, containers)
            )
            line = PlannedService(service=name, action=action, because=because, wave=number)
            if action is PlannedAction.RECREATE and (
                other_volumes := _other_volumes(application, declaration, containers)
            ):
                line = replace(line, other_volumes=other_volumes)
            notes = (fetch.note if fetch is not None and containers else "", *declaration.left_aside)
            line = replace(line, note="; ".join(filter(None, notes)))
            line = _add_interruption(line, containers, (measured or {}).get(name, ()))
            decided[name] = _add_overlap(line, (overlaps or {}).get(name))
    orphans = sorted(
        {container.name for container in container_states if container.service not in application.services}
    )
    return Plan(
        project=application.project,
        services=tuple(decided.values()),
        waves=waves,
        orphans=tuple(orphans),
        fetches=tuple(fetches.values()),
    )


def plan_id(planned: Plan) -> str:
    """Eight hex digits that name what a plan says: two plans of one id do the same for the same reasons."""
    lines = [f"{line.wave} {line.service} {line.action} {line.because}" for line in planned.services]
    lines += [f"volumes {line.service} {change}" for line in planned.services for change in line.other_volumes]
    lines += [f"hook {hook.when} {hook.name} {hook.does}" for hook in planned.hooks]
    return hashlib.sha256("\n".join([planned.project, *lines]).encode()).hexdigest()[:8]


def drift(planned: Plan) -> tuple[PlannedService, ...]:
    """Return the services that differ from the declaration; a job that would run again does not count."""
    return tuple(line for line in planned.changes if line.because != JOB_RUNS_AGAIN)


def updates(planned: Plan) -> tuple[ImageFetch, ...]:
    """Return what is known to become another image by a plan that fetches images."""
    return tuple(fetch for fetch in planned.fetches if fetch.changes and not fetch.held_back)


def _replacement(
    declaration: ServiceDeclaration,
    containers: Sequence[ContainerState],
    images: Mapping[str, str],
    decided: Mapping[str, PlannedService],
    fetch: ImageFetch | None,
    *,
    cascades: bool,
) -> tuple[PlannedAction, str] | None:
    if not containers and not declaration.replicas:
        return PlannedAction.KEEP, "no replica of it is declared"
    if not containers:
        return PlannedAction.CREATE, "it has no container"
    config_hash = declaration.config_hash
    for container in containers:
        # A release that is applied declares the copies itself.
        if container.copies and (container.config_hash != config_hash or container.release_hash == config_hash):
            files = ", ".join(sorted(container.copies))
            because = f"it runs with a release's copy of {files}, and a start mounts what is on disk"
            return PlannedAction.RECREATE, because
        if config_hash and container.config_hash != config_hash:
            return (
                PlannedAction.RECREATE,
                f"its configuration changed ({container.config_hash[:8]} to {config_hash[:8]})",
            )
        if fetch is not None and fetch.changes:
            return PlannedAction.RECREATE, fetch.changes
        image_id = None if fetch is not None and fetch.settled else images.get(declaration.image)
        if image_id is not None and container.image_id != image_id:
            change = f"{_brief_id(container.image_id)} to {_brief_id(image_id)}"
            return PlannedAction.RECREATE, f"image {declaration.image} changed ({change})"
    for other in declaration.depends_on:
        if cascades and other in decided and decided[other].action is PlannedAction.RECREATE:
            return PlannedAction.RECREATE, f"it depends on {other}, which is replaced, and this Compose replaces both"
    for other in declaration.inside_of:
        if other in decided and decided[other].action in (PlannedAction.RECREATE, PlannedAction.CREATE):
            return PlannedAction.RECREATE, f"it lives inside {other}, which is replaced"
    if len(containers) < declaration.replicas:
        return PlannedAction.CREATE, f"{len(containers)} of {declaration.replicas} replicas are there"
    if len(containers) > declaration.replicas:
        return PlannedAction.RECREATE, f"{len(containers)} replicas are there, {declaration.replicas} are declared"
    return None


def _other_volumes(
    application: Application, declaration: ServiceDeclaration, containers: Sequence[ContainerState]
) -> tuple[str, ...]:
    """Where a new container would have another volume than the one before, or none: its data would stay behind."""
    if declaration.inside_of:
        # It may mount the volumes of another service, which its own declaration does not name.
        return ()
    names = {volume.key: volume.name for volume in application.volumes}
    declared = {mount.target.rstrip("/"): mount for mount in declaration.mounts}
    changes = {}
    for container in containers:
        for target, was in container.named_volumes.items():
            mount = declared.get(target.rstrip("/"))
            will_be = "" if mount is None else names.get(mount.source, mount.source)
            if will_be != was:
                changes[target] = (
                    f"its data at {target} stay in volume {was}, and it gets {will_be or 'no volume'} there"
                )
    return tuple(changes.values())


def paused_services(states: Iterable[ContainerState]) -> frozenset[str]:
    """The services that have a paused container."""
    return frozenset(container.service for container in _paused_containers(states))


def paused_containers(states: Iterable[ContainerState], services: Collection[str]) -> list[str]:
    """The names of the paused containers of some services."""
    return [container.name for container in _paused_containers(states) if container.service in services]


def refuse_paused(states: Sequence[ContainerState], services: Collection[str], operation: str) -> None:
    """Refuse an operation on services that a person paused: what is paused goes on at that person's word only.

    `operation` is as a sentence names it, such as "a start".

    Raises:
        PausedError: It names the containers.
    """
    if paused := paused_containers(states, services):
        raise PausedError(
            f"{', '.join(paused)} {'is' if len(paused) == 1 else 'are'} paused, so {operation} touches nothing;",
            advice=f"`docker unpause {' '.join(paused)}` resumes, then ask again.",
        )


def _paused_containers(states: Iterable[ContainerState]) -> Iterable[ContainerState]:
    return (container for container in replicas(states) if container.state == "paused")


def _restart_of(
    declaration: ServiceDeclaration,
    containers: Sequence[ContainerState],
    changed_files: Sequence[str],
    decided: Mapping[str, PlannedService],
) -> tuple[PlannedAction, str] | None:
    running = [container for container in containers if container.up]
    if not running:
        return None
    if paused := [container.name for container in running if container.state == "paused"]:
        return PlannedAction.KEEP, f"it is paused, and left so (docker unpause {' '.join(paused)})"
    if changed_files:
        return PlannedAction.RESTART, f"the content of {', '.join(changed_files)} changed"
    for container in running:
        if container.state == "restarting":
            return PlannedAction.RESTART, f"{container.name} keeps crashing (restarted {container.restart_count} times)"
        if container.health == "unhealthy":
            return PlannedAction.RESTART, f"{container.name} runs but is unhealthy"
    for other, needed in declaration.depends_on.items():
        changed = other in decided and decided[other].action in (PlannedAction.RECREATE, PlannedAction.RESTART)
        if needed.restart and changed:
            return PlannedAction.RESTART, f"it follows {other}, which is replaced or restarted"
    return None


def _start_of(declaration: ServiceDeclaration, containers: Sequence[ContainerState]) -> tuple[PlannedAction, str]:
    for container in containers:
        if container.state == "created":
            return PlannedAction.START, f"{container.name} was created and never started"
        if container.state != "running":
            if declaration.one_shot and container.exit_code == 0:
                return PlannedAction.START, JOB_RUNS_AGAIN
            return PlannedAction.START, f"{container.name} is {container.state} (exit code {container.exit_code})"
    return PlannedAction.KEEP, "it runs as declared"


def _add_interruption(
    line: PlannedService, containers: Sequence[ContainerState], measured: Sequence[float]
) -> PlannedService:
    """Add to a line of the plan whether a service that runs is interrupted, and how long that took before."""
    kinds = {PlannedAction.RECREATE: Interruption.REPLACED, PlannedAction.RESTART: Interruption.RESTARTED}
    kind = kinds.get(line.action)
    if kind is None or not any(container.up for container in containers):
        return line
    seconds = round(median(measured), 1) if measured else None
    return replace(line, interruption=kind, interruption_seconds=seconds, interruptions_measured=len(measured))


def _add_overlap(line: PlannedService, overlap: OverlapDecision | None) -> PlannedService:
    """Add to a line of the plan that its service is replaced start-first, or why it cannot be."""
    if overlap is None or line.interruption is not Interruption.REPLACED:
        return line
    if not overlap.possible:
        return replace(line, stop_first_because=overlap.because)
    note = "; ".join(filter(None, (line.note, overlap.note)))
    return replace(
        line,
        start_first=True,
        interruption=Interruption.NONE,
        interruption_seconds=None,
        interruptions_measured=0,
        note=note,
    )


def _version(text: str) -> tuple[int, ...]:
    """Its numbers, such as (2, 26, 1); an unknown version is taken for a new one."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else _NO_CASCADE


def _brief_id(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
