"""The images of a start: what fetching them would change, and fetching them before a container is touched."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Event, Semaphore
from typing import TypeVar

from adapters.docker.build_context import context_hash
from adapters.docker.engine import DockerEngine
from adapters.host.background import call_in_background
from adapters.host.fingerprints import Fingerprints
from core.deployment.images import (
    build_key,
    fetch_kinds,
    injected_key,
    predict_build,
    predict_pull,
    shared_fetches,
)
from core.deployment.update import bare_digest, refused_images
from core.deployment.update_policy import age_to_come, too_young
from models.compose import (
    Application,
    FetchKind,
    FetchOptions,
    ImageFact,
    ImageFetch,
    ImageLabels,
    RegistryAnswer,
    ServiceDeclaration,
)
from models.containers import ContainerState, replicas
from models.environments import Environment
from models.failures import ComposeError, EngineError, ImageFetchError
from models.records import Release
from models.settings import current_settings
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, retry_read
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task

log = logging.getLogger("roas")
T = TypeVar("T")

_REGISTRY_SECONDS = 5.0
_ASKED_AT_ONCE = 8
_PULLS_AT_ONCE = 4
_ONLY_HERE = (
    "If no registry has it, because it was built or loaded here: `pull_policy: never` in the Compose file keeps an "
    "update from pulling it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutlook:
    """The engine's images by reference, and what fetching would change, by service.

    `builds` are the fingerprints of the builds among them, as a release keeps them. `coming` are the images that pulls
    would bring, by service, as far as they are known.
    """

    held: Mapping[str, ImageFact | None]
    fetches: Mapping[str, ImageFetch] = field(default_factory=dict)
    coming: Mapping[str, ImageFact] = field(default_factory=dict)
    builds: Mapping[str, str] = field(default_factory=dict)


def read_images(
    project: Project,
    application: Application,
    options: FetchOptions,
    container_states: Sequence[ContainerState],
    *,
    last: Release | None,
    refused: Mapping[str, str],
    answered: Callable[[Collection[str]], Mapping[str, RegistryAnswer]] = lambda _: {},
) -> ImageOutlook:
    """Read the engine's images, and ask registries and build contexts about those that the operation fetches.

    `last` is the last proven release, `refused` why images are not taken, by digest or fingerprint of the build. A
    registry that does not answer is named in the result. `answered` gives what registries answered already of these
    references.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    engine, services = project.engine, application.services
    facts = _images_held(engine, application)
    present = {container.service for container in replicas(container_states)}
    kinds = shared_fetches(
        application, fetch_kinds(application, facts, options, datetime.now(UTC), present, gated=bool(refused))
    )
    pulled = [services[name] for name, (kind, _) in kinds.items() if kind is FetchKind.PULL]
    references = {declaration.image for declaration in pulled}
    earlier_answers = answered(references)
    answers = {**earlier_answers, **_ask_registries(engine, references - earlier_answers.keys())}
    by_service = {
        declaration.name: sorted({container.image_id for container in replicas(container_states, declaration.name)})
        for declaration in pulled
    }
    used = engine.images.inspect_all(image_id for ids in by_service.values() for image_id in ids)
    fetches: dict[str, ImageFetch] = {}
    builds: dict[str, str] = {}
    coming: dict[str, ImageFact] = {}
    for name, (kind, through) in kinds.items():
        declaration = services[name]
        if kind is FetchKind.PULL:
            running = [used[image_id] for image_id in by_service[name]]
            fetch = predict_pull(declaration, running, facts[declaration.image], answers[declaration.image])
            fact = _coming_image(engine, declaration.image, answers[declaration.image]) if fetch.changes else None
            coming |= {name: fact} if fact is not None else {}
            if (fetch.changes or not fetch.here) and fetch.digest in refused:
                # Where the name is gone, it is given back to the image of the service's container.
                moved = _is(facts[declaration.image], fetch.digest) or (not fetch.here and bool(running))
                fetch = _held_back(fetch, refused[fetch.digest], moved=moved)
            elif fetch.changes and options.update:
                fetch = _old_enough(project.environment, fetch, facts[declaration.image], fact)
        else:
            now, why = build_fingerprint(services[through or name])
            builds |= {build_key(through or name): now} if now is not None else {}
            recorded = None if last is None else last.files.get(build_key(through or name))
            fetch = predict_build(name, now, recorded, why)
            if fetch.changes and now is not None and now in refused:
                built = facts[declaration.image]
                fetch = _held_back(fetch, refused[now], moved=built is not None and built.image_id in refused)
        fetches[name] = replace(fetch, through=through)
    return ImageOutlook(held=facts, fetches=fetches, builds=builds, coming=coming)


