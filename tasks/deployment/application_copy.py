"""Copies of an application to try an update in: make one, load its data, start it, and take it away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from adapters.compose.cli import ComposeCli
from adapters.docker.scratch import copy_images, remove_copy
from adapters.host.mounted_paths import leads_nowhere
from adapters.host.private_files import make_private_folder, sync_folder
from adapters.snapshots.containers import REHEARSAL
from adapters.snapshots.places import PartPlace
from core.deployment.plan import start_deadline, start_waves
from core.deployment.rehearsal import Document, bound_paths, copy_name
from models.compose import Application, FetchKind, ImageFact, ImageFetch
from models.containers import replicas
from models.failures import BadInputError, RoasError, StartFailedError
from models.settings import current_settings
from models.snapshots import DataSnapshot, FilesData, SavedData
from tasks.deployment.hooks import OUTPUT_LINES, HookOutcome
from tasks.deployment.images import fetch_one
from tasks.deployment.lease import alone_in
from tasks.deployment.services import read_injected_files
from tasks.deployment.start_service import ServiceStartOrder, bring_up
from tasks.errors.evidence import ProbeJournal
from tasks.errors.hook_evidence import decisive_line
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ
from tasks.runtime.task import finish_even_so, task
from tasks.storage.snapshots import load_part

log = logging.getLogger("roas")


class CopiedProject(Project):
    """The copy of a project: what is asked of Compose is asked of the copy's document, in a project of its own."""

    def __init__(self, original: Project, document: Document) -> None:
        super().__init__(original.environment.model_copy(update={"project": copy_name(original.environment.project)}))
        self.document = document

    def compose(self, document: Mapping[str, Any] | None = None) -> ComposeCli:
        """Compose for the copy's document; no other one belongs to it."""
        self.redactor()
        return ComposeCli(self.environment, self.variables(), self.document)


async def begin_copy(project: Project) -> None:
    """Remove the copy that there is, and write down that there is one from now on.

    Raises:
        BadInputError: Another project has the name of the copy.
        EngineError: The engine did not answer, or refused.
    """

    def begin() -> None:
        name, note = copy_name(project.environment.project), _note(project.environment.name)
        remove_copy(project.engine, project.environment.project)
        if project.engine.containers.inspect_project(name) or project.engine.volumes.names(name):
            raise BadInputError(
                f"Another project on this engine is called {name}, as a rehearsal would be;",
                advice=f"remove it (docker compose -p {name} down), or call it otherwise. Nothing of it was touched.",
            )
        make_private_folder(note.parent)
        note.touch(mode=0o600)
        sync_folder(note.parent)

    await finish_even_so(asyncio.to_thread(begin))


async def end_copy(project: Project) -> None:
    """Remove the copy of an application, if there is one; what the engine refuses is logged, and tried again later."""

    def end() -> None:
        note, engine = _note(project.environment.name), project.engine
        if note.exists():
            remove_copy(engine, project.environment.project)
            for name in engine.images.tags(copy_images(project.environment.project)):
                engine.images.untag(name)
            note.unlink()

    try:
        await finish_even_so(asyncio.to_thread(end))
    except RoasError as error:
        log.warning("the copy of %s is still there, and removed later: %s", project.environment.name, error.what)


async def end_left_copy(project: Project) -> None:
    """Remove the copy that a killed rehearsal left, if one did."""
    if await asyncio.to_thread(_note(project.environment.name).exists):
        with alone_in(project.environment.name, "rehearsal") as other:
            if other is None:
                await end_copy(project)


def _note(environment: str) -> Path:
    return current_settings().data_dir.absolute() / "held" / f"{environment}.rehearsal"


@task(name="look at mounted paths", **READ)
async def look_at_paths(project: Project, *documents: Document) -> dict[str, bool]:
    """The mounted paths that lead nowhere, and whether each is a folder; none of an engine on another machine."""
    paths = frozenset[str]().union(*map(bound_paths, documents))

    def look() -> dict[str, bool]:
        return {path: Path(path).is_dir() for path in paths if project.engine.is_here and leads_nowhere(path)}

    return await asyncio.to_thread(look)


