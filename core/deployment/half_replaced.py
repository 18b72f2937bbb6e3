"""Find the containers that Compose had half replaced when it was ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.containers import ContainerState

# Compose names a replacement so until the container that it replaces is removed.
_REPLACEMENT = re.compile(r"(?P<replaced>[0-9a-f]{12})_(?P<name>.+)")


@dataclass(frozen=True, slots=True)
class HalfReplaced:
    """Replacements to remove, because what they replace is still there, and those to give their names, by id."""

    remove: tuple[ContainerState, ...]
    rename: dict[str, str]


def half_replaced(containers: Sequence[ContainerState]) -> HalfReplaced:
    """Return what an ended Compose has left among all containers of a project.

    A replacement that was started is never removed.
    """
    ids = {container.name: container.container_id for container in containers}
    remove: list[ContainerState] = []
    rename: dict[str, str] = {}
    for container in containers:
        match = _REPLACEMENT.fullmatch(container.name)
        if match is None:
            continue
        replaced = ids.get(match["name"])
        if replaced is not None and replaced.startswith(match["replaced"]) and container.state == "created":
            remove.append(container)
        elif replaced is None and match["name"].startswith(f"{container.project}-{container.service}-"):
            # A name of the user's own may look alike, so only one that Compose gives is given.
            rename[container.container_id] = match["name"]
            ids[match["name"]] = container.container_id
    return HalfReplaced(tuple(remove), rename)
