"""The application of an environment: read, validate, plan, create and stop it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from prefect.artifacts import acreate_table_artifact

from adapters import preflight
from adapters.config.needs import refuse_circle
from adapters.docker.containers import ContainerSnapshot
from adapters.docker.engine import DockerEngine
from adapters.host.fingerprints import Fingerprints
from core.deployment.half_replaced import find_half_replaced
from core.deployment.hooks import planned_hooks
from core.deployment.images import build_key
from core.deployment.plan import paused_services, plan
from core.deployment.release import (
    Document,
    Leftovers,
    PreDeployState,
    changed_files,
    declares_the_same,
    find_leftovers_of,
    pre_deploy_state,
    replace_secrets,
)
from core.deployment.remote import unasked_probes, with_unasked_probes
from core.deployment.update import refused_images
from models.compose import Application, FetchOptions, InjectedFile, Plan
from models.containers import ContainerState
from models.environments import Environment
from models.failures import ContainerGoneError, EngineError
from models.metrics import Metric
from models.records import Release
from models.results import DriftReport
from models.settings import current_settings
from models.validation import Facts
from tasks.deployment.ahead import answers_ahead, compose_ahead
from tasks.deployment.images import ImageOutlook, injected_fingerprints, read_images
from tasks.deployment.kept_files import with_lacking_copies
from tasks.deployment.kept_values import with_lacking_values
from tasks.deployment.overlap import decide_overlaps
from tasks.deployment.release_notes import read_release_notes
from tasks.monitoring.events import ContainerWatch
from tasks.runtime.clients import known_applications
from tasks.runtime.naming import artifact_key
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ, WRITE, retry_read
from tasks.runtime.stores import open_stores, stores_exist
from tasks.runtime.task import finish_even_so, task
from tasks.runtime.traces import describe_span

log = logging.getLogger("roas")

NO_FETCH = FetchOptions()
"""Only the images that a service's own pull policy asks for."""


@task(name="gather facts", task_run_name="gather facts about {project.environment.name}", **READ)
async def gather_facts(project: Project) -> Facts:
    """Gather every fact that a start of the environment is validated from."""
    compose = await asyncio.to_thread(compose_ahead, project)
    return await preflight.gather_facts(project.environment, compose=compose, engine=project.engine)


@task(name="read the application", **READ)
async def read_application(project: Project) -> Application:
    """What the environment's Compose files declare.

    Raises:
        ComposeError: Compose cannot read or merge them.
    """
    return await asyncio.to_thread(project.compose().render)


async def read_ports_taken(project: Project, application: Application, service: str | None) -> tuple[str, ...]:
    """Who uses the published ports of a service, or of all services: one sentence for each that another one holds.

    Raises:
        EngineError: The engine does not answer.
    """
    engine, local = project.engine, project.environment.engine.startswith("unix://")
    return await asyncio.to_thread(preflight.ports_taken, application, service, engine, local=local)


async def read_declarations(project: Project, *, outline: bool = False) -> Application:
    """What the environment's Compose files declare, rendered anew only where they or their variables changed.

    For callers that read it all day; an operation that a person requests renders it anew. `outline` is the part that
    health needs, which another process may have rendered.

    Raises:
        ComposeError: Compose cannot read or merge them.
    """

    def read() -> Application:
        applications = known_applications()
        find = applications.outline if outline else applications.whole
        return find(project.environment, project.variables(), project.compose().render)

    return await asyncio.to_thread(read)


async def read_containers(project: Project) -> list[ContainerState]:
    """Every container of the environment's project, stopped ones too."""
    return await asyncio.to_thread(project.inspect_containers)