@task(name="fetch images for the copy", timeout_seconds=3600, **EFFECT)
async def fetch_for_copy(
    project: Project, document: Document, application: Application, fetches: Mapping[str, ImageFetch]
) -> dict[str, ImageFact]:
    """The images that an update would take, by service; no name that production uses is moved.

    Raises:
        ImageFetchError: One cannot be pulled or built.
        EngineError: The engine does not answer.
    """
    images, facts = project.engine.images, dict[str, ImageFact | None]()
    for name, declaration in application.services.items():
        fetch, reference, body = fetches.get(name), declaration.image, dict(document["services"][name])
        find = partial(images.inspect, reference)
        if fetch is not None and fetch.kind is FetchKind.BUILD and not fetch.through:
            body["image"] = f"{copy_images(project.environment.project)}:{name}"
            # More tags of a build are names of production.
            kept = {key: body[key] for key in ("image", "platform") if body.get(key)}
            kept["build"] = body["build"] | {"tags": []}
            compose = CopiedProject(project, document | {"services": {name: kept}}).compose()
            await fetch_one("build", name, partial(compose.build, [name]))
            find = partial(images.inspect, body["image"])
        elif fetch is not None and fetch.digest:
            find = partial(images.find_by_digest, reference, fetch.digest)
            if await asyncio.to_thread(find) is None:
                kept = {"image": f"{reference}@{fetch.digest}"}
                compose = CopiedProject(project, {"services": {name: kept}}).compose()
                await fetch_one("pull", name, partial(compose.pull, [name]))
        facts[name] = await asyncio.to_thread(find)
    through = {name: fetch.through for name, fetch in fetches.items() if fetch.through}
    return {name: fact for name in facts if (fact := facts[through.get(name, name)]) is not None}


@task(name="create the copy", timeout_seconds=900, **EFFECT)
async def create_copy(copy: CopiedProject) -> Application:
    """Let Compose create the containers of the copy, or replace those that changed; what it declares.

    Raises:
        ComposeError: Compose, or the engine below it, refused.
    """
    await finish_even_so(asyncio.to_thread(copy.compose().create, fetched=True))
    return await asyncio.to_thread(copy.compose().render)


async def load_copy(
    copy: CopiedProject, application: Application, data: Sequence[tuple[SavedData, str]], snapshot: DataSnapshot
) -> None:
    """Put a snapshot's data into the copy's volumes; nothing of it runs afterwards. With files is their volume's key.

    Raises:
        SnapshotError: Something cannot be loaded.
    """
    # Its helpers are labelled as those of a rehearsal, so that no restore takes them for its own.
    own = replace(snapshot, snapshot_id=f"{REHEARSAL}{snapshot.snapshot_id}")
    image = next(iter(application.services.values())).image
    for saved, key in data:
        files = PartPlace(container="", image=image, source=f"{application.project}_{key}")
        await load_part(copy, application, saved, own, files if isinstance(saved, FilesData) else None)
    up = [container for container in await asyncio.to_thread(copy.inspect_containers) if container.up]
    stop = copy.engine.containers.stop
    await asyncio.gather(*(asyncio.to_thread(stop, container.container_id) for container in up))


async def start_copy(
    copy: CopiedProject, application: Application, only: Collection[str] | None = None
) -> dict[str, float]:
    """Start the copy's services, or `only` some, in order, and prove each; how many seconds each took.

    Raises:
        StartFailedError: One that is required failed; with the line of its log that tells why.
    """
    files = await read_injected_files(copy) if any(s.injects_files for s in application.services.values()) else {}
    since, took = datetime.now(UTC), dict[str, float]()
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
            ended = await asyncio.gather(*(_start_one(copy, order, watch) for order in orders), return_exceptions=True)
            for order, outcome in zip(orders, ended, strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                took[order.declaration.name] = outcome
    return took


async def _start_one(copy: CopiedProject, order: ServiceStartOrder, watch: ContainerWatch) -> float:
    name, began = order.declaration.name, time.monotonic()
    try:
        await bring_up(copy, order, watch, lambda _: None, lambda _: None, ProbeJournal())
    except RoasError as error:
        if copy.environment.service(name).required:
            line = await asyncio.to_thread(_line_of, copy, name)
            reason = f"{name} did not start: {error.what.removeprefix(f'{name}: ').rstrip('.;')}"
            raise StartFailedError(reason + (f'; its log says "{line}"' if line else ""), service=name) from error
    log.info("copy: %s was ready after %.1f s", name, time.monotonic() - began)
    return round(time.monotonic() - began, 3)


def _line_of(copy: CopiedProject, service: str) -> str:
    containers = replicas(copy.inspect_containers(service))
    logs = (copy.engine.containers.logs(container.container_id, OUTPUT_LINES) for container in containers)
    return decisive_line(service, HookOutcome(exit_code=None, output="".join(logs)))
