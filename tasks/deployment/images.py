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
from adapters.host.background import in_background
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
from models.containers import ContainerState
from models.environments import Environment
from models.failures import ComposeError, EngineError, ImageFetchError
from models.records import Release
from models.settings import current_settings
from tasks.runtime.clients import compose_of, engine_of
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
    environment: Environment,
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
    engine, services = engine_of(environment), application.services
    held = _held(engine, application)
    present = {one.service for one in container_states if not one.one_off}
    kinds = shared_fetches(
        application, fetch_kinds(application, held, options, datetime.now(UTC), present, gated=bool(refused))
    )
    pulled = [services[name] for name, (kind, _) in kinds.items() if kind is FetchKind.PULL]
    references = {declaration.image for declaration in pulled}
    known = answered(references)
    answers = {**known, **_ask_registries(engine, references - known.keys())}
    by_service = {
        one.name: sorted({seen.image_id for seen in container_states if seen.service == one.name and not seen.one_off})
        for one in pulled
    }
    used = engine.images.inspect_all(image_id for ids in by_service.values() for image_id in ids)
    fetches: dict[str, ImageFetch] = {}
    builds: dict[str, str] = {}
    coming: dict[str, ImageFact] = {}
    for name, (kind, through) in kinds.items():
        declaration = services[name]
        if kind is FetchKind.PULL:
            running = [used[image_id] for image_id in by_service[name]]
            found = predict_pull(declaration, running, held[declaration.image], answers[declaration.image])
            fact = _coming(engine, declaration.image, answers[declaration.image]) if found.changes else None
            coming |= {name: fact} if fact is not None else {}
            if (found.changes or not found.here) and found.digest in refused:
                # Where the name is gone, it is given back to the image of the service's container.
                moved = _is(held[declaration.image], found.digest) or (not found.here and bool(running))
                found = _held_back(found, refused[found.digest], moved=moved)
            elif found.changes and options.update:
                found = _old_enough(environment, found, held[declaration.image], fact)
        else:
            now, why = build_fingerprint(services[through or name])
            builds |= {build_key(through or name): now} if now is not None else {}
            recorded = None if last is None else last.files.get(build_key(through or name))
            found = predict_build(name, now, recorded, why)
            if found.changes and now is not None and now in refused:
                built = held[declaration.image]
                found = _held_back(found, refused[now], moved=built is not None and built.image_id in refused)
        fetches[name] = replace(found, through=through)
    return ImageOutlook(held=held, fetches=fetches, builds=builds, coming=coming)


def pulled_references(environment: Environment, application: Application, options: FetchOptions) -> set[str]:
    """The names of the images that an operation which began now would pull where their registries have newer ones.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    engine = engine_of(environment)
    present = set(engine.containers.services(environment.project).values())
    kinds = fetch_kinds(application, _held(engine, application), options, datetime.now(UTC), present)
    return {application.services[name].image for name, kind in kinds.items() if kind is FetchKind.PULL}


def ask_registries(environment: Environment, references: Collection[str]) -> dict[str, RegistryAnswer]:
    """What the registries of these images say of them, by reference; one that does not answer is named so."""
    return _ask_registries(engine_of(environment), set(references))


def _held(engine: DockerEngine, application: Application) -> dict[str, ImageFact | None]:
    services = application.services.values()
    return engine.images.inspect_all(declaration.image for declaration in services if declaration.image)


def _coming(engine: DockerEngine, reference: str, answer: RegistryAnswer) -> ImageFact | None:
    """The image that a pull would bring: as the engine has it from an earlier pull, or as its annotations say."""
    fact = engine.images.of_digest(reference, answer.digest)
    if fact is None and answer.labels != ImageLabels():
        fact = ImageFact(reference=reference, image_id="", labels=answer.labels, created_at=answer.labels.created_at)
    return fact


def _is(fact: ImageFact | None, digest: str) -> bool:
    return fact is not None and any(one.endswith(f"@{digest}") for one in fact.digests)


def _held_back(found: ImageFetch, why: str, *, moved: bool) -> ImageFetch:
    """A fetch that is not done; where the name was `moved` to the image all the same, the service keeps its own."""
    return replace(found, changes="", settled=moved, held_back=True, note=why)


def _old_enough(
    environment: Environment, found: ImageFetch, held: ImageFact | None, fact: ImageFact | None
) -> ImageFetch:
    """Hold an image back that is too young; one whose age is not known yet is fetched first."""
    policy = environment.update
    if fact is None or fact.created_at is None:
        return replace(found, note=found.note or age_to_come(policy))
    young = too_young((held or fact).reference.partition("@")[0], fact.created_at, policy, datetime.now(UTC))
    return _held_back(found, young, moved=_is(held, found.digest)) if young else found


def build_fingerprint(declaration: ServiceDeclaration) -> tuple[str | None, str]:
    """The fingerprint of how a service's image would be built now; None and why where it cannot be read."""
    try:
        content = context_hash(declaration.build_context, declaration.dockerfile)
        return Fingerprints(current_settings().data_dir).of(f"{declaration.build_hash} {content}"), ""
    except (OSError, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error)


