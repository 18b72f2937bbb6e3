"""Decisions about releases: what is kept of what ran, how two differ, and what undoing a start takes.

A release is kept as a template: the merged Compose configuration with its variables unresolved, so no
variable's value is in it. What was written out in the files and looks like a secret is held out, and
taken from the files as they are now when the release is applied again.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.compose import Application, Plan, PlannedAction
from models.containers import RELEASE_IMAGES, ContainerState
from models.failures import ReleaseError
from models.records import Release

HELD_OUT = "[held out]"
"""Stands in a release for a value that looked like a secret."""

_REFERENCE = re.compile(r"\$\w+|\$\{\w+(:?\?[^}]*)?\}")

_VARIABLE = re.compile(r"\$\{?(\w+)")

Document = dict[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What a start that failed leaves behind of its own: containers to stop, to remove, networks to remove.

    `replaced` names the services whose containers were there before and are gone for good.
    """

    stop: tuple[ContainerState, ...] = ()
    remove: tuple[ContainerState, ...] = ()
    networks: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousContainer:
    """A container as it was before a start."""

    service: str
    ran: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreDeployState:
    """What an environment had before a start: its containers by id, and the names of its networks."""

    containers: dict[str, PreviousContainer]
    networks: tuple[str, ...]


def hold_out(template: Document, redacted: Document) -> Document:
    """The template without the values that redaction changed; a plain reference to a variable stays."""
    kept = copy.deepcopy(template)
    for place, text in list(_leaves(kept)):
        if _at(redacted, place) != text and not _REFERENCE.fullmatch(text):
            _put(kept, place, HELD_OUT)
    return kept


def variables_in(template: Document) -> frozenset[str]:
    """The names of the variables a template refers to."""
    return frozenset(name for _, text in _leaves(template) for name in _VARIABLE.findall(text.replace("$$", "")))


def fill_in(kept: Document, now: Document) -> Document:
    """The template with what was held out taken from the same place of the configuration as it is now.

    Raises:
        ReleaseError: That place is not there any more.
    """
    whole = copy.deepcopy(kept)
    for place, text in list(_leaves(whole)):
        if text == HELD_OUT:
            value = _at(now, place)
            if not isinstance(value, str):
                raise ReleaseError(
                    f"The release needs {'.'.join(map(str, place))}, which the Compose files no longer have;",
                    advice="write it there again, or name an older release.",
                )
            _put(whole, place, value)
    return whole


def pinned(template: Document, images: Mapping[str, str], held: Mapping[str, str]) -> Document:
    """The template with the images of the release, by service, where their names mean others by now.

    `images` are the image ids of the release, `held` those the engine has now under the services' own
    image names. Nothing is built or pulled: what ran is used, or the release cannot be applied.
    """
    whole = copy.deepcopy(template)
    for name, service in (whole.get("services") or {}).items():
        service.pop("build", None)
        service["pull_policy"] = "never"
        wanted = images.get(name)
        if wanted is not None and held.get(name) != wanted:
            service["image"] = kept_image(wanted)
    return whole


def kept_image(image_id: str) -> str:
    """The name under which an image of a release is kept."""
    return f"{RELEASE_IMAGES}:{image_id.removeprefix('sha256:')[:16]}"


def differences(before: Release, after: Release) -> tuple[str, ...]:
    """What changed from one release to the other, a sentence each."""
    found: list[str] = []
    for name in sorted({*before.hashes, *after.hashes}):
        if name not in after.hashes:
            found.append(f"{name} is not part of it any more")
            continue
        if name not in before.hashes:
            found.append(f"{name} is new")
            continue
        old, new = before.images.get(name, ""), after.images.get(name, "")
        if old != new:
            found.append(f"{name}: another image ({_brief(old)} to {_brief(new)})")
        if before.hashes[name] != after.hashes[name]:
            fields = ", ".join(_changed_fields(before.compose, after.compose, name))
            found.append(f"{name}: configuration changed{f' ({fields})' if fields else ''}")
    found += [f"mounted file {path} changed" for path in _changed(before.files, after.files)]
    found += [f"variable {name} changed" for name in _changed(before.variables, after.variables)]
    return tuple(found)