def pulled_references(project: Project, application: Application, options: FetchOptions) -> set[str]:
    """The names of the images that an operation which began now would pull where their registries have newer ones.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    engine = project.engine
    present = set(engine.containers.services(project.environment.project).values())
    kinds = fetch_kinds(application, _images_held(engine, application), options, datetime.now(UTC), present)
    return {application.services[name].image for name, kind in kinds.items() if kind is FetchKind.PULL}


def ask_registries(project: Project, references: Collection[str]) -> dict[str, RegistryAnswer]:
    """What the registries of these images say of them, by reference; one that does not answer is named so."""
    return _ask_registries(project.engine, set(references))


def _images_held(engine: DockerEngine, application: Application) -> dict[str, ImageFact | None]:
    services = application.services.values()
    return engine.images.inspect_all(declaration.image for declaration in services if declaration.image)


def _coming_image(engine: DockerEngine, reference: str, answer: RegistryAnswer) -> ImageFact | None:
    """The image that a pull would bring: as the engine has it from an earlier pull, or as its annotations say."""
    fact = engine.images.find_by_digest(reference, answer.digest)
    if fact is None and answer.labels != ImageLabels():
        fact = ImageFact(reference=reference, image_id="", labels=answer.labels, created_at=answer.labels.created_at)
    return fact


def _is(fact: ImageFact | None, digest: str) -> bool:
    return fact is not None and any(reference.endswith(f"@{digest}") for reference in fact.digests)


def _held_back(fetch: ImageFetch, why: str, *, moved: bool) -> ImageFetch:
    """A fetch that is not done; where the name was `moved` to the image all the same, the service keeps its own."""
    return replace(fetch, changes="", settled=moved, held_back=True, note=why)


def _old_enough(
    environment: Environment, fetch: ImageFetch, current: ImageFact | None, fact: ImageFact | None
) -> ImageFetch:
    """Hold an image back that is too young; one whose age is not known yet is fetched first."""
    policy = environment.update
    if fact is None or fact.created_at is None:
        return replace(fetch, note=fetch.note or age_to_come(policy))
    reason = too_young((current or fact).reference.partition("@")[0], fact.created_at, policy, datetime.now(UTC))
    return _held_back(fetch, reason, moved=_is(current, fetch.digest)) if reason else fetch


def build_fingerprint(declaration: ServiceDeclaration) -> tuple[str | None, str]:
    """The fingerprint of how a service's image would be built now; None and why where it cannot be read."""
    try:
        content = context_hash(declaration.build_context, declaration.dockerfile)
        return Fingerprints(current_settings().data_dir).keyed_hash(f"{declaration.build_hash} {content}"), ""
    except (OSError, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error)


def injected_fingerprints(project: Project, application: Application) -> dict[str, dict[str, str]]:
    """Fingerprints of the configs and secrets that are copied into each service's containers, by what they are.

    They are left out where a variable that they come from is not set.
    """
    if not any(service.injects_files for service in application.services.values()):
        return {}
    try:
        files = project.compose().injections()
    except ComposeError as error:
        log.info("configs and secrets from variables are not compared: %s", error.what)
        return {}
    prints = Fingerprints(current_settings().data_dir)
    return {
        name: {
            injected_key(name, file.target): prints.keyed_hash(file.content.decode("latin-1")) for file in service_files
        }
        for name, service_files in files.items()
    }


@task(name="fetch images", timeout_seconds=3600, **EFFECT)
async def fetch_images(project: Project, fetches: Sequence[ImageFetch]) -> None:
    """Pull and build the images, and log each; no container is touched.

    An image that the engine has under its name already is not pulled again.

    Raises:
        ImageFetchError: An image cannot be pulled or built; in Compose's words.
    """
    compose, limit = project.compose(), asyncio.Semaphore(_PULLS_AT_ONCE)

    async def pull(fetch: ImageFetch) -> None:
        hint = _ONLY_HERE if fetch.here else ""
        async with limit:
            await _log_lines("pull", fetch.service, lambda: compose.pull([fetch.service], always=True), hint)

    direct_fetches = [fetch for fetch in fetches if not fetch.through and not fetch.held_back]
    pulls = [fetch for fetch in direct_fetches if fetch.kind is FetchKind.PULL and not fetch.current]
    await asyncio.gather(*map(pull, pulls))
    for fetch in direct_fetches:
        if fetch.kind is FetchKind.BUILD:
            await _log_lines("build", fetch.service, lambda name=fetch.service: compose.build([name]))  # type: ignore[misc]