read_known = retry_read(read_declarations)
inspect_application = retry_read(read_containers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreDeploySnapshot:
    """What an environment was before a start, and how to make its containers again."""

    before: PreDeployState
    containers: tuple[ContainerSnapshot, ...] = ()


@task(name="snapshot containers", **READ)
async def snapshot_containers(project: Project) -> PreDeploySnapshot:
    """The state that a start which fails with no release to go back to must leave behind.

    Raises:
        EngineError: The engine did not answer, or refused.
    """

    def inspect() -> PreDeploySnapshot:
        engine = project.engine
        state = pre_deploy_state(project.inspect_containers(), _networks(project))
        return PreDeploySnapshot(before=state, containers=engine.containers.snapshot_all(state.containers))

    return await asyncio.to_thread(inspect)


@task(name="find leftovers of the start", **READ)
async def find_leftovers(project: Project, snapshot: PreDeploySnapshot) -> Leftovers:
    """The containers and networks that a failed start made, and the containers it started."""

    def inspect() -> Leftovers:
        now = project.inspect_containers()
        return find_leftovers_of(snapshot.before, now, _networks(project))

    return await asyncio.to_thread(inspect)


@task(name="read the template", **READ)
async def read_template(project: Project, application: Application) -> Document:
    """The configuration as a release keeps it: no value of a variable or of a secret is in it.

    Raises:
        ComposeError: The Compose files cannot be read any more, or not be kept with variables unfilled.
    """

    def read() -> Document:
        last = open_stores().releases.last(project.environment.name, proven=True)
        if last is not None and declares_the_same(last, application):
            return last.compose
        template = project.compose().template()
        return replace_secrets(template, project.redactor().value(template))

    return await asyncio.to_thread(read)


@retry_read
async def proven_releases(environment: str) -> list[Release]:
    """The proven releases of an environment, newest first."""
    return [
        release for release in await asyncio.to_thread(open_stores().releases.latest, environment) if release.proven
    ]


@retry_read
async def last_failures(environment: str) -> dict[str, datetime]:
    """When each service of an environment failed last, by its name."""
    return await asyncio.to_thread(open_stores().errors.last_failures, environment)


def read_plan(project: Project, options: FetchOptions = NO_FETCH) -> Plan:
    """Plan per service: keep, start, restart, recreate or create, and because of which change.

    Compose is asked for the declarations, the engine for the containers, and registries for the images that would be
    pulled.

    Raises:
        ComposeError: The Compose files cannot be read.
        EngineUnreachableError: The engine did not answer.
    """
    refuse_circle(project.environment, current_settings())
    compose = project.compose()
    return _plan(project, compose.render(), compose.version(), options).plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStart:
    """A plan, and the fingerprints of the builds it contains, as a release keeps them.

    `inputs` is a fingerprint of all that an update is made of: environment, configuration, files and the images that it
    takes; empty for what is no update, or has fetched them.
    """

    plan: Plan
    builds: Mapping[str, str]
    inputs: str = ""


@task(name="plan the start", task_run_name="plan the start of {project.environment.name}", **READ)
async def plan_start(
    project: Project,
    application: Application,
    compose_version: str | None = None,
    options: FetchOptions = NO_FETCH,
) -> PlannedStart:
    """Plan the start of an application that was rendered already; `compose_version` is asked for unless given.

    Raises:
        ComposeError: Compose is not installed.
        EngineUnreachableError: The engine did not answer.
    """
    return await asyncio.to_thread(
        lambda: _plan(project, application, compose_version or project.compose().version(), options)
    )


def _plan(project: Project, application: Application, compose_version: str, options: FetchOptions) -> PlannedStart:
    environment = project.environment
    container_states = project.inspect_containers()
    stores = open_stores() if stores_exist() else None
    last = stores.releases.last(environment.name, proven=True) if stores else None
    refused = refused_images(stores.releases.list_failed(environment.name), environment.name) if stores else {}
    images = read_images(
        project,
        application,
        options,
        container_states,
        last=last,
        refused=refused,
        answered=partial(answers_ahead, environment.name),
    )
    files: dict[str, dict[str, str]] = {}
    is_before_fetch = options.update and not options.fetched
    if last is not None or is_before_fetch:
        files = Fingerprints(current_settings().data_dir).fingerprint_mounted_files(application)
        for name, prints in injected_fingerprints(project, application).items():
            files[name] |= prints
    changed = changed_files(last, files)
    planned = plan(
        application,
        container_states,
        {reference: fact.image_id for reference, fact in images.held.items() if fact is not None},
        changed,
        # Containers that are created one by one replace no dependants.
        compose_version="" if options.update else compose_version,
        fetches=images.fetches,
        measured=stores.progress.interruptions(environment.name) if stores else {},
        overlaps=decide_overlaps(environment, application, container_states) if options.update else {},
    )
    if last is not None and changed:
        planned = with_lacking_copies(environment, application, planned, last, changed)
    if last is not None and planned.changes:
        planned = with_lacking_values(project, planned, last)
    if unasked := unasked_probes(environment, application):
        planned = with_unasked_probes(planned, unasked)
    if options.update:
        notes = read_release_notes(project, application, planned, container_states, images, project.engine)
        planned = replace(planned, release_notes=notes)
    if options.update and planned.changes:
        planned = replace(planned, hooks=planned_hooks(environment.hooks))
    inputs = _inputs(environment, application, options, files, images) if is_before_fetch else ""
    return PlannedStart(plan=planned, builds=images.builds, inputs=inputs)


def _inputs(
    environment: Environment,
    application: Application,
    options: FetchOptions,
    files: Mapping[str, Mapping[str, str]],
    images: ImageOutlook,
) -> str:
    digests = {
        fetch.service: fetch.digest or images.builds.get(build_key(fetch.through or fetch.service), "")
        for fetch in images.fetches.values()
        if not fetch.held_back
    }
    declared = {name: service.config_hash for name, service in application.services.items()}
    inputs = [environment.model_dump(mode="json"), sorted(options.services or ()), declared, files, digests]
    return Fingerprints(current_settings().data_dir).keyed_hash(json.dumps(inputs, sort_keys=True, default=str))


@task(name="create containers", timeout_seconds=900, **EFFECT)
async def create_containers(
    project: Project,
    document: Mapping[str, Any] | None = None,
    *,
    fetched: bool = False,
    services: Sequence[str] = (),
) -> None:
    """Let Compose create missing containers and replace changed ones, of all services unless some are given.

    It starts none. Services with a paused container are left as they are.

    `document` is a release's configuration, which then stands for the environment's Compose files. With `fetched` the
    images that pull policies ask for were pulled and built already.

    Raises:
        ComposeError: Compose, or the engine below it, refused; in their own words.
    """
    engine, compose = project.engine, project.compose(document)
    paused = await asyncio.to_thread(_make_ready, project)
    alone = bool(paused)
    if paused:
        # Compose would start a paused container, and fails where it cannot.
        declared = services or (await asyncio.to_thread(compose.render)).services
        services = [name for name in declared if name not in paused]
        if not services:
            return
    # Its first use takes a moment, in which the replaced containers serve no more.
    prepared = asyncio.to_thread(lambda: engine.change_client)
    await asyncio.gather(asyncio.to_thread(compose.create, services, fetched=fetched, alone=alone), prepared)


async def start_when_replaced(project: Project, service: str, watch: ContainerWatch) -> None:
    """Start each new container of a service as soon as it has its name, until this is cancelled.

    Compose takes a while to end after that, in which nothing would serve. What cannot be started is left to
    the service's start, which says why.
    """
    while True:
        container = await watch.wait_for_rename(service)
        with suppress(EngineError):
            await asyncio.to_thread(project.engine.containers.start, container)


@task(name="repair half-replaced containers", **EFFECT)
async def settle_half_replaced(project: Project) -> None:
    """Remove or name what Compose left of a replacement in which it was ended.

    Raises:
        EngineError: The engine did not answer, or refused.
    """

    def settle() -> None:
        _settle(project.engine, project.inspect_containers())

    await asyncio.to_thread(settle)


def _make_ready(project: Project) -> frozenset[str]:
    """Free the names of replacements, which Compose needs; the services that have a paused container."""
    container_states = project.inspect_containers()
    _settle(project.engine, container_states)
    return paused_services(container_states)


def _settle(engine: DockerEngine, container_states: Sequence[ContainerState]) -> None:
    half = find_half_replaced(container_states)
    for container in half.remove:
        log.warning(
            "%s is removed: its start was interrupted before it replaced the container that runs", container.name
        )
        engine.containers.remove(container.container_id)
    for container_id, name in half.rename.items():
        log.warning("%s gets its name: its replacement was interrupted", name)
        engine.containers.rename(container_id, name)


@task(name="stop containers", task_run_name="stop {service}", **EFFECT)
async def stop_containers(
    project: Project, service: str, containers: Sequence[ContainerState], grace: timedelta
) -> list[ContainerState]:
    """Stop a service's containers, and inspect them afterwards; after the grace period the engine kills them.

    Raises:
        EngineError: The engine could not stop one, or one runs again.
    """
    # What is asked of the engine is done also where this is cancelled: an undo must not find it running still.
    after = await finish_even_so(
        asyncio.gather(*(asyncio.to_thread(_stop, project.engine, container, grace) for container in containers))
    )
    for container in after:
        if container is not None and container.up:
            raise EngineError(
                f"{container.name} is {container.state} although it was stopped.",
                advice="Something else starts it: another program on this engine?",
            )
    describe_span(environment=project.environment.name, service=service, outcome="stopped")
    return [container for container in after if container is not None]


def _stop(engine: DockerEngine, container: ContainerState, grace: timedelta) -> ContainerState | None:
    """The container after it has stopped; None where it has been removed meanwhile."""
    try:
        if container.state == "paused":
            # A paused process cannot handle the signal, so it would always be killed.
            engine.containers.unpause(container.container_id)
        engine.containers.stop(container.container_id, grace)
        return engine.containers.inspect(container.container_id)
    except ContainerGoneError:
        return None


@task(name="read injected files", **READ)
async def read_injected_files(
    project: Project, document: Mapping[str, Any] | None = None
) -> dict[str, tuple[InjectedFile, ...]]:
    """The files that Compose puts into containers just before their start, by service."""
    return await asyncio.to_thread(project.compose(document).injections)


@task(name="store the drift", **WRITE)
async def store_drift(report: DriftReport, services: Sequence[str]) -> None:
    """Write of each service whether it had drifted, 0 or 1, as a metric named drift."""
    drifted = {line.service for line in report.services}
    metrics = [
        Metric(
            environment=report.environment,
            service=name,
            name="drift",
            value=float(name in drifted),
            sampled_at=report.seen_at,
        )
        for name in services
    ]
    await asyncio.to_thread(open_stores().metrics.add, metrics)


@task(name="show the drift", **READ)
async def show_drift(report: DriftReport) -> None:
    """Put the drift on the run's page."""
    rows = [
        {"service": line.service, "a start would": str(line.action), "because": line.because}
        for line in report.services
    ]
    rows += [
        {"service": name, "a start would": "leave it alone", "because": "it is not declared"} for name in report.orphans
    ]
    rows += [
        {
            "service": update.service,
            "a start would": "keep it",
            "because": f"an update would replace it: {update.changes}",
        }
        for update in report.updates
    ]
    await acreate_table_artifact(
        table=rows or [{"service": "all", "a start would": "keep", "because": "they run as declared"}],
        key=artifact_key("drift", report.environment),
        description=f"Drift of {report.environment} at {report.seen_at:%Y-%m-%d %H:%M} UTC",
    )


def _networks(project: Project) -> tuple[str, ...]:
    return tuple(sorted(network.name for network in project.engine.networks.find(project.environment.project)))
