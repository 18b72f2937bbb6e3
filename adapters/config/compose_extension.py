"""What Compose files say of their environment: `x-roas` at the top and of services, and labels `roas.…` of services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from adapters.config.yaml_files import parse_compose_file, read_content
from models.failures import EnvironmentFileError

FIELD = "x-roas"
_PREFIX = "roas."
_MARKED = re.compile(rb"x-roas|\broas\.")
# Compose says these itself, and a checkout may be somebody else's.
_NOT_HERE = ("name", "project", "compose_files", "source")


@dataclass(frozen=True, slots=True)
class Said:
    """A value of an environment: the file and the node that say it, and where it stands in the environment."""

    path: Path
    node: yaml.Node
    place: tuple[str, ...]
    value: Any

    def in_environment(self) -> dict[str, Any]:
        """The value within the fields above it."""
        value = self.value
        for name in reversed(self.place):
            value = {name: value}
        return dict(value)


def said_in_compose_files(files: Sequence[Path]) -> list[Said]:
    """What Compose files say of their environment; what wins comes first: of files the last, a top level before its
    services, a service before its labels.

    Raises:
        EnvironmentFileError: One says something that cannot be understood; the message has its line.
    """
    return [said for path in reversed(files) for said in _said_in(path)]


def with_said(fields: Mapping[str, Any], said: Sequence[Said]) -> dict[str, Any]:
    """An environment's fields, and those that Compose files say beyond; of a service field by field."""
    result = dict(fields)
    for one in said:
        added = one.in_environment()
        more, own = added.pop("services", {}), result.get("services") or {}
        result = added | result
        if more and isinstance(own, dict):
            both = {name for name in more if isinstance(more[name], dict) and isinstance(own.get(name), dict)}
            result["services"] = more | own | {name: more[name] | own[name] for name in both}
    return result


def _said_in(path: Path) -> Iterator[Said]:
    try:
        content = read_content(path)
        documents = _parsed(content, path) if _MARKED.search(content) else []
    except EnvironmentFileError:
        # Compose reads the same file next and reports the mistake.
        return
    # Compose merges the documents of a file like files.
    for node, document in reversed(documents):
        yield from _said_in_document(path, node, document)


def _said_in_document(path: Path, node: yaml.Node | None, document: Any) -> Iterator[Said]:
    if isinstance(node, yaml.MappingNode) and isinstance(document, dict):
        if FIELD in document:
            yield _of_top(path, node, document[FIELD])
        services = document.get("services")
        for name, service in _children(node, "services"):
            value = services.get(name) if isinstance(services, dict) else None
            if isinstance(value, dict) and FIELD in value:
                yield _mapping(path, _child(service, FIELD), value[FIELD], ("services", name))
            for label, text, at in _labels(service):
                if label.startswith(_PREFIX):
                    yield _of_label(path, name, label, text, at)


@lru_cache(maxsize=128)
def _parsed(content: bytes, path: Path) -> list[tuple[yaml.Node | None, Any]]:
    return parse_compose_file(content, path)


def _of_top(path: Path, node: yaml.Node, value: Any) -> Said:
    said = _mapping(path, _child(node, FIELD), value or {}, ())
    for name in _NOT_HERE:
        if name in said.value:
            problem = f"{name} does not belong here"
            raise _mistake(path, _child(said.node, name), FIELD, problem, "Only a roas.yaml can say it.")
    if not isinstance(said.value.get("services", {}), dict):
        raise _mistake(path, _child(said.node, "services"), FIELD, "services is a mapping of services", "")
    return said


def _mapping(path: Path, node: yaml.Node, value: Any, place: tuple[str, ...]) -> Said:
    if not isinstance(value, dict):
        raise _mistake(path, node, FIELD, "it is a mapping of fields", "Write them as in a roas.yaml.")
    return Said(path, node, place, value)


def _of_label(path: Path, service: str, label: str, text: str, node: yaml.Node) -> Said:
    read = _READERS.get(label)
    if read is None:
        raise _mistake(path, node, label, "there is no such label", f"Allowed: {', '.join(_READERS)}.")
    try:
        field, value = read(text)
    except (ValueError, yaml.YAMLError) as error:
        advice = "Write an address like http://:8080/health, or a probe's fields like {kind: tcp, port: 5432}."
        raise _mistake(path, node, label, "no probe can be read from this", advice) from error
    return Said(path, node, ("services", service, field), value)


def _order(text: str) -> tuple[str, Any]:
    return "dependencies", [{"service": name.strip()} for name in text.split(",")]


def _required(text: str) -> tuple[str, Any]:
    return "required", {"true": True, "false": False}.get(text.lower(), text)


def _probe(text: str) -> tuple[str, Any]:
    if text.lstrip().startswith("{"):
        return "probe", yaml.safe_load(text)
    url = urlsplit(text)
    kind = "http" if url.scheme == "https" else url.scheme
    if not kind or url.password is not None:
        raise ValueError(text)
    is_http = kind == "http"
    path = f"{url.path}?{url.query}" if url.query else url.path
    fields = {
        "scheme": url.scheme if is_http else None,
        "port": url.port,
        "path": path if is_http else None,
        "user": url.username and unquote(url.username),
        "database": None if is_http else unquote(path.strip("/")),
    }
    return "probe", {"kind": kind} | {name: value for name, value in fields.items() if value}


_READERS = {"roas.order": _order, "roas.probe": _probe, "roas.required": _required}


def _labels(service: yaml.Node) -> Iterator[tuple[str, str, yaml.Node]]:
    """The labels of a service, as a mapping or a list of NAME=VALUE."""
    labels = _child(service, "labels")
    if isinstance(labels, yaml.MappingNode):
        yield from ((key.value, str(value.value), value) for key, value in labels.value)
    elif isinstance(labels, yaml.SequenceNode):
        for entry in labels.value:
            name, _, text = str(entry.value).partition("=")
            yield name, text, entry


def _children(node: yaml.Node, field: str) -> Iterator[tuple[str, yaml.Node]]:
    found = _child(node, field)
    if isinstance(found, yaml.MappingNode):
        yield from ((key.value, value) for key, value in found.value)


def _child(node: yaml.Node, field: str) -> yaml.Node:
    """The value of a field; the node itself where the field stands elsewhere, as by a merge key."""
    fields = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in fields if key.value == field), node)


def _mistake(path: Path, node: yaml.Node, field: str, problem: str, advice: str) -> EnvironmentFileError:
    return EnvironmentFileError(f"{path}:{node.start_mark.line + 1}: {field}: {problem}.", advice=advice)