async def fetch_one(kind: str, service: str, fetch: Callable[[], None], hint: str = "") -> None:
    """Do one "pull" or "build" for a service; the hint is added to the advice where it fails.

    Raises:
        ImageFetchError: It failed.
    """
    try:
        await asyncio.to_thread(fetch)
    except ComposeError as error:
        advice = f"{error.advice} {hint}".strip()
        done = "built" if kind == "build" else "pulled"
        raise ImageFetchError(
            f"The image of {service} could not be {done}: {error.what}",
            service=service,
            kind=kind,
            advice=advice,
            output=error.output,
        ) from error


async def _log_lines(what: str, service: str, fetch: Callable[[], None], hint: str = "") -> None:
    began = time.monotonic()
    log.info("%s: image %s begins", service, what)
    await fetch_one(what, service, fetch, hint)
    log.info("%s: image %s took %.1f s", service, what, time.monotonic() - began)


async def image_names(project: Project, application: Application, fetches: Sequence[ImageFetch]) -> dict[str, str]:
    """The ids of the images that the services' image names refer to now, by name.

    A name that an operation moved to an image that is held back refers to the image of the service's container.
    """
    image_ids = await images_named(project, {application.services[fetch.service].image for fetch in fetches})
    if moved := {fetch.service for fetch in fetches if fetch.held_back and fetch.settled}:
        for container in await asyncio.to_thread(project.inspect_containers):
            if container.service in moved and not container.one_off:
                image_ids[application.services[container.service].image] = container.image_id
    return image_ids


@retry_read
async def images_named(project: Project, names: Iterable[str]) -> dict[str, str]:
    """The ids of the images that these names refer to now, by name."""
    facts = await asyncio.to_thread(project.engine.images.inspect_all, sorted(names))
    return {name: fact.image_id for name, fact in facts.items() if fact is not None}


@task(name="leave images", **EFFECT)
async def leave_images(
    project: Project,
    application: Application,
    fetches: Sequence[ImageFetch],
    names: Mapping[str, str],
    *,
    too_young_too: bool,
) -> dict[str, str]:
    """Give the names of images that are held back, or too young, back to the earlier ones, which run on.

    Each fetch is followed by this: what a registry has is known for certain only afterwards. `names` are the images
    that the names referred to before the fetch. Returns why an image is not taken, by service.

    Raises:
        EngineError: A name cannot be given back; nothing was touched.
        ImageFetchError: A service has no other image than one that is held back.
    """

    def leave() -> dict[str, str]:
        engine, now, reasons = project.engine, datetime.now(UTC), dict[str, str]()
        refused = _refusals(project.environment)
        references = {fetch.service: application.services[fetch.service].image for fetch in fetches}
        fetched = engine.images.inspect_all({*names, *(references.values() if refused else ())})
        for reference, image_id in names.items():
            fetches_of_reference = [fetch for fetch in fetches if references[fetch.service] == reference]
            fact = fetched[reference]
            if fact is not None and fact.image_id == image_id:
                continue
            if any(fetch.held_back and fetch.settled for fetch in fetches_of_reference):
                engine.images.tag(image_id, reference)
                continue
            if fact is None:
                continue
            pulled = [
                fetch.service for fetch in fetches_of_reference if fetch.kind is FetchKind.PULL and not fetch.held_back
            ]
            if why := _why_refused(fact, refused):
                engine.images.tag(image_id, reference)
                reasons |= dict.fromkeys((fetch.service for fetch in fetches_of_reference if not fetch.held_back), why)
            elif (
                too_young_too
                and pulled
                and (reason := too_young(reference, fact.created_at, project.environment.update, now))
            ):
                engine.images.tag(image_id, reference)
                reasons |= dict.fromkeys(pulled, reason)
        for fetch in fetches:
            reference = references[fetch.service]
            why = _why_refused(fetched.get(reference), refused) or refused.get(fetch.digest, "") if refused else ""
            if reference not in names and why:
                raise _no_other_image(fetch.service, why)
        return reasons

    return await asyncio.to_thread(leave)


