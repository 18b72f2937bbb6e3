"""Compose files merged into one document that still names its variables, so that it holds none of their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_WITH_DEFAULT = re.compile(r"(?<!\$)\$\{(\w+)(:?-)((?:[^{}]|\$\{[^{}]*\})+)\}")


_PATHS = frozenset({"context", "file", "path", "source"})


def complete_template(template: dict[str, Any], filled: dict[str, Any], folder: str) -> dict[str, Any]:
    """Correct a document that Compose rendered without variables, by the one it rendered with them."""
    _undo_prefix(template, f"{folder}/$")
    for name, body in (filled.get("services") or {}).items():
        _restore_mounts(template["services"][name], body)
        _restore_arguments(template["services"][name], body)
    return template


def without_defaults(text: str, variables: Mapping[str, str]) -> str:
    """Replace each variable with a default by the variable alone if it is set, else by the default."""

    def choose(match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        is_set = bool(variables.get(name)) if operator == ":-" else name in variables
        return f"${{{name}}}" if is_set else without_defaults(default, variables)

    return _WITH_DEFAULT.sub(choose, text)


def _undo_prefix(value: Any, misplaced: str) -> None:
    """Remove the folder that Compose puts before a path that begins with a variable, as if it were relative."""
    if isinstance(value, list):
        for item in value:
            _undo_prefix(item, misplaced)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _PATHS and isinstance(item, str) and item.startswith(misplaced):
                value[key] = item[len(misplaced) - 1 :]
            else:
                _undo_prefix(item, misplaced)


def _restore_mounts(service: dict[str, Any], filled: dict[str, Any]) -> None:
    """Correct the type of mounts whose source is a variable: only its value shows whether it is a path or a volume."""
    mounts = service.get("volumes") or []
    filled_mounts = {mount["target"]: mount for mount in filled.get("volumes") or []}
    for index, mount in enumerate(mounts):
        entry = filled_mounts.get(mount.get("target"))
        if entry is not None and entry["type"] != mount.get("type") and "source" in mount:
            mounts[index] = entry | {"source": mount["source"]}


def _restore_arguments(service: dict[str, Any], filled: dict[str, Any]) -> None:
    """Restore build arguments in a list that only name a variable: Compose loses them."""
    build = service.get("build") or {}
    if "args" in build and not isinstance(build["args"], dict):
        listed = dict(argument.split("=", 1) for argument in build["args"] or ())
        named = (filled.get("build") or {}).get("args") or {}
        build["args"] = {name: f"${{{name}}}" for name in named} | listed


def first_difference(document: dict[str, Any], other: dict[str, Any]) -> str:
    """Where two documents differ first, by section and name, without values."""
    for section in document:
        content, other_content = document[section], other.get(section)
        if content != other_content:
            if isinstance(content, dict) and isinstance(other_content, dict):
                return next(
                    f"{section}.{name}"
                    for name in {**content, **other_content}
                    if content.get(name) != other_content.get(name)
                )
            return section
    return "a section"
