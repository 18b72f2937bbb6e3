"""Releases: inspect the running one, keep it once it is proven, choose one to roll back to, and roll back a start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import is_copy
from adapters.stores.stores import Stores
from core.deployment.images import INJECTED, build_key
from core.deployment.kept_files import copies_of_document, services_by_mount, with_copies
from core.deployment.release import (
    Document,
    differences,
    fill_in,
    is_there,
    kept_image,
    literals_of,
    names_to_remove,
    pin_images,
    to_go_back_to,
    variables_in,
)
from core.deployment.update import bare_digest, refused_images
from core.recovery.going_back import data_changed_since
from core.storage.snapshots import data_not_put_back
from models.compose import Application
from models.containers import RELEASE_IMAGES, replicas
from models.environments import Environment
from models.failures import BadInputError, ComposeError, EngineError, NotFoundError, ReleaseError
from models.operations import OperationType
from models.operations.record import Lift, OperationRecord
from models.records import Release
from models.settings import current_settings
from tasks.deployment.images import build_fingerprint, injected_fingerprints
from tasks.deployment.kept_files import files_to_mount, keep_files, kept_digests
from tasks.deployment.kept_values import (
    keep_values,
    kept_values,
    other_values,
    unkept_values,
    variables_now,
    with_kept_values,
)
from tasks.deployment.source import source_of_checkout
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ, WRITE, retry_read
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task

log = logging.getLogger("roas")

_SHORTEST_DIGEST = 6
_OPERATIONS_BACK = 200


@task(name="inspect the release", **READ)
async def inspect_release(
    project: Project,
    application: Application,
    template: Document,
    release_id: str,
    deployment_id: str,
    now: datetime,
    *,
    of: Release | None = None,
    builds: Mapping[str, str] | None = None,
) -> Release:
    """What runs now, as it would be kept. `of` is the release that was applied, where that was not the files.

    `builds` are the fingerprints of the builds that led to it.

    Raises:
        EngineError: The engine did not answer, or refused.
    """

    environment = project.environment

    def inspect() -> Release:
        container_states = replicas(project.inspect_containers())
        # Of a service whose replacement failed, the newest container has the image that was tried.
        container_states.sort(key=lambda container: container.created_at or now)
        facts = project.engine.images.inspect_all(container.image_id for container in container_states)
        facts_by_service = {container.service: facts[container.image_id] for container in container_states}
        images = {container.service: container.image_id for container in container_states}
        last = open_stores().releases.last(environment.name, proven=True)
        prints = Fingerprints(current_settings().data_dir)
        variables = variables_now(project)
        # What containers mount of an earlier release is as it was then, whatever is on disk.
        copied = {path for container in container_states for path in container.copies}
        base = of or last
        applied = of.digests if of is not None else {}
        named = {name: declaration.image for name, declaration in application.services.items()}
        mounted = base.files if base is not None else {}
        used = variables_in(template) | set(environment.variables) | {secret.name for secret in environment.secrets}
        return Release(
            release_id=release_id,
            environment=environment.name,
            deployment_id=deployment_id,
            created_at=now,
            compose=template if of is not None else template | source_of_checkout(environment),
            digests={
                name: fact.digest_under(applied.get(name, ""), named.get(name, ""))
                for name, fact in facts_by_service.items()
                if fact is not None and fact.digests
            },
            hashes={container.service: container.declared_hash for container in container_states},
            images=images,
            files={
                path: digest
                for files in prints.fingerprint_mounted_files(application).values()
                for path, digest in files.items()
                if not is_copy(current_settings().data_dir, path)
            }
            | {path: mounted[path] for path in copied if path in mounted}
            | _injected_files(project, application, of)
            | _builds(application, images, of or last, builds or {}, is_of_files=of is None),
            # Of an earlier release that kept its values the containers have these, whatever is set now.
            variables=of.variables
            if of is not None and kept_values(environment, of) is not None
            else {name: prints.keyed_hash(variables[name]) for name in sorted(used) if name in variables}
            | unkept_values(project, template, prints),
            proven=True,
            reason="" if of is None else f"release {of.release_id} again",
        )

    return await asyncio.to_thread(inspect)


@retry_read
async def changed_variables(project: Project, release: Release) -> tuple[str, ...]:
    """What has another value now than in a release, as `other_values` finds it.

    Raises:
        EnvironmentFileError: A file of variables cannot be read.
        ComposeError: The Compose files cannot be read.
    """

    return await asyncio.to_thread(other_values, project, release)


def _injected_files(project: Project, application: Application, of: Release | None) -> dict[str, str]:
    if of is not None:
        return {key: digest for key, digest in of.files.items() if key.startswith(INJECTED)}
    fingerprints = injected_fingerprints(project, application)
    return {key: digest for files in fingerprints.values() for key, digest in files.items()}


def _builds(
    application: Application,
    images: Mapping[str, str],
    last: Release | None,
    builds: Mapping[str, str],
    *,
    is_of_files: bool,
) -> dict[str, str]:
    """The fingerprint of each build as the running image came from it.

    A build context that changed since then says nothing of an image that is still the one of the last release.
    """
    fingerprints: dict[str, str] = {}
    for name, image_id in images.items():
        declaration, key = application.services.get(name), build_key(name)
        if key in builds:
            fingerprints[key] = builds[key]
        elif last is not None and key in last.files and last.images.get(name) == image_id:
            fingerprints[key] = last.files[key]
        elif is_of_files and declaration is not None and declaration.build:
            now, _ = build_fingerprint(declaration)
            fingerprints |= {key: now} if now is not None else {}
    return fingerprints


@task(name="keep the release", **WRITE)
async def keep_release(project: Project, application: Application, release: Release, began: datetime) -> Release:
    """Keep what ran, unless it is what ran before; its images get a name, so that pruning leaves them.

    Its mounted files and its values are sealed, too, if they did not change since the operation began. Gives back the
    release under which it is kept.
    """

    def keep() -> Release:
        stored_release = keep_it(open_stores())
        keep_files(project, application, stored_release, began)
        if current_settings().keep_files:
            keep_values(project, stored_release, began)
        return stored_release

    def keep_it(stores: Stores) -> Release:
        last = stores.releases.last(project.environment.name, proven=True)
        if last is not None and not differences(last, release):
            if (last.files, last.variables) != (release.files, release.variables):
                # A fingerprint that an earlier version of this program did not keep.
                stores.releases.keep(replace(last, files=release.files, variables=release.variables))
            return last
        engine = project.engine
        owner = _owner()
        names = {kept_image(image_id, owner): image_id for image_id in sorted(set(release.images.values()))}
        for name, fact in engine.images.inspect_all(names).items():
            # Another name of an image costs the engine more than all else here, and most have theirs already.
            if fact is None or fact.image_id != names[name]:
                engine.images.tag(names[name], name)
        stores.releases.keep(release)
        release_images(project)
        return release

    return await asyncio.to_thread(keep)


@retry_read
async def new_digests(
    project: Project, application: Application, services: Sequence[str], before: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The digests, or ids, of the images that these services would get, where they had others `before`, by service.

    The second are the fingerprints of how those of them were built, as a release keeps them.

    Raises:
        EngineError: The engine did not answer, or refused.
    """

    def read() -> tuple[dict[str, str], dict[str, str]]:
        engine, digests, builds = project.engine, dict[str, str](), dict[str, str]()
        for name in services:
            declaration = application.services[name]
            fact = engine.images.inspect(declaration.image)
            if fact is None or fact.image_id == before.get(name):
                continue
            digest = fact.digest_under(declaration.image) if not declaration.build else ""
            digests[name] = digest or fact.image_id
            print_now = build_fingerprint(declaration)[0] if declaration.build else None
            if print_now is not None:
                builds[build_key(name)] = print_now
        return digests, builds

    return await asyncio.to_thread(read)