def injected_fingerprints(environment: Environment, application: Application) -> dict[str, dict[str, str]]:
    """Fingerprints of the configs and secrets that are copied into each service's containers, by what they are.

    They are left out where a variable that they come from is not set.
    """
    if not any(service.injects_files for service in application.services.values()):
        return {}
    try:
        files = compose_of(environment).injections()
    except ComposeError as error:
        log.info("configs and secrets from variables are not compared: %s", error.what)
        return {}
    prints = Fingerprints(current_settings().data_dir)
    return {
        name: {injected_key(name, one.target): prints.of(one.content.decode("latin-1")) for one in mine}
        for name, mine in files.items()
    }


@task(name="fetch images", timeout_seconds=3600, **EFFECT)
async def fetch_images(environment: Environment, fetches: Sequence[ImageFetch]) -> None:
    """Pull and build the images, and log each; no container is touched.

    An image that the engine has under its name already is not pulled again.

    Raises:
        ImageFetchError: An image cannot be pulled or built; in Compose's words.
    """
    compose, limit = compose_of(environment), asyncio.Semaphore(_PULLS_AT_ONCE)

    async def pull(one: ImageFetch) -> None:
        hint = _ONLY_HERE if one.here else ""
        async with limit:
            await _logged("pull", one.service, lambda: compose.pull([one.service], always=True), hint)

    own = [one for one in fetches if not one.through and not one.held_back]
    wanted = [one for one in own if one.kind is FetchKind.PULL and not one.current]
    await asyncio.gather(*map(pull, wanted))
    for one in own:
        if one.kind is FetchKind.BUILD:
            await _logged("build", one.service, lambda name=one.service: compose.build([name]))  # type: ignore[misc]


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


async def _logged(what: str, service: str, fetch: Callable[[], None], hint: str = "") -> None:
    began = time.monotonic()
    log.info("%s: image %s begins", service, what)
    await fetch_one(what, service, fetch, hint)
    log.info("%s: image %s took %.1f s", service, what, time.monotonic() - began)


async def image_names(
    environment: Environment, application: Application, fetches: Sequence[ImageFetch]
) -> dict[str, str]:
    """The ids of the images that the services' image names refer to now, by name.

    A name that an operation moved to an image that is held back refers to the image of the service's container.
    """
    known = await images_named(environment, {application.services[one.service].image for one in fetches})
    if moved := {one.service for one in fetches if one.held_back and one.settled}:
        for one in await asyncio.to_thread(engine_of(environment).containers.inspect_project, environment.project):
            if one.service in moved and not one.one_off:
                known[application.services[one.service].image] = one.image_id
    return known


@retry_read
async def images_named(environment: Environment, names: Iterable[str]) -> dict[str, str]:
    """The ids of the images that these names refer to now, by name."""
    found = await asyncio.to_thread(engine_of(environment).images.inspect_all, sorted(names))
    return {name: fact.image_id for name, fact in found.items() if fact is not None}


