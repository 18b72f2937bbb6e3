"""Build releases, compare them, and plan the rollback of a start.

A release is a template: the merged Compose configuration with unresolved variables and without their values. Literals
that look like secrets are replaced by a placeholder. Values lie sealed beside it; without them those of the current
files are used when it is applied again.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.deployment.kept_files import is_file_of_host
from models.compose import Application, Plan, PlannedAction
from models.containers import RELEASE_IMAGES, ContainerState, replicas
from models.failures import ReleaseError
from models.records import Release
from models.snapshots import DataSnapshot

HELD_OUT = "[held out]"
"""Stands in a release for a value that looked like a secret."""

_REFERENCE = re.compile(r"\$\w+|\$\{\w+(:?\?[^}]*)?\}")

_NO_CONTEXT = "/dev/null"
"""Nothing can be built from it."""

_VARIABLE = re.compile(r"\$\{?(\w+)")

VALUES = "x-roas-values"
"""In a document that is about to be applied: the values of its variables. It stays in memory."""

Document = dict[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Containers and networks that a failed start created, to be stopped or removed.

    `replaced` names the services whose earlier containers were removed; `paused` those that a person paused since,
    which are left as they are.
    """

    stop: tuple[ContainerState, ...] = ()
    remove: tuple[ContainerState, ...] = ()
    networks: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousContainer:
    """A container as it was before a start."""

    service: str
    ran: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreDeployState:
    """What an environment had before a start: its containers by id, and the names of its networks.

    `stopped`: a person had stopped it, so it stays down where the start fails.
    """

    containers: dict[str, PreviousContainer]
    networks: tuple[str, ...]
    stopped: bool = False


def replace_secrets(template: Document, redacted: Document) -> Document:
    """The template without the values that redaction changed; a plain reference to a variable stays."""
    document = copy.deepcopy(template)
    for place, text in list(_leaves(document)):
        if value_at(redacted, place) != text and not _REFERENCE.fullmatch(text):
            _put(document, place, HELD_OUT)
    return document


def variables_in(template: Document) -> frozenset[str]:
    """The names of the variables a template refers to."""
    return frozenset(name for _, text in _leaves(template) for name in _VARIABLE.findall(text.replace("$$", "")))


def held_out(template: Document) -> dict[str, Place]:
    """The places of a template whose values it does not hold, by a name such as services.app.environment.PASSWORD."""
    return {".".join(map(str, place)): place for place, text in _leaves(template) if text == HELD_OUT}


def variable_files(template: Document) -> tuple[str, ...]:
    """The files of variables that services of a template name; it holds none of their values."""
    services = (template.get("services") or {}).values()
    return tuple(sorted({str(entry["path"]) for service in services for entry in _env_files(service)}))


