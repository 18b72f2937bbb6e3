"""Copies of an application to try an update in: make one, load its data, start it, and take it away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from adapters.compose.cli import ComposeCli
from adapters.docker.scratch import copy_images, remove_copy
from adapters.host.local_lock import LocalLock
from adapters.host.mounted_paths import look_at
from adapters.host.private_files import make_private_folder, sync_folder
from adapters.host.processes import this_process
from adapters.snapshots.containers import FOLDER, REHEARSAL, EngineCommands
from adapters.snapshots.places import PartPlace
from adapters.snapshots.streams import Command, Limit, stream
from core.deployment.plan import start_deadline, start_waves
from core.deployment.rehearsal import Document, HostPath, copy_name
from models.compose import Application, FetchKind, ImageFact, ImageFetch, ServiceDeclaration
from models.containers import replicas
from models.failures import BadInputError, RoasError
from models.rehearsals import RehearsedService
from models.settings import current_settings
from models.snapshots import DataSnapshot, FilesData, SavedData
from tasks.deployment.hooks import OUTPUT_LINES, HookOutcome
from tasks.deployment.images import ask_registries, fetch_one
from tasks.deployment.services import read_injected_files
from tasks.deployment.start_service import ServiceStartOrder, bring_up
from tasks.errors.evidence import ProbeJournal
from tasks.errors.hook_evidence import decisive_line
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ
from tasks.runtime.task import finish_even_so, task
from tasks.storage.snapshots import call_in_thread, engine_variables, load_part

log = logging.getLogger("roas")

_COPY_SECONDS = 600.0


class CopiedProject(Project):
    """The copy of a project: whatever is asked of Compose is asked of the copy's document, and of its own project."""

    def __init__(self, original: Project, document: Document) -> None:
        super().__init__(original.environment.model_copy(update={"project": copy_name(original.environment.project)}))
        self.document = document

    def compose(self, document: Mapping[str, Any] | None = None) -> ComposeCli:
        """Compose for the copy's document; no other one belongs to it."""
        self.redactor()
        return ComposeCli(self.environment, self.variables(), self.document)


@contextmanager
def rehearsing_alone(environment: str) -> Iterator[str | None]:
    """Be the only rehearsal of an environment on this host, by a lock that ends with the process; yields the other."""
    lock = LocalLock(_note(environment).with_suffix(".lock"))
    try:
        yield lock.take(f"{this_process()} since {datetime.now(UTC):%H:%M:%S} UTC")
    finally:
        lock.release()


async def begin_copy(project: Project) -> None:
    """Remove what a killed rehearsal left, and note on disk that there is a copy from now on.

    Raises:
        BadInputError: Another project has the name of the copy.
    """
    name, place = copy_name(project.environment.project), _note(project.environment.name)
    await empty_copy(project)

    def begin() -> None:
        if project.engine.containers.inspect_project(name) or project.engine.volumes.names(name):
            raise BadInputError(
                f"Another project on this engine is called {name}, as a rehearsal would be;",
                advice=f"remove or rename it: docker compose -p {name} down. Nothing of it was touched.",
            )
        make_private_folder(place.parent)
        place.touch(mode=0o600)
        sync_folder(place.parent)

    await asyncio.to_thread(begin)


async def empty_copy(project: Project, *, but_images: bool = False) -> None:
    """Remove the copy of an environment's application, or all of it `but_images`; also where this is cancelled.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    await finish_even_so(
        asyncio.to_thread(remove_copy, project.engine, project.environment.project, but_images=but_images)
    )


async def end_copy(project: Project) -> None:
    """Remove the copy of an environment's application; what the engine refuses is logged, and tried again later."""
    name = project.environment.name
    try:
        await empty_copy(project)
        await asyncio.to_thread(_note(name).unlink, missing_ok=True)
    except RoasError as error:
        log.warning("the copy of %s is still there, and removed later: %s", name, error.what)


async def end_left_copy(project: Project) -> None:
    """Remove the copy that a killed rehearsal left, if one did."""
    name = project.environment.name
    if await asyncio.to_thread(_note(name).exists):
        with rehearsing_alone(name) as other:
            if other is None:
                log.warning("a rehearsal of an update of %s was killed; its copy is removed", name)
                await end_copy(project)


def _note(environment: str) -> Path:
    return current_settings().data_dir.absolute() / "held" / f"{environment}.rehearsal"


