"""Replace a service start-first: start a container beside the old one, prove it, name it, and remove the old one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from adapters.compose.proxy_files import proxy_configuration
from adapters.compose.variables import secret_values
from adapters.docker.beside import names_in
from adapters.docker.containers import ContainerSnapshot
from adapters.docker.engine import DockerEngine
from adapters.probes.run import run_probe
from adapters.programs import shipped_programs
from core.deployment.overlap import (
    RELOADED,
    beside_name,
    decide_overlap,
    fixed_subnets,
    goes_forward,
    missing_in_proxy,
    proxies_of,
    reload_command,
    surplus,
    unproven_networks,
    wants_overlap,
)
from core.deployment.release import Document
from models.compose import Application, InjectedFile, MountKind, ServiceDeclaration
from models.containers import ContainerState, replicas
from models.environments import Environment
from models.failures import ContainerGoneError, EngineError, ProbeOutOfReachError, StartFailedError
from models.overlap import BesideContainer, OverlapDecision, RunProgram
from tasks.deployment.service_inspector import ServiceInspector
from tasks.deployment.start_service import wait_until_proven
from tasks.monitoring.events import watch_project
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, retry_read
from tasks.runtime.task import task
from tasks.runtime.traces import describe_span

log = logging.getLogger("roas")

_ASK_AGAIN_SECONDS = 0.5
_CHECK_WITHIN = timedelta(seconds=30)
_SIGNAL_WITHIN = timedelta(seconds=30)


def run_programs(application: Application) -> dict[str, RunProgram]:
    """The recognised program of each service."""
    programs = {program.id: program for program in shipped_programs()}
    return {
        name: RunProgram(
            name=program.name, stateful=program.stateful, outside_logins=program.outside_logins, proxy=program.proxy
        )
        for name, declaration in application.services.items()
        if (program := programs.get(declaration.program)) is not None
    }


def decide_overlaps(
    environment: Environment,
    application: Application,
    container_states: Sequence[ContainerState],
) -> dict[str, OverlapDecision]:
    """Whether each service that should be replaced start-first can be."""
    names = [name for name, declaration in application.services.items() if wants_overlap(declaration, environment)]
    programs = run_programs(application) if names else {}
    decisions = {name: decide_overlap(application, name, environment, container_states, programs) for name in names}
    for name, decision in decisions.items():
        if decision.possible:
            proxies = proxies_of(application, name, environment, programs)
            lacking = [missing_in_proxy(proxy, kind, _files_of(application, proxy)) for proxy, kind in proxies.items()]
            decisions[name] = replace(decision, note="; ".join(filter(None, (decision.note, *lacking))))
    return decisions


def _files_of(application: Application, proxy: str) -> str:
    """The configuration of a proxy as far as this machine has it."""
    declaration = application.services.get(proxy)
    mounts = declaration.mounts if declaration is not None else ()
    paths = [mount.source for mount in mounts if mount.kind is MountKind.BIND]
    paths += [file.path for file in application.files if proxy in file.services]
    return proxy_configuration(paths)


@task(name="create a second container", task_run_name="create a second container of {service}", **EFFECT)
async def create_another(project: Project, service: str, document: Document | None = None) -> ContainerSnapshot:
    """Let Compose make one more container of a service, and take it away again: what it was made from is kept.

    Raises:
        ComposeError: Compose, or the engine below it, refused.
    """

    def make() -> ContainerSnapshot:
        engine = project.engine
        container_states = project.inspect_containers(service)
        project.compose(document).create_another(
            service, sum(not container.one_off for container in container_states) + 1
        )
        before = {container.container_id for container in container_states}
        made = [
            container_id
            for container_id in engine.containers.services(project.environment.project, service)
            if container_id not in before
        ]
        if len(made) != 1:
            raise EngineError(f"Compose made {len(made)} more containers of {service} instead of one.")
        return engine.beside.take(made[0])

    return await asyncio.to_thread(make)


@task(name="start the new container", task_run_name="start {old.service} beside {old.name}", **EFFECT)
async def start_beside(
    project: Project,
    application: Application,
    old: ContainerState,
    snapshot: ContainerSnapshot,
    files: Sequence[InjectedFile],
    proxies: Mapping[str, str],
) -> BesideContainer:
    """Start a container beside the one that it replaces; others do not find it under the service's name yet.

    `proxies` are the kinds of those in front of it, by service.

    Raises:
        EngineError: The engine refused.
    """

    def start() -> BesideContainer:
        engine, name = project.engine, beside_name(old)
        networks = unproven_networks(application, old.service, proxies.values())
        container_id = engine.beside.create(snapshot, name, old, networks)
        engine.containers.start(container_id, files)
        return BesideContainer(
            container_id=container_id,
            name=name,
            replaces_id=old.container_id,
            replaces_name=old.name,
            service=old.service,
            networks=networks,
        )

    return await asyncio.to_thread(start)


@task(name="prove the new container", task_run_name="prove {beside.name}", **EFFECT)
async def prove_beside(
    project: Project,
    declaration: ServiceDeclaration,
    beside: BesideContainer,
    deadline_seconds: float,
    hold_seconds: float | None = None,
) -> str:
    """Wait until the container itself is proven, as any start is: health check, probe, stabilisation. Returns why.

    `hold_seconds` stand for the stabilisation time where they are given.

    Raises:
        StartFailedError: It did not come up, or did not stay up.
    """
    attempt = ServiceInspector(project, replace(declaration, replicas=1), only=[beside.container_id])
    async with watch_project(project) as watch:
        needed = None if hold_seconds is None else timedelta(seconds=hold_seconds)
        container_states = await wait_until_proven(attempt, watch, deadline_seconds, needed=needed)
    verdict = attempt.verdict(container_states)
    describe_span(environment=project.environment.name, service=beside.service, outcome=str(verdict.health))
    return verdict.reason


@task(name="connect the new container", task_run_name="connect {beside.name}", **EFFECT)
async def take_in(project: Project, old: ContainerState, beside: BesideContainer, snapshot: ContainerSnapshot) -> None:
    """Let others find the proven container under the service's name, and prove once more that it serves.

    Raises:
        EngineError: The engine refused.
        StartFailedError: It does not serve any more, as when it does not connect again to what it needs.
    """

    def join() -> None:
        for network in beside.networks:
            project.engine.beside.join(beside.container_id, network, names_in(snapshot, network, old))

    if beside.networks:
        await asyncio.to_thread(join)
        await _prove_again(project, beside)


async def _prove_again(project: Project, beside: BesideContainer) -> None:
    engine = project.engine
    test = await asyncio.to_thread(engine.beside.health_test, beside.container_id)
    until = datetime.now(UTC) + _CHECK_WITHIN
    while (why := await _refusal(project.environment, engine, beside, test)) is not None:
        container = await asyncio.to_thread(engine.containers.inspect, beside.container_id)
        if container.state in ("exited", "dead"):
            raise StartFailedError(
                f"{beside.service}: it ended with exit code {container.exit_code} once it had its name in its networks",
                service=beside.service,
            )
        if datetime.now(UTC) > until:
            raise StartFailedError(
                f"{beside.service} was proven, but not again after it had taken its name in its networks: {why}",
                advice="It must connect again to what it needs: a network with these services alone avoids that.",
                service=beside.service,
            )
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


async def _refusal(
    environment: Environment, engine: DockerEngine, beside: BesideContainer, test: Sequence[str]
) -> str | None:
    """Why the container does not serve; None where its health check and its probe succeed."""
    container = await asyncio.to_thread(engine.containers.inspect, beside.container_id)
    if container.state != "running":
        return f"it is {container.state} (exit code {container.exit_code})"
    if test:
        try:
            exit_code, printed = await asyncio.to_thread(
                engine.containers.exec, beside.container_id, test, _CHECK_WITHIN
            )
        except TimeoutError:
            return "its health check does not end"
        if exit_code != 0:
            return f"its health check ended with exit code {exit_code}: {printed.strip()[:200]}"
    probe = environment.service(beside.service).probe
    if probe is None:
        return None
    secrets = await asyncio.to_thread(secret_values, environment)
    try:
        answer = await run_probe(
            probe,
            beside.service,
            project=environment.project,
            engine=engine,
            secrets=secrets,
            container_states=[container],
        )
    except ProbeOutOfReachError as error:
        # Its own health check proves it; without one nothing can from here.
        return None if test else f"its probe cannot be asked: {error.what}"
    return None if answer.ok else f"its probe fails: {answer.detail}"


@task(name="stop the new container", task_run_name="stop {beside.name}", **EFFECT)
async def stop_beside(project: Project, beside: BesideContainer, grace: timedelta) -> None:
    """Stop a new container, so that others find it no more; it stays as evidence.

    Raises:
        EngineError: The engine refused.
    """
    await asyncio.to_thread(project.engine.containers.stop, beside.container_id, grace)


@task(name="disconnect the old container", task_run_name="disconnect {old.name}", **EFFECT)
async def take_out(project: Project, application: Application, old: ContainerState, beside: BesideContainer) -> bool:
    """Let others find the old container no more under the service's name, where its connections can go on.

    Returns whether that was possible: the networks must have a subnet in the Compose file.

    Raises:
        EngineError: The engine refused.
    """
    if not set(beside.networks) <= fixed_subnets(application):
        return False
    for network in beside.networks:
        await asyncio.to_thread(project.engine.beside.rename_in, old.container_id, network)
    return True


@task(name="reconnect the old container", task_run_name="reconnect {old.name}", **EFFECT)
async def give_names_back(project: Project, old: ContainerState, beside: BesideContainer) -> bool:
    """Let others find the old container again under the names that the new one took; returns whether it had lost them.

    Raises:
        EngineError: The engine refused.
    """
    return await asyncio.to_thread(
        _give_names_back, project.engine, old, beside.container_id, beside.name, beside.networks
    )


def _give_names_back(
    engine: DockerEngine, old: ContainerState, new_id: str, new_name: str, networks: Sequence[str]
) -> bool:
    has, new_names = engine.beside.names(old.container_id), engine.beside.names(new_id)
    lost_networks = [
        network
        for network in networks
        if old.service not in has.get(network, ()) and old.service in new_names.get(network, ())
    ]
    for network in lost_networks:
        engine.beside.rename_in(old.container_id, network, sorted(new_names[network] - {new_name}))
    return bool(lost_networks)


def proxies_to_reload(project: Project, application: Application, service: str) -> dict[str, str]:
    """The kind of each proxy that passes requests on to a service and keeps addresses until it is reloaded."""
    if service not in application.services:
        return {}
    proxies = proxies_of(application, service, project.environment, run_programs(application))
    return {name: kind for name, kind in proxies.items() if kind in RELOADED}


async def reload_after_start(
    project: Project, service: str, proxies: Mapping[str, str], since: datetime | None
) -> list[str]:
    """Reload the proxies of a service whose containers were started; returns which.

    With `since` only where one was started after that, and only proxies that have run for longer than it has.

    Raises:
        StartFailedError: One did not reload.
        EngineError: The engine did not answer, or refused.
    """
    if since is None:
        return await reload_proxies(project, proxies)
    container_states = await asyncio.to_thread(project.inspect_containers, service)
    started = [
        container.started_at
        for container in container_states
        if container.state == "running" and container.started_at and not container.one_off
    ]
    if max(started, default=since) <= since:
        return []
    return await reload_proxies(project, proxies, max(started))


@task(name="reload the proxies", task_run_name="reload {proxies}", **EFFECT)
async def reload_proxies(project: Project, proxies: Mapping[str, str], before: datetime | None = None) -> list[str]:
    """Make proxies that keep addresses ask for them again; returns which. `proxies` are their kinds by service.

    With `before` only containers that were started before then. All are tried before one that refuses is reported.

    Raises:
        StartFailedError: One did not reload, so it goes on with the old addresses.
    """
    engine, reloaded = project.engine, []
    refused: StartFailedError | None = None
    for name, kind in proxies.items():
        if kind not in RELOADED:
            continue
        containers = await asyncio.to_thread(project.inspect_containers, name)
        for container in containers:
            if (
                container.state != "running"
                or container.one_off
                or (before and container.started_at and container.started_at >= before)
            ):
                continue
            command = await asyncio.to_thread(engine.beside.command, container.container_id)
            try:
                exit_code, printed = await asyncio.to_thread(
                    engine.containers.exec, container.container_id, reload_command(command), _SIGNAL_WITHIN
                )
            except TimeoutError as error:
                exit_code, printed = 1, str(error)
            if exit_code != 0:
                refused = refused or StartFailedError(
                    f"{name} did not reload: {printed.strip()[:300]}",
                    advice=f"correct its configuration: docker exec {container.name} nginx -t",
                    service=name,
                )
                continue
            reloaded.append(name)
    if refused is not None:
        raise refused
    return reloaded


@task(name="rename the new container", task_run_name="rename {beside.name}", **EFFECT)
async def take_place(project: Project, beside: BesideContainer) -> None:
    """Give the new container the name of the removed one.

    Raises:
        EngineError: The engine refused.
    """
    await asyncio.to_thread(project.engine.beside.rename, beside.container_id, beside.replaces_name)


@retry_read
async def is_unsettled(
    project: Project, application: Application, container_states: Sequence[ContainerState] = ()
) -> bool:
    """Whether an interrupted start-first replacement left a container; `container_states` were inspected just now.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    containers = replicas(container_states) or await asyncio.to_thread(_containers, project)
    return any(container.replaces for container in containers) or bool(
        _unused_containers(project, application, containers)
    )


