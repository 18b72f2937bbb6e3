"""Write sizes of services into Compose files that a person wrote: comments, order and layout stay.

Where a text goes is only an attempt: who calls it lets Compose read the result (`other_settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from adapters.config.yaml_files import compose_nodes
from models.failures import ComposeError
from models.sizes import Size

_Path = tuple[str, ...]
_MIB = 1024 * 1024
_RESOURCES = ("deploy", "resources")
_SPELLINGS: dict[str, tuple[_Path, ...]] = {
    "memory_limit_bytes": ((*_RESOURCES, "limits", "memory"), ("mem_limit",)),
    "cpu_limit": ((*_RESOURCES, "limits", "cpus"), ("cpus",)),
    "memory_reservation_bytes": ((*_RESOURCES, "reservations", "memory"), ("mem_reservation",)),
    "cpu_reservation": ((*_RESOURCES, "reservations", "cpus"),),
}
"""Where each field of a size can be written; a short key has none for the reservation of processors."""


def with_size(texts: Mapping[Path, str], service: str, declared: Size, proposed: Size) -> dict[Path, str]:
    """Return the texts of Compose files, in the order of merging, with a size where a service is declared.

    Raises:
        ComposeError: It is declared in a way that cannot be edited; the message says which.
    """
    edited, of_service = dict(texts), ("services", service)
    naming = [file for file, text in texts.items() if _is_there(text, of_service)]
    if not naming:
        raise unwritable("it is declared in a file that is included or extended")
    if any(_is_there(texts[file], (*of_service, "memswap_limit")) for file in naming):
        raise unwritable("the engine accepts a memory limit only with a memswap_limit that suits it")
    every = [path for paths in _SPELLINGS.values() for path in paths]
    is_short = {len(path) == 1 for path in every for file in naming if _is_there(texts[file], (*of_service, *path))}
    for field, paths in _SPELLINGS.items():
        value = getattr(proposed, field)
        if value is None or value == getattr(declared, field):
            continue
        there = [(file, path) for file in naming for path in paths if _is_there(texts[file], (*of_service, *path))]
        if not there and is_short == {True} and len(paths) == 1:
            continue
        file, path = there[-1] if there else (naming[-1], paths[-1 if is_short == {True} else 0])
        written = f"{value // _MIB}M" if "memory" in field else f"{value:g}"
        edited[file] = _with_value(edited[file], (*of_service, *path), written)
    return edited


def unwritable(why: str) -> ComposeError:
    """The error of a size that cannot be written safely."""
    return ComposeError(f"the file cannot be changed: {why}", advice="Write it there yourself.")


def other_settings(document: Mapping[str, Any], service: str) -> dict[str, Any]:
    """Return what Compose read without the size of one service: an edit of its size leaves this the same."""
    others = deepcopy(dict(document))
    body = others["services"][service]
    for *parents, key in (path for paths in _SPELLINGS.values() for path in paths):
        within = body
        for parent in parents:
            within = within.get(parent) or {}
        within.pop(key, None)
    body["deploy"] = _without_empty(body.get("deploy"))
    return others


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: kept for key, inner in value.items() if (kept := _without_empty(inner)) not in (None, {})} or None


def _is_there(text: str, path: _Path) -> bool:
    return len(_walk(text, path)) == len(path) + 1


def _walk(text: str, path: _Path) -> list[tuple[yaml.Node | None, yaml.Node | None]]:
    """The root, and the key and value of each part of a path that a text has."""
    found: list[tuple[yaml.Node | None, yaml.Node | None]] = [(None, compose_nodes(text))]
    for key in path:
        entries = found[-1][1].value if isinstance(found[-1][1], yaml.MappingNode) else ()
        if (pair := next((pair for pair in entries if pair[0].value == key), None)) is None:
            break
        found.append(pair)
    return found


def _with_value(text: str, path: _Path, value: str) -> str:
    """Replace the scalar at a path, or add it with the mappings that are missing above it."""
    found = _walk(text, path)
    for key, child in found[1:]:
        if key and child and child.start_mark.index < key.end_mark.index:
            raise unwritable(f"{key.value} is an alias of what an anchor names")
    (key, node), missing = found[-1], path[len(found) - 1 :]
    if not missing:
        if not isinstance(node, yaml.ScalarNode) or "$" in node.value:
            raise unwritable(f"{path[-1]} comes from a variable: set that one")
        return f"{text[: node.start_mark.index]}{value}{text[node.end_mark.index :]}"
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not key:
        raise unwritable(f"{path[-len(missing) - 1]} is not one field a line")
    column = node.value[0][0].start_mark.column
    step = column - key.start_mark.column
    lines = [f"\n{' ' * (column + depth * step)}{name}:" for depth, name in enumerate(missing)]
    # The mark of a block's end is behind the comments that follow it.
    at = text.find("\n", len(text[: _end(node)].rstrip()))
    at = len(text) if at < 0 else at
    return f"{text[:at]}{''.join(lines)} {value}{text[at:]}"


def _end(node: yaml.Node) -> int:
    """Where the last scalar or flow collection of a node ends."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    # An alias ends where its anchor's value does, before its key.
    return max(map(_end, last)) if isinstance(node, yaml.MappingNode) else _end(last)