@task(name="look at mounted paths", **READ)
async def look_at_paths(project: Project, paths: Collection[str]) -> dict[str, HostPath]:
    """What the paths are that the application mounts; of an engine on another machine nothing is known."""

    def look() -> dict[str, HostPath]:
        return {path: look_at(path) if project.engine.is_here else HostPath.WITHHELD for path in paths}

    return await asyncio.to_thread(look)


@task(name="read what is declared", **READ)
async def read_whole(project: Project) -> tuple[Document, Application]:
    """What the Compose files declare of every profile, as Compose prints it with all values, and as an application.

    Raises:
        ComposeError: Compose cannot read them.
    """
    compose = Project(project.environment.model_copy(update={"profiles": ("*",)})).compose()
    return await asyncio.gather(asyncio.to_thread(compose.filled), asyncio.to_thread(compose.render))  # type: ignore[return-value]


@task(name="fetch images for the copy", timeout_seconds=3600, **EFFECT)
async def fetch_for_copy(
    project: Project, document: Document, services: Mapping[str, ServiceDeclaration], fetches: Mapping[str, ImageFetch]
) -> dict[str, ImageFact]:
    """The images that an update would take, by service; no name that production uses is moved.

    `document` declares the services. Without a fetch the engine's own image is meant, but of one that hooks alone run.

    Raises:
        ImageFetchError: One cannot be pulled or built.
        EngineError: The engine does not answer.
    """
    engine, facts = project.engine, dict[str, ImageFact | None]()
    for name, declaration in services.items():
        fetch, reference = fetches.get(name), declaration.image
        find = partial(engine.images.inspect, reference)
        if fetch is not None and fetch.kind is FetchKind.BUILD and not fetch.through:
            reference = f"{copy_images(project.environment.project)}:{name}-new"
            body = document["services"][name]
            # More tags of a build are names of production.
            body = {"build": body["build"] | {"tags": []}, "platform": declaration.platform, "image": reference}
            build = _compose_of(project, document | {"services": {name: body}}).build
            await fetch_one("build", name, partial(build, [name]))
            find = partial(engine.images.inspect, reference)
        elif fetch is not None and fetch.digest:
            find = partial(engine.images.find_by_digest, reference, fetch.digest)
            if await asyncio.to_thread(find) is None:
                body = {"image": f"{reference}@{fetch.digest}", "platform": declaration.platform}
                await fetch_one("pull", name, partial(_compose_of(project, {"services": {name: body}}).pull, [name]))
        facts[name] = await asyncio.to_thread(find)
    through = {name: fetch.through for name, fetch in fetches.items() if fetch.through in facts and name in facts}
    return {name: fact for name in facts if (fact := facts[through.get(name, name)]) is not None}


async def hook_fetches(project: Project, services: Mapping[str, ServiceDeclaration]) -> dict[str, ImageFetch]:
    """How the images of services are had that hooks alone run: as an update does, built or pulled."""
    pulled = {
        name: service.image
        for name, service in services.items()
        if not service.build and service.pull_policy != "never" and "@" not in service.image
    }
    answers = await asyncio.to_thread(ask_registries, project, set(pulled.values()))
    return {
        name: ImageFetch(
            service=name,
            kind=FetchKind.BUILD if service.build else FetchKind.PULL,
            digest=answers[pulled[name]].digest if name in pulled else "",
        )
        for name, service in services.items()
    }


def _compose_of(project: Project, document: Document) -> ComposeCli:
    return CopiedProject(project, document).compose()


@task(name="name images for the copy", **EFFECT)
async def name_for_copy(project: Project, images: Mapping[str, str], suffix: str) -> dict[str, str]:
    """Give images, by service, names of the copy; the names."""
    names = {name: f"{copy_images(project.environment.project)}:{name}-{suffix}" for name in images}

    def tag() -> None:
        for name, image_id in images.items():
            project.engine.images.tag(image_id, names[name])

    await asyncio.to_thread(tag)
    return names


@task(name="create the copy", timeout_seconds=900, **EFFECT)
async def create_copy(copy: CopiedProject) -> Application:
    """Let Compose create the containers of the copy, or replace those that changed; what it declares.

    Raises:
        ComposeError: Compose, or the engine below it, refused.
    """
    await finish_even_so(asyncio.to_thread(copy.compose().create, fetched=True))
    return await asyncio.to_thread(copy.compose().render)