@task(name="settle replacements", **EFFECT)
async def settle_beside(project: Project, application: Application, *, back: bool) -> list[str]:
    """Finish or undo what an interrupted start-first replacement left; returns what was done, in words.

    With `back` the operation is rolled back, so the old containers stay where they serve.

    Raises:
        EngineError: The engine refused.
    """

    def settle() -> list[str]:
        engine, done = project.engine, []
        containers = _containers(project)
        for new in containers:
            if (place := new.replaces) is None:
                continue
            old = next((container for container in containers if container.container_id.startswith(place[0])), None)
            done.append(_settle(engine, application, new, old, place[1], back=back))
        for container in _unused_containers(project, application, containers):
            engine.containers.remove(container.container_id)
            done.append(f"removed {container.name}, which was never started")
        return done

    return await asyncio.to_thread(settle)


def _containers(project: Project) -> list[ContainerState]:
    return replicas(project.inspect_containers())


def _unused_containers(
    project: Project, application: Application, container_states: Sequence[ContainerState]
) -> list[ContainerState]:
    """What Compose made to be copied, where the process ended before it was taken away."""
    return [
        container
        for name, declaration in application.services.items()
        if wants_overlap(declaration, project.environment)
        for container in surplus(
            declaration, [container for container in container_states if container.service == name]
        )
    ]


