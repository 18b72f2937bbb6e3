"""Write sizes of services into Compose files that a person wrote: comments, order and layout stay.

Where a text goes is only an attempt: who calls it lets Compose read the result (`other_settings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def _is_there(text: str, path: Sequence[str]) -> bool:
    node = compose_nodes(text)
    for key in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        if (node := next((value for name, value in entries if name.value == key), None)) is None:
            return False
    return True


def _with_value(text: str, path: Sequence[str], value: str) -> str:
    """Replace the scalar at a path, or add it with the mappings that are missing above it."""
    node, column, step = compose_nodes(text), 0, 2
    for place, key in enumerate(path):
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise unwritable(f"{path[place - 1]} has no fields of its own")
        if not node.flow_style:
            step, column = (
                max(node.value[0][0].start_mark.column - column, 0) or step,
                node.value[0][0].start_mark.column,
            )
        pair = next((pair for pair in node.value if pair[0].value == key), None)
        if pair is None:
            return _with_entry(text, node, path[place:], value, step)
        if pair[1].start_mark.index < pair[0].end_mark.index:
            raise unwritable(f"{key} is an alias of what an anchor names")
        node = pair[1]
    if not isinstance(node, yaml.ScalarNode) or "$" in node.value:
        raise unwritable(f"{path[-1]} comes from a variable: set that one")
    return f"{text[: node.start_mark.index]}{value}{text[node.end_mark.index :]}"


def _with_entry(text: str, mapping: yaml.MappingNode, path: Sequence[str], value: str, step: int) -> str:
    if mapping.flow_style:
        at = mapping.start_mark.index + 1
        for key in reversed(path[1:]):
            value = f"{{{key}: {value}}}"
        return f"{text[:at]}{path[0]}: {value}, {text[at:]}"
    column = mapping.value[0][0].start_mark.column
    lines = [f"{' ' * (column + depth * step)}{key}:" for depth, key in enumerate(path)]
    # The mark of a block's end is behind the comments that follow it.
    end = len(text[: _end(mapping)].rstrip())
    line_end = text.find("\n", end)
    head, tail = (text, "") if line_end < 0 else (text[:line_end], text[line_end:])
    newline = "\r\n" if "\r\n" in text else "\n"
    added = newline.join([*lines[:-1], f"{lines[-1]} {value}"])
    return f"{head.removesuffix(chr(13))}{newline}{added}{chr(13) if head.endswith(chr(13)) else ''}{tail}"


def _end(node: yaml.Node) -> int:
    """Where the last scalar or flow collection of a node ends."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    # An alias ends where its anchor's value does, before its key.
    return max(map(_end, last)) if isinstance(node, yaml.MappingNode) else _end(last)