def _env_files(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = service.get("env_file") or ()
    entries = [named] if isinstance(named, str | dict) else named
    return [entry if isinstance(entry, dict) else {"path": entry} for entry in entries]


def injected_variables(template: Document) -> frozenset[str]:
    """The names of the variables whose values Compose copies into containers as files."""
    sections = [*(template.get("configs") or {}).values(), *(template.get("secrets") or {}).values()]
    return frozenset(str(section["environment"]) for section in sections if section and section.get("environment"))


def literals_of(template: Document, now: Document) -> dict[str, str]:
    """What a configuration has in the places whose values a template does not hold, by their names."""
    values = {name: value_at(now, place) for name, place in held_out(template).items()}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def with_values(document: Document, variables: Mapping[str, str], files: Mapping[str, str]) -> Document:
    """The document with the values of its variables, and other files in place of its files of variables."""
    whole = copy.deepcopy(document)
    for service in (whole.get("services") or {}).values():
        if entries := _env_files(service):
            service["env_file"] = [entry | {"path": files.get(str(entry["path"]), entry["path"])} for entry in entries]
    return whole | {VALUES: dict(variables)}


def services_of_values(template: Document, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which of these variables, files of variables and held-out literals the services of a template use."""
    names_by_service = {}
    for service, body in (template.get("services") or {}).items():
        service_template = {"services": {service: body}}
        used = {*variables_in(service_template), *variable_files(service_template), *held_out(service_template)}
        if used_names := tuple(name for name in names if name in used):
            names_by_service[service] = used_names
    return names_by_service


def values_in_words(names: Sequence[str]) -> str:
    """Which values are those that a release kept, as a sentence; empty where none is."""
    if not names:
        return ""
    return f"values that the release kept are used, of {', '.join(names)}; the next start uses the ones set then"


def without_images(template: Document) -> Document:
    """The template without what its services run: the rest is how they run."""
    services = template.get("services") or {}
    return {**template, "services": {name: {**service, "image": ""} for name, service in services.items()}}


def fill_in(template: Document, literals: Mapping[str, str]) -> Document:
    """Fill the placeholders of a template with these values, by the names that `held_out` gives.

    Raises:
        ReleaseError: One has no value.
    """
    whole = copy.deepcopy(template)
    for name, place in held_out(template).items():
        if name not in literals:
            raise ReleaseError(
                f"The release needs {name}, which the Compose files no longer have;",
                advice="write it there again, or name an older release.",
            )
        _put(whole, place, literals[name])
    return whole


def pin_images(template: Document, images: Mapping[str, str], engine_images: Mapping[str, str], owner: str) -> Document:
    """Return the template with the release's own images where their names now refer to others.

    `images` are the image ids of the release by service, `engine_images` those of the engine under the services' image
    names, and `owner` is what `kept_image` takes.
    Nothing is built or pulled: without these images the release cannot be applied, and no build context is read.
    """
    whole = copy.deepcopy(template)
    for name, service in (whole.get("services") or {}).items():
        service.pop("build", None)
        service["pull_policy"] = "never"
        image_id = images.get(name)
        if image_id is not None and engine_images.get(name) != image_id:
            service["image"] = kept_image(image_id, owner)
        elif "image" not in service:
            # Compose names its image after the service. To write that name would give it another hash, and so replace
            # a container that is the release's own; a build section counts in no hash.
            service["build"] = {"context": _NO_CONTEXT}
    return whole


def kept_image(image_id: str, owner: str) -> str:
    """The name under which an image of a release is kept; `owner` are 8 hex digits that stand for the data folder.

    Data folders that share an engine so never take each other's names away.
    """
    return f"{RELEASE_IMAGES}:{owner}-{_kept_id(image_id)}"


def names_to_remove(names: Iterable[str], image_ids: Iterable[str], owner: str) -> tuple[str, ...]:
    """Return the names of kept images that this data folder does not need; those of other folders stay.

    `image_ids` are those of its releases. A name without an owner, which earlier versions gave, goes once the image has
    a name of this folder's.
    """
    names, ids = tuple(names), tuple(image_ids)
    needed = {kept_image(image_id, owner) for image_id in ids}
    earlier = {f"{RELEASE_IMAGES}:{_kept_id(image_id)}" for image_id in ids if kept_image(image_id, owner) in names}
    prefix = f"{RELEASE_IMAGES}:{owner}-"
    return tuple(name for name in names if name in earlier or (name.startswith(prefix) and name not in needed))


def _kept_id(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:16]


def differences(before: Release, after: Release) -> tuple[str, ...]:
    """What changed from one release to the other, a sentence each."""
    changes: list[str] = []
    if after.source is not None and before.source != after.source:
        changes.append(f"revision {f'{before.source.brief} to ' if before.source else ''}{after.source}")
    for name in sorted({*before.hashes, *after.hashes}):
        if name not in after.hashes:
            changes.append(f"{name} is not part of it any more")
            continue
        if name not in before.hashes:
            changes.append(f"{name} is new")
            continue
        old, new = before.images.get(name, ""), after.images.get(name, "")
        if old != new:
            changes.append(f"{name}: another image ({_brief(old)} to {_brief(new)})")
        if before.hashes[name] != after.hashes[name]:
            fields = ", ".join(_changed_fields(before.compose, after.compose, name))
            changes.append(f"{name}: configuration changed{f' ({fields})' if fields else ''}")
    files = _describe_changes(before.files, after.files, is_file_of_host)
    changes += [f"{'mounted file ' if is_file_of_host(path) else ''}{path} changed" for path in files]
    names = _describe_changes(before.variables, after.variables, str.isidentifier)
    changes += [f"{_value_in_words(name)} changed" for name in names]
    return tuple(changes)


def changed_files(release: Release | None, now: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the mounted files of each service whose content differs from the release.

    `now` are the content hashes by path, by service. An unknown file does not count: its mount is new, so the service
    is replaced anyway.
    """
    if release is None:
        return {}
    digests = release.files
    changed = {
        service: tuple(path for path, digest in sorted(files.items()) if path in digests and digests[path] != digest)
        for service, files in now.items()
    }
    return {service: paths for service, paths in changed.items() if paths}


def to_go_back_to(
    releases: Sequence[Release], container_states: Sequence[ContainerState], copies: Collection[str] = ()
) -> Release | None:
    """Return the newest proven release that differs from the running one; `releases` are newest first.

    `copies` are the fingerprints of the files of which there are copies: a release that differs in nothing else can be
    gone back to where it has a copy of what differs.
    """
    proven = [release for release in releases if release.proven]
    now = next((release for release in proven if is_there(release, container_states)), None)

    def differs(release: Release) -> bool:
        if now is None or not is_there(release, container_states):
            return True
        return any(
            digest in copies and now.files.get(path, digest) != digest
            for path, digest in release.files.items()
            if is_file_of_host(path)
        )

    return next((release for release in proven if release is not now and differs(release)), None)


def declares_the_same(release: Release, application: Application) -> bool:
    """Whether Compose would create the same containers as the release; False if unknown."""
    return release.hashes == {name: declaration.config_hash for name, declaration in application.services.items()}


def is_there(release: Release, container_states: Sequence[ContainerState]) -> bool:
    """Whether an environment's containers are those of a release, whether they run or not."""
    containers = replicas(container_states)
    hashes, images = release.hashes, release.images
    return {state.service for state in containers} == hashes.keys() and all(
        (state.declared_hash, state.image_id) == (hashes[state.service], images.get(state.service))
        for state in containers
    )


def data_of_another_release(
    snapshot: DataSnapshot, releases: Sequence[Release], container_states: Sequence[ContainerState]
) -> str:
    """Say that the data of a snapshot is of another release than the one that runs; empty where it is of that."""
    saved_with = next((release for release in releases if release.release_id == snapshot.release_id), None)
    if not snapshot.release_id or (saved_with is not None and is_there(saved_with, container_states)):
        return ""
    return f"the data was saved while release {snapshot.release_id} ran, and another runs now, which may not read it"


def find_leftovers_of(before: PreDeployState, now: Sequence[ContainerState], networks_now: Sequence[str]) -> Leftovers:
    """Plan the rollback of a start, from the containers before it and the containers now.

    Containers that ran before and still run are left alone, and so is everything this start did not create. So is a
    service that it created or started and that a person paused since, with the networks in which it may be.
    """
    there = {container.container_id for container in now}
    ran = {container_id for container_id, was in before.containers.items() if was.ran}
    paused = {
        container.service
        for container in replicas(now)
        if container.state == "paused" and container.container_id not in ran
    }
    containers = [container for container in replicas(now) if container.service not in paused]
    replaced = {was.service for key, was in before.containers.items() if key not in there}
    return Leftovers(
        stop=tuple(
            container
            for container in containers
            if container.container_id in before.containers and container.up and container.container_id not in ran
        ),
        remove=tuple(container for container in containers if container.container_id not in before.containers),
        networks=() if paused else tuple(name for name in networks_now if name not in before.networks),
        replaced=tuple(sorted(replaced - paused)),
        paused=tuple(sorted(paused)),
    )


def pre_deploy_state(container_states: Sequence[ContainerState], networks: Sequence[str]) -> PreDeployState:
    """Return a summary of the containers before the start, to be recorded."""
    containers = replicas(container_states)
    return PreDeployState(
        containers={
            container.container_id: PreviousContainer(service=container.service, ran=container.up)
            for container in containers
        },
        networks=tuple(networks),
    )


def may_have_run(before: PreDeployState, now: Sequence[ContainerState], since: datetime) -> bool:
    """Whether a container of a start that failed may have run, and so used data.

    One that was created and could not be started has not. Where one of before is gone and nothing stands in its place,
    it is not known what ran.
    """
    containers = replicas(now)
    made = {container.service for container in containers if container.container_id not in before.containers}
    there = {container.container_id for container in containers}
    removed_services = {was.service for key, was in before.containers.items() if key not in there}
    return bool(removed_services - made) or any(
        container.started_at is not None
        and (container.container_id not in before.containers or container.started_at >= since)
        for container in containers
    )


def leftovers_beyond(leftovers: Leftovers, application: Application) -> Leftovers:
    """Of what a start left, only what an application does not have: the rest is now the application's."""
    names = {network.name for network in application.networks}
    return Leftovers(
        stop=tuple(container for container in leftovers.stop if container.service not in application.services),
        remove=tuple(container for container in leftovers.remove if container.service not in application.services),
        networks=tuple(name for name in leftovers.networks if name not in names),
    )


def replaced_services(plan: Plan) -> tuple[str, ...]:
    """Return the services whose containers a start replaces or restarts; their evidence is collected before."""
    actions = (PlannedAction.RECREATE, PlannedAction.RESTART)
    return tuple(line.service for line in plan.services if line.action in actions)


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))


def value_at(document: Any, place: Place) -> Any:
    """What a document has at a place; None where it has no such place."""
    for part in place:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _put(document: Any, place: Place, value: str) -> None:
    value_at(document, place[:-1])[place[-1]] = value


def _changed_fields(before: Document, after: Document, name: str) -> list[str]:
    old = (before.get("services") or {}).get(name) or {}
    new = (after.get("services") or {}).get(name) or {}
    return sorted(field for field in {*old, *new} if old.get(field) != new.get(field))


def _describe_changes(old: Mapping[str, str], new: Mapping[str, str], always: Callable[[str], bool]) -> list[str]:
    """What is not `always` known counts only where both know it: earlier releases do not have its fingerprint."""
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return [key for key in changed if always(key) or (key in old and key in new)]


def _value_in_words(name: str) -> str:
    if name.isidentifier():
        return f"variable {name}"
    return f"file of variables {name}" if name.startswith("/") else name


def _brief(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12] or "none"