@task(name="hold the failed images back", **WRITE)
async def hold_back(release: Release) -> None:
    """Keep what did not become proven: its digests are the images that no update takes until they are lifted."""
    await asyncio.to_thread(open_stores().releases.keep, release)


@retry_read
async def has_failed_before(deployment_id: str, environment: str) -> bool:
    """Whether a failed release of this deployment is on record already."""
    failed = await asyncio.to_thread(open_stores().releases.list_failed, environment)
    return any(release.deployment_id == deployment_id for release in failed)


@retry_read
async def held_back_since(environment: str, release: Release, began: datetime) -> str:
    """Why an image of a release is held back, where another operation failed with it since; empty where none did."""

    def find() -> str:
        failed = [
            failed_release
            for failed_release in open_stores().releases.list_failed(environment)
            if failed_release.created_at >= began
        ]
        refused = refused_images(failed, environment)
        identifiers = (*map(bare_digest, release.digests.values()), *release.images.values())
        return next((refused[identifier] for identifier in identifiers if identifier in refused), "")

    return await asyncio.to_thread(find)


def lift_images(environment: str, digest: str, by: str, at: datetime) -> list[Release]:
    """Let updates take the images again whose digest or id begins like this; returns the failed releases they are of.

    Raises:
        NotFoundError: No such image is held back.
        BadInputError: The beginning is too short to be sure.
    """
    prefix = digest.removeprefix("sha256:").lower()
    if len(prefix) < _SHORTEST_DIGEST:
        raise BadInputError(
            f"{digest!r} is too short;", advice=f"give at least {_SHORTEST_DIGEST} digits of the digest."
        )
    stores, lifted = open_stores(), []
    for release in stores.releases.list_failed(environment):
        digests = {
            name: image_digest
            for name, image_digest in release.digests.items()
            if not bare_digest(image_digest).removeprefix("sha256:").startswith(prefix)
        }
        if digests != release.digests:
            note = f"lifted by {by} at {at:%Y-%m-%d %H:%M} UTC"
            stores.releases.keep(replace(release, digests=digests, reason=f"{release.reason}; {note}"))
            stores.operations.note(release.deployment_id, OperationRecord(lifted=Lift(by=by, at=at, image=digest)))
            lifted.append(release)
    if not lifted:
        raise NotFoundError(
            f"No image of {environment} that begins with {prefix} is held back;",
            advice=f"`roas releases {environment}` lists the releases that failed.",
        )
    return lifted