def _settle(
    engine: DockerEngine,
    application: Application,
    new: ContainerState,
    old: ContainerState | None,
    name: str,
    *,
    back: bool,
) -> str:
    declaration = application.services.get(new.service)
    networks = unproven_networks(application, new.service) if declaration is not None else ()
    grace = timedelta(seconds=10) if declaration is None else declaration.stop_grace_period
    if not goes_forward(
        new,
        old,
        joined=_is_named(engine, new, networks),
        old_named=old is not None and _is_named(engine, old, networks),
        back=back,
    ):
        if old is not None and old.up:
            _give_names_back(engine, old, new.container_id, new.name, networks)
        _remove(engine, new, grace)
        return f"removed {new.name}, which was not proven"
    if old is not None:
        _remove(engine, old, grace)
    engine.beside.rename(new.container_id, name)
    return f"finished the replacement of {name}"


def _is_named(engine: DockerEngine, container: ContainerState, networks: Sequence[str]) -> bool:
    try:
        names = engine.beside.names(container.container_id)
    except ContainerGoneError:
        return False
    return all(container.service in names.get(network, ()) for network in networks)


def _remove(engine: DockerEngine, container: ContainerState, grace: timedelta) -> None:
    try:
        engine.containers.stop(container.container_id, grace)
        engine.containers.remove(container.container_id)
    except ContainerGoneError:
        log.debug("%s is gone already", container.name)
