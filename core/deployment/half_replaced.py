"""Find the containers that Compose had half replaced when it was ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.containers import ContainerState


@dataclass(frozen=True, slots=True)
class HalfReplaced:
    """Replacements to remove, because what they replace is still there, and those to give their names, by id."""

    remove: tuple[ContainerState, ...]
    rename: dict[str, str]


def find_half_replaced(containers: Sequence[ContainerState]) -> HalfReplaced:
    """Return what an ended Compose has left among all containers of a project.

    A replacement that was started is never removed.
    """
    ids = {container.name: container.container_id for container in containers}
    remove: list[ContainerState] = []
    rename: dict[str, str] = {}
    for container in containers:
        if container.replaces is None:
            continue
        begins, name = container.replaces
        replaced = ids.get(name)
        if replaced is not None and replaced.startswith(begins) and container.state == "created":
            remove.append(container)
        elif replaced is None and name.startswith(f"{container.project}-{container.service}-"):
            # A name of the user's own may look alike, so only one that Compose gives is given.
            rename[container.container_id] = name
            ids[name] = container.container_id
    return HalfReplaced(tuple(remove), rename)