@retry_read
async def choose_release(project: Project, release_id: str | None, *, with_data: bool = False) -> Release:
    """The release of this id or unique beginning, else the newest proven one that is not there now.

    With its data it is the one that the last update began with, also if that is there now: the update failed, or its
    code alone was rolled back, so the data of the newer version is there.

    Raises:
        NotFoundError: There is none of this id.
        BadInputError: Several ids begin like this, it is another environment's, or none differs from what runs.
    """

    environment = project.environment

    def choose() -> Release:
        stores = open_stores()
        if release_id is None:
            container_states = project.inspect_containers()
            releases = stores.releases.latest(environment.name)
            if with_data:
                done = stores.operations.history(environment.name, OperationType.START, limit=_OPERATIONS_BACK)
                saved = data_not_put_back(stores.snapshots.list_for(environment.name), done)
                before = next(
                    (release for release in releases if saved and release.release_id == saved.release_id), None
                )
                if before is not None and before.proven and is_there(before, container_states):
                    return before
            release = to_go_back_to(releases, container_states, kept_digests(environment))
            if release is None:
                raise BadInputError(
                    f"No earlier proven release of {environment.name} differs from what runs now;",
                    advice=f"`roas releases {environment.name}` lists them.",
                )
            return release
        named = stores.releases.get(release_id)
        if named.environment != environment.name:
            raise BadInputError(
                f"Release {named.release_id} is of {named.environment}, not of {environment.name};",
                advice=f"`roas releases {environment.name}` lists its own.",
            )
        return named

    return await asyncio.to_thread(choose)


@retry_read
async def may_have_changed_data(environment: Environment, release: Release) -> bool:
    """Whether an update since a release ran hooks, or saved data because its containers use it."""
    canaries = [hook.name for hook in environment.hooks.after if hook.canary is not None]
    steps = await asyncio.to_thread(open_stores().progress.data_steps, environment.name)
    return bool(data_changed_since(release, steps, canaries))


@task(name="fetch the release's images", timeout_seconds=900, **EFFECT)
async def fetch_release_images(project: Project, release: Release) -> Release:
    """Pull the images of a release that the engine has no more, by their digests; the release with their ids.

    Compose pulls them, with the credentials that an update has.

    Raises:
        ReleaseError: One is gone here, and no registry has it.
        EngineError: The engine did not answer, or refused.
    """

    def fetch() -> Release:
        engine, image_ids = project.engine, dict(release.images)
        facts = engine.images.inspect_all(set(release.images.values()))
        for name, image_id in release.images.items():
            if facts[image_id] is not None:
                continue
            digest = release.digests.get(name, "")
            problem = f"Release {release.release_id} cannot be applied: image {image_id[7:19]} of {name} is gone here,"
            other = f"name another release (roas releases {project.environment.name})."
            if not digest:
                raise ReleaseError(
                    f"{problem} and it was built or loaded here, so no registry has it;",
                    advice=f"load that image again, or {other}",
                )
            log.info("%s: image %s is gone here and is pulled again", name, digest)
            try:
                project.compose({"services": {name: {"image": digest}}}).pull([name], always=True)
            except ComposeError as error:
                raise ReleaseError(
                    f"{problem} and {digest} could not be pulled: {error.what}",
                    advice=f"{error.advice} Or load that image again, or {other}".strip(),
                ) from error
            pulled = engine.images.inspect(digest)
            image_ids[name] = pulled.image_id if pulled is not None else image_id
        return replace(release, images=image_ids)

    return await asyncio.to_thread(fetch)