async def load_copy(
    copy: CopiedProject, application: Application, data: Sequence[tuple[SavedData, str]],
    snapshot: DataSnapshot | None, folders: Mapping[str, str],
) -> None:  # fmt: skip
    """Put a snapshot's data and folders of the host into the copy's volumes; nothing of it runs afterwards.

    With `data` is the key of the volume of files. `folders` are those of the host by the key of a volume.

    Raises:
        SnapshotError: Something cannot be loaded.
    """
    image = next(iter(application.services.values())).image
    for saved, key in data if snapshot is not None else ():
        # Its helpers are labelled as those of a rehearsal, so that no restore takes them for its own.
        own = replace(snapshot, snapshot_id=f"{REHEARSAL}{snapshot.snapshot_id}")
        files = PartPlace(container="", image=image, source=f"{application.project}_{key}")
        await load_part(copy, application, saved, own, files if isinstance(saved, FilesData) else None)

    def copy_folder(key: str, source: str, limit: Limit) -> None:
        containers = EngineCommands(engine_variables(copy.environment), REHEARSAL, limit)
        reading = Command(what=f"reading {source}", arguments=("tar", "-C", source, "-cf", "-", "."))
        with containers.helper(image, f"{application.project}_{key}", read_only=False) as helper:
            stream(reading, containers.copy_in(helper, FOLDER, f"copying {source}"), limit)

    for key, source in folders.items():
        await call_in_thread(partial(copy_folder, key, source), _COPY_SECONDS)
    up = [container for container in await asyncio.to_thread(copy.inspect_containers) if container.up]
    stop = copy.engine.containers.stop
    await asyncio.gather(*(asyncio.to_thread(stop, container.container_id) for container in up))


async def start_copy(
    copy: CopiedProject, application: Application, since: datetime, only: Collection[str] | None = None
) -> tuple[RehearsedService, ...]:
    """Start the copy's services, or `only` some, each after all it depends on, and prove each; how each came up.

    After one that fails none is started that comes later.
    """
    files = await read_injected_files(copy) if any(s.injects_files for s in application.services.values()) else {}
    results: list[RehearsedService] = []
    async with watch_project(copy) as watch:
        for wave in start_waves(application):
            chosen = [application.services[name] for name in wave if only is None or name in only]
            orders = [
                ServiceStartOrder(
                    declaration=declaration,
                    files=files.get(declaration.name, ()),
                    deadline_seconds=start_deadline(declaration, copy.environment).total_seconds(),
                    since=since,
                )
                for declaration in chosen
                if declaration.replicas
            ]
            results += await asyncio.gather(*(_start_one(copy, order, watch) for order in orders))
            if not all(result.ok for result in results):
                break
    return tuple(results)


async def _start_one(copy: CopiedProject, order: ServiceStartOrder, watch: ContainerWatch) -> RehearsedService:
    name, began = order.declaration.name, time.monotonic()
    ok, line = True, ""
    try:
        reason = (await bring_up(copy, order, watch, lambda _: None, lambda _: None, ProbeJournal())).reason
    except RoasError as error:
        ok, reason = not copy.environment.service(name).required, error.what.removeprefix(f"{name}: ")
        line = await asyncio.to_thread(_line_of, copy, name)
    seconds = round(time.monotonic() - began, 3)
    log.info("copy: %s %s after %.1f s: %s", name, "is up" if ok else "failed", seconds, reason)
    redacted = copy.redactor().text
    return RehearsedService(service=name, ok=ok, seconds=seconds, reason=redacted(reason), line=redacted(line))


def _line_of(copy: CopiedProject, service: str) -> str:
    """The line of a service's log that tells best why it failed."""
    containers = replicas(copy.inspect_containers(service))
    texts = (copy.engine.containers.logs(container.container_id, OUTPUT_LINES) for container in containers)
    return decisive_line(service, HookOutcome(exit_code=None, output="".join(texts)))


@task(name="measure the copy", **READ)
async def memory_of_copy(copy: CopiedProject) -> int:
    """How many bytes of memory the copy's containers use now."""
    samples = await asyncio.to_thread(copy.engine.statistics.samples, copy.environment.project)
    return sum(sample.memory_bytes for sample in samples)
