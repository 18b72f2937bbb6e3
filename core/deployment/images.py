"""Decide which images an operation pulls or builds before it touches a container, and predict what that changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import get_close_matches

from models.compose import (
    Application,
    FetchKind,
    FetchOptions,
    ImageFact,
    ImageFetch,
    Plan,
    PlannedAction,
    RegistryAnswer,
    ServiceDeclaration,
)

INJECTED = "config or secret "
"""Begins the names of files in a release that no file of the host is mounted for."""

_BUILDS_ABSENT = frozenset({"", "missing", "if_not_present", "build", "never"})
"""The pull policies under which `docker compose up --build` builds an image that has a name of its own."""

_WINDOWS = {"daily": timedelta(days=1), "weekly": timedelta(weeks=1)}
_EVERY = re.compile(r"every_((?:\d+[wdhms])+)")
_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


def similar_name(reference: str, names: Iterable[str]) -> str:
    """Return the name of the same registry that is most like a reference; empty where none is nearly the same."""
    registry, path = _registry_and_path(reference)
    here = {path: name for name in names for of, path in (_registry_and_path(name),) if of == registry}
    return next((here[match] for match in get_close_matches(path, here, n=1)), "")


def _registry_and_path(reference: str) -> tuple[str, str]:
    first, slash, path = reference.partition("/")
    has_registry = slash and (first == "localhost" or "." in first or ":" in first)
    return (first, path) if has_registry else ("", reference)


def fetch_kinds(
    application: Application,
    local_images: Mapping[str, ImageFact | None],
    options: FetchOptions,
    now: datetime,
    present: Collection[str] = (),
    *,
    gated: bool = False,
) -> dict[str, FetchKind]:
    """Return how each service's image is fetched before containers are touched, by service.

    `local_images` are the engine's images by reference, `present` the services that have a container. A service that
    is missing in the result uses the image that the engine has; where the engine has none, Compose obtains it when it
    creates the service's first container, unless some images are held back (`gated`): Compose would take these as well.
    """
    kinds: dict[str, FetchKind] = {}
    if options.fetched:
        return kinds
    for name, declaration in application.services.items():
        if not declaration.replicas or (options.services is not None and name not in options.services):
            continue
        own_name = declaration.build and declaration.image == f"{application.project}-{name}"
        fact = local_images.get(declaration.image)
        if fact is None and (options.pull or options.build or gated or name in present):
            kind = _kind_of_absent(declaration, own_name=own_name)
        elif fact is not None or declaration.pull_policy == "build":
            kind = _kind(declaration, fact, options, now, own_name=own_name)
        else:
            kind = None
        if kind is not None:
            kinds[name] = kind
    return kinds


def shared_fetches(application: Application, kinds: Mapping[str, FetchKind]) -> dict[str, tuple[FetchKind, str]]:
    """Add the services that use the name of a fetched image: how it is fetched, and through which service, by service.

    The second is empty for the service that is fetched itself.
    """
    fetches: dict[str, tuple[FetchKind, str]] = {}
    by_image: dict[str, str] = {}
    for name, kind in kinds.items():
        first = by_image.setdefault(application.services[name].image, name)
        # Two builds of one name are two builds; a name is pulled once.
        fetches[name] = (kind, first if first != name and kind is FetchKind.PULL else "")
    for name, declaration in application.services.items():
        if name not in fetches and declaration.replicas and declaration.image in by_image:
            through = by_image[declaration.image]
            fetches[name] = (kinds[through], through)
    return fetches


def predict_pull(
    declaration: ServiceDeclaration,
    used: Sequence[ImageFact | None],
    local_image: ImageFact | None,
    answer: RegistryAnswer,
) -> ImageFetch:
    """Predict what pulling a service's image changes.

    `used` are the images of the service's containers, `local_image` the engine's of the declared name, `answer` the
    registry's.
    """
    reference = declaration.image
    fetch = ImageFetch(service=declaration.name, kind=FetchKind.PULL, here=local_image is not None)
    if not answer.digest:
        why = f": {answer.problem}" if answer.problem else ""
        note = f"whether image {reference} moved is not known, because its registry could not be asked{why}"
        return replace(fetch, settled=False, note=note)
    fetch = replace(fetch, digest=answer.digest, current=_has_digest(local_image, answer.digest))
    outdated_images = [fact or local_image for fact in used if not _has_digest(fact or local_image, answer.digest)]
    if not outdated_images:
        return fetch
    before = outdated_images[0]
    was = "unknown" if before is None else _brief(before.digest_under(reference) or before.image_id)
    return replace(fetch, changes=f"image {reference} moved in its registry ({was} to {_brief(answer.digest)})")


def predict_build(service: str, now: str | None, recorded: str | None, unreadable: str = "") -> ImageFetch:
    """Predict what building a service's image changes.

    `now` is the fingerprint of how it would be built, None where it cannot be read, as `unreadable` says. `recorded` is
    the fingerprint at its last build on record.
    """
    if now is None:
        note = f"whether its build gives another image is not known, because its build context {unreadable}"
        return ImageFetch(service=service, kind=FetchKind.BUILD, settled=False, note=note)
    if recorded is None:
        note = "whether its build gives another image is not known, because no earlier build is on record"
        return ImageFetch(service=service, kind=FetchKind.BUILD, settled=False, note=note)
    if now != recorded:
        return ImageFetch(service=service, kind=FetchKind.BUILD, changes="its build context changed")
    return ImageFetch(service=service, kind=FetchKind.BUILD, settled=False)


def build_key(service: str) -> str:
    """The name under which a release keeps the fingerprint of a service's build."""
    return f"build context of {service}"