def changed_files(release: Release | None, now: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """The mounted files of each service whose content is not what it was in the release.

    `now` are the content hashes by path, by service. A file the release does not know changes nothing:
    its mount is new, so the service is replaced anyway.
    """
    if release is None:
        return {}
    known = release.files
    changed = {
        service: tuple(path for path, digest in sorted(files.items()) if path in known and known[path] != digest)
        for service, files in now.items()
    }
    return {service: paths for service, paths in changed.items() if paths}


def to_go_back_to(releases: Sequence[Release], container_states: Sequence[ContainerState]) -> Release | None:
    """The newest proven release that is not what is there now; `releases` are given newest first."""
    return next((one for one in releases if one.proven and not is_there(one, container_states)), None)


def declares_the_same(release: Release, application: Application) -> bool:
    """Whether Compose would make the very containers of a release; False where it cannot be told."""
    return release.hashes == {name: one.config_hash for name, one in application.services.items()}


def is_there(release: Release, container_states: Sequence[ContainerState]) -> bool:
    """Whether an environment's containers are those of a release, whether they run or not."""
    own = [one for one in container_states if not one.one_off]
    return {one.service for one in own} == release.hashes.keys() and all(
        one.config_hash == release.hashes[one.service] and one.image_id == release.images.get(one.service)
        for one in own
    )


def left_over(before: PreDeployState, now: Sequence[ContainerState], networks_now: Sequence[str]) -> Leftovers:
    """What undoing a start takes, from what was there before it and what is there now.

    Containers that ran before and run still are left alone, and so is whatever this start did not make.
    """
    there = {one.container_id for one in now}
    own = [one for one in now if not one.one_off]
    return Leftovers(
        stop=tuple(
            one
            for one in own
            if one.container_id in before.containers and one.up and not before.containers[one.container_id].ran
        ),
        remove=tuple(one for one in own if one.container_id not in before.containers),
        networks=tuple(name for name in networks_now if name not in before.networks),
        replaced=tuple(sorted({was.service for key, was in before.containers.items() if key not in there})),
    )


def before(container_states: Sequence[ContainerState], networks: Sequence[str]) -> PreDeployState:
    """What was there, short enough to be written down before anything is touched."""
    own = [one for one in container_states if not one.one_off]
    return PreDeployState(
        containers={one.container_id: PreviousContainer(service=one.service, ran=one.up) for one in own},
        networks=tuple(networks),
    )


def beyond(left: Leftovers, application: Application) -> Leftovers:
    """Of what a start left, only what an application does not have: the rest is now the application's."""
    names = {network.name for network in application.networks}
    return Leftovers(
        stop=tuple(one for one in left.stop if one.service not in application.services),
        remove=tuple(one for one in left.remove if one.service not in application.services),
        networks=tuple(name for name in left.networks if name not in names),
    )


def replaced_services(plan: Plan) -> tuple[str, ...]:
    """The services whose containers a start would replace or restart: their story is kept before it."""
    lost = (PlannedAction.RECREATE, PlannedAction.RESTART)
    return tuple(line.service for line in plan.services if line.action in lost)


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))


def _at(document: Any, place: Place) -> Any:
    for part in place:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _put(document: Any, place: Place, value: str) -> None:
    _at(document, place[:-1])[place[-1]] = value


def _changed_fields(before: Document, after: Document, name: str) -> list[str]:
    old = (before.get("services") or {}).get(name) or {}
    new = (after.get("services") or {}).get(name) or {}
    return sorted(field for field in {*old, *new} if old.get(field) != new.get(field))


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


def _brief(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12] or "none"