def pull_allowed(project: Project, service: str, *, always: bool = False) -> None:
    """Pull the image of a service where it is absent, or `always`, unless it is held back.

    Raises:
        ImageFetchError: It is held back.
        ComposeError: It cannot be pulled.
    """
    compose, refused = project.compose(), _refusals(project.environment)
    if not refused:
        compose.pull([service], always=always)
        return
    engine, reference = project.engine, compose.render().services[service].image
    if why := refused.get(engine.images.ask_registry(reference).digest):
        raise _held_back_image(f"{service}: {why}", service)
    before = engine.images.inspect(reference)
    compose.pull([service], always=always)
    if why := _why_refused(engine.images.inspect(reference), refused):
        if before is None:
            engine.images.untag(reference)
        else:
            engine.images.tag(before.image_id, reference)
        raise _held_back_image(f"{service}: {why}", service)


def _refusals(environment: Environment) -> dict[str, str]:
    return refused_images(open_stores().releases.list_failed(environment.name), environment.name)


def _why_refused(fact: ImageFact | None, refused: Mapping[str, str]) -> str:
    """Why an image is held back; empty where it is not."""
    identifiers = () if fact is None else (fact.image_id, *map(bare_digest, fact.digests))
    return next((refused[identifier] for identifier in identifiers if identifier in refused), "")


def _no_other_image(service: str, why: str) -> ImageFetchError:
    return _held_back_image(f"{service} has no other image here: {why}", service)


def _held_back_image(why: str, service: str) -> ImageFetchError:
    return ImageFetchError(why, service=service, kind="pull", advice="Or bring a release back that ran.")


@task(name="keep equal images", **EFFECT)
async def keep_equal_images(
    project: Project, application: Application, fetches: Sequence[ImageFetch], names: Mapping[str, str]
) -> None:
    """Give a name back to the earlier image where a build gave nothing but its content, so that no service is replaced.

    Compose writes its project and version into the labels of what it builds, which makes another image of it. `names`
    are the images that the names referred to before the fetch.
    """

    def keep() -> None:
        engine = project.engine
        built = {application.services[fetch.service].image for fetch in fetches if fetch.kind is FetchKind.BUILD}
        for name in sorted(built & names.keys()):
            now, before = engine.images.inspect(name), engine.images.inspect(names[name])
            if now is None or before is None or now.image_id == before.image_id or now.content != before.content:
                continue
            try:
                engine.images.tag(before.image_id, name)
                log.info("the build of %s gave the image that was there", name)
            except EngineError as error:
                log.warning("the build of %s gave the image that was there, under another id: %s", name, error)

    await asyncio.to_thread(keep)


@task(name="restore image names", **EFFECT)
async def restore_names(project: Project, names: Mapping[str, str]) -> list[str]:
    """Let image names refer to the images that they referred to before a fetch; returns the names that had moved.

    A name without an image did not exist before, and is removed.
    """

    def restore() -> list[str]:
        engine, moved = project.engine, []
        for name, image_id in names.items():
            fact = engine.images.inspect(name)
            if (fact.image_id if fact is not None else "") == image_id:
                continue
            try:
                if image_id:
                    engine.images.tag(image_id, name)
                else:
                    engine.images.untag(name)
                moved.append(name)
            except EngineError as error:
                log.warning("image name %s stays as it is: %s", name, error)
        return moved

    return await asyncio.to_thread(restore)


def _ask_registries(engine: DockerEngine, references: set[str]) -> dict[str, RegistryAnswer]:
    places, over = Semaphore(_ASKED_AT_ONCE), Event()
    silent = RegistryAnswer(problem=f"it did not answer within {_REGISTRY_SECONDS:g} s")

    def ask(reference: str) -> RegistryAnswer:
        with places:
            return silent if over.is_set() else engine.images.ask_registry(reference)

    futures = {reference: call_in_background(ask, reference) for reference in references}
    wait(futures.values(), timeout=_REGISTRY_SECONDS)
    over.set()
    return {name: future.result() if future.done() else silent for name, future in futures.items()}