def injected_key(service: str, target: str) -> str:
    """The name under which a release keeps the fingerprint of a file that is copied into a service's containers."""
    return f"{INJECTED}{target} of {service}"


def unplanned_services(planned: Plan, fetched: Plan) -> tuple[str, ...]:
    """Return the services that are replaced although the plan before the fetch did not say so."""
    planned_changes = {line.service for line in planned.services if line.action is not PlannedAction.KEEP}
    replaced = (line.service for line in fetched.services if line.action is PlannedAction.RECREATE)
    return tuple(service for service in replaced if service not in planned_changes)


def _kind_of_absent(declaration: ServiceDeclaration, *, own_name: bool) -> FetchKind | None:
    if declaration.build and (own_name or declaration.pull_policy in _BUILDS_ABSENT):
        return FetchKind.BUILD
    return None if declaration.pull_policy in ("build", "never") else FetchKind.PULL


def _kind(
    declaration: ServiceDeclaration,
    local_image: ImageFact | None,
    options: FetchOptions,
    now: datetime,
    *,
    own_name: bool,
) -> FetchKind | None:
    policy = declaration.pull_policy
    if declaration.build and (options.build or policy == "build"):
        return FetchKind.BUILD
    if policy in ("never", "build") or own_name:
        # Compose pulls no image that only a build can give.
        return None
    if local_image is None or "@" in declaration.image:
        return None
    should_pull = policy == "always" or (options.pull and not declaration.build) or _is_due(policy, local_image, now)
    return FetchKind.PULL if should_pull else None


def _is_due(policy: str, image: ImageFact, now: datetime) -> bool:
    window = _WINDOWS.get(policy)
    if match := _EVERY.fullmatch(policy):
        parts = re.findall(r"(\d+)([wdhms])", match[1])
        window = timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))
    if window is None:
        return False
    return image.tagged_at is None or now - image.tagged_at >= window


def _has_digest(fact: ImageFact | None, digest: str) -> bool:
    return fact is not None and any(repo_digest.endswith(f"@{digest}") for repo_digest in fact.digests)


def _brief(digest: str) -> str:
    return digest.rpartition("sha256:")[2][:12]
