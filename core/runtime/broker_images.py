"""Names of images: which ones a request may give, and when two spellings are one name."""

from __future__ import annotations

import re

from core.runtime.broker_messages import RequestTarget, refuse
from models.containers import RELEASE_IMAGES
from models.image_names import DEFAULT_REGISTRY, complete_name

KEPT_TAG = r"[0-9a-f]{8}-[0-9a-f]{16}"
"""The tag of an image that is kept for a release."""

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BEGINS_AN_ID = re.compile(r"[0-9a-f]+|sha256:.*")


def with_image_name(target: RequestTarget, image: str) -> tuple[RequestTarget, str]:
    """Return a request that names an image with the name in its one whole spelling, and that name.

    The name is empty for other requests, and for a name that keeps an image of a release. Raises RequestRefusedError
    for what is no name, and for an image that is not given by its whole id: a name or the beginning of an id could be
    another image by the time the engine reads it.
    """
    if not target.path.endswith("/tag"):
        return target, ""
    query = dict(target.query)
    repository, tag = query.get("repo", ""), query.get("tag", "")
    if repository == RELEASE_IMAGES and re.fullmatch(KEPT_TAG, tag):
        return target, ""
    try:
        name = whole_name(f"{repository}:{tag}")
    except ValueError:
        refuse("that is no name of an image")
    if name.startswith(f"{DEFAULT_REGISTRY}/library/{RELEASE_IMAGES}:"):
        refuse(f"a name in {RELEASE_IMAGES} has a tag of its own form")
    if not _IMAGE_ID.fullmatch(image):
        refuse(f"images get names in {RELEASE_IMAGES}; one that gets an earlier name back is given by its whole id")
    whole, _, tag = name.rpartition(":")
    query |= {"repo": whole, "tag": tag}
    return RequestTarget(version=target.version, path=target.path, query=tuple(query.items())), name


def whole_name(reference: str) -> str:
    """An image's name with registry, repository and tag, as the engine completes it: two spellings are one name.

    Raises ValueError for what the engine could take for an id or its beginning, and for a digest.
    """
    if _BEGINS_AN_ID.fullmatch(reference):
        raise ValueError(f"{reference!r} may be an id")
    registry, repository, tag = complete_name(reference)
    tag = "latest" if tag is None else tag
    if "@" in reference or not (
        _REGISTRY.fullmatch(registry) and _REPOSITORY.fullmatch(repository) and _TAG.fullmatch(tag)
    ):
        raise ValueError(f"{reference!r} is no name with a tag")
    return f"{registry}/{repository}:{tag}"