@task(name="prepare the release", task_run_name="prepare release {release.release_id}", **READ)
async def release_document(project: Project, release: Release) -> Document:
    """The Compose configuration that brings a release back, with the very images it ran with.

    It has the values that the release kept. Files that differ now from those that it kept are mounted from its copies;
    those on disk stay as they are.

    Raises:
        ReleaseError: An image of it is gone, or a value it needs is.
    """

    environment = project.environment

    def prepare() -> Document:
        engine, compose = project.engine, project.compose()
        current_ids: dict[str, str] = {}
        for name, image_id in release.images.items():
            if engine.images.inspect(image_id) is None:
                raise ReleaseError(
                    f"Release {release.release_id} cannot be applied: image {image_id[7:19]} of {name} is gone;",
                    advice=f"load that image again, or name another release (roas releases {environment.name}).",
                )
            reference = ((release.compose.get("services") or {}).get(name) or {}).get("image")
            fact = engine.images.inspect(reference or f"{environment.project}-{name}") if _is_plain(reference) else None
            if fact is not None:
                current_ids[name] = fact.image_id
        owner = _owner()
        for image_id in {image_id for name, image_id in release.images.items() if current_ids.get(name) != image_id}:
            # An earlier version of this program gave it another name. A full disk takes none, so one is not repeated.
            if engine.images.inspect(kept_image(image_id, owner)) is None:
                engine.images.tag(image_id, kept_image(image_id, owner))
        values = kept_values(environment, release)
        literals = literals_of(release.compose, compose.template()) if values is None else values.literals
        document = pin_images(fill_in(release.compose, literals), release.images, current_ids, owner)
        if values is not None:
            document = with_kept_values(project, release, document, values)
        files = files_to_mount(project, release)
        if files.lacking:
            log.warning("there is no copy to mount of %s, which is used as it is now", ", ".join(files.lacking))
        if not files.copies:
            return document
        whole = with_copies(document, project.compose(document).render(), files.copies, release.hashes)
        if unused := files.copies.keys() - {path for paths in copies_of_document(whole).values() for path in paths}:
            log.warning("release %s does not say where it mounts %s", release.release_id, ", ".join(sorted(unused)))
        return whole

    return await asyncio.to_thread(prepare)


@retry_read
async def copies_to_mount(project: Project, release: Release) -> dict[str, str]:
    """The copies that a release kept of files that differ now, by the path of the file of which each is one."""
    return dict((await asyncio.to_thread(files_to_mount, project, release)).copies)


@retry_read
async def services_with_other_files(project: Project, application: Application, release: Release) -> frozenset[str]:
    """The services that a release gives other mounted files than those on disk."""
    services = services_by_mount(application)
    return frozenset(name for path in await copies_to_mount(project, release) for name in services.get(path, ()))


@task(name="read the release's application", **READ)
async def read_released(project: Project, document: Document) -> Application:
    """What a release's configuration declares.

    Raises:
        ComposeError: Compose cannot read it with the variables as they are now.
    """
    return await asyncio.to_thread(project.compose(document).render)


def _owner() -> str:
    """What stands for this data folder in the names of the images it keeps."""
    return Fingerprints(current_settings().data_dir).owner


def _is_plain(reference: str | None) -> bool:
    """False for a reference with a variable in it: what it means is known only once it is rendered."""
    return reference is None or "$" not in reference


def release_images(project: Project) -> None:
    """Take the names from images on an environment's engine that no kept release needs any more.

    Raises:
        EngineUnreachableError: The engine did not answer.
        StoreError: The releases cannot be read.
    """
    engine, owner = project.engine, _owner()
    for name in names_to_remove(engine.images.tags(RELEASE_IMAGES), open_stores().releases.images(), owner):
        try:
            engine.images.untag(name)
        except EngineError as error:
            # A container uses it; the next release asks again.
            log.debug("image name %s stays: %s", name, error)