@task(name="leave images", **EFFECT)
async def leave_images(
    environment: Environment,
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
        engine, now, left = engine_of(environment), datetime.now(UTC), dict[str, str]()
        refused = _refused(environment)
        references = {one.service: application.services[one.service].image for one in fetches}
        fetched = engine.images.inspect_all({*names, *(references.values() if refused else ())})
        for reference, image_id in names.items():
            mine = [one for one in fetches if references[one.service] == reference]
            fact = fetched[reference]
            if fact is not None and fact.image_id == image_id:
                continue
            if any(one.held_back and one.settled for one in mine):
                engine.images.tag(image_id, reference)
                continue
            if fact is None:
                continue
            pulled = [one.service for one in mine if one.kind is FetchKind.PULL and not one.held_back]
            if why := _why_refused(fact, refused):
                engine.images.tag(image_id, reference)
                left |= dict.fromkeys((one.service for one in mine if not one.held_back), why)
            elif too_young_too and pulled and (young := too_young(reference, fact.created_at, environment.update, now)):
                engine.images.tag(image_id, reference)
                left |= dict.fromkeys(pulled, young)
        for one in fetches:
            reference = references[one.service]
            why = _why_refused(fetched.get(reference), refused) or refused.get(one.digest, "") if refused else ""
            if reference not in names and why:
                raise _no_other_image(one.service, why)
        return left

    return await asyncio.to_thread(leave)


def pull_allowed(environment: Environment, service: str, *, always: bool = False) -> None:
    """Pull the image of a service where it is absent, or `always`, unless it is held back.

    Raises:
        ImageFetchError: It is held back.
        ComposeError: It cannot be pulled.
    """
    compose, refused = compose_of(environment), _refused(environment)
    if not refused:
        compose.pull([service], always=always)
        return
    engine, reference = engine_of(environment), compose.render().services[service].image
    if why := refused.get(engine.images.in_registry(reference).digest):
        raise _held_back_image(f"{service}: {why}", service)
    before = engine.images.inspect(reference)
    compose.pull([service], always=always)
    if why := _why_refused(engine.images.inspect(reference), refused):
        if before is None:
            engine.images.untag(reference)
        else:
            engine.images.tag(before.image_id, reference)
        raise _held_back_image(f"{service}: {why}", service)


def _refused(environment: Environment) -> dict[str, str]:
    return refused_images(open_stores().releases.failed(environment.name), environment.name)


def _why_refused(fact: ImageFact | None, refused: Mapping[str, str]) -> str:
    """Why an image is held back; empty where it is not."""
    known = () if fact is None else (fact.image_id, *map(bare_digest, fact.digests))
    return next((refused[one] for one in known if one in refused), "")


def _no_other_image(service: str, why: str) -> ImageFetchError:
    return _held_back_image(f"{service} has no other image here: {why}", service)


def _held_back_image(why: str, service: str) -> ImageFetchError:
    return ImageFetchError(why, service=service, kind="pull", advice="Or bring a release back that ran.")


@task(name="keep equal images", **EFFECT)
async def keep_equal_images(
    environment: Environment, application: Application, fetches: Sequence[ImageFetch], names: Mapping[str, str]
) -> None:
    """Give a name back to the earlier image where a build gave nothing but its content, so that no service is replaced.

    Compose writes its project and version into the labels of what it builds, which makes another image of it. `names`
    are the images that the names referred to before the fetch.
    """

    def keep() -> None:
        engine = engine_of(environment)
        built = {application.services[one.service].image for one in fetches if one.kind is FetchKind.BUILD}
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


@task(name="give images their names back", **EFFECT)
async def restore_names(environment: Environment, names: Mapping[str, str]) -> list[str]:
    """Let image names refer to the images that they referred to before a fetch; returns the names that had moved.

    A name without an image did not exist before, and is removed.
    """

    def restore() -> list[str]:
        engine, moved = engine_of(environment), []
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
            return silent if over.is_set() else engine.images.in_registry(reference)

    asked = {reference: in_background(ask, reference) for reference in references}
    wait(asked.values(), timeout=_REGISTRY_SECONDS)
    over.set()
    return {name: one.result() if one.done() else silent for name, one in asked.items()}
