"""Parsing of users' YAML files, with limits on size, depth and aliases, and errors of one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from adapters.host.private_files import read_regular
from models.failures import EnvironmentFileError

DEPTH = 100
"""Levels of lists and mappings within each other; Compose files and environments have at most a dozen."""

VALUES = 100_000
"""Values of one file with aliases expanded: nested aliases can fill any memory."""

if TYPE_CHECKING:
    from yaml import SafeLoader as _Loader
else:
    # The parser of libyaml is about ten times as fast; a PyYAML built without it has only the other.
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MERGE = "tag:yaml.org,2002:merge"


def read_document(path: Path) -> tuple[yaml.Node | None, Any]:
    """Read a file of one document without a key given twice: its nodes, which know their lines, and its value.

    Raises:
        EnvironmentFileError: It cannot be read, is no regular file, is too large, or is no YAML.
    """
    return parse_document(read_content(path), path)


def parse_document(content: bytes, path: Path) -> tuple[yaml.Node | None, Any]:
    """Parse the content of a file as `read_document` does.

    Raises:
        EnvironmentFileError: It is no YAML, or out of bounds.
    """
    return _parse(content, path, _load_one)


def parse_compose_file(content: bytes, path: Path) -> list[tuple[yaml.Node | None, Any]]:
    """Parse each document of a Compose file as `read_document` does, without Compose's own tags.

    Raises:
        EnvironmentFileError: It is no YAML, or out of bounds.
    """
    return _parse(content, path, _load_each)


def read_documents(path: Path) -> list[Any]:
    """Read the documents of a Compose file; tags of Compose, such as !reset, are dropped.

    Raises:
        EnvironmentFileError: It cannot be read, is no regular file, is too large, or is no YAML.
    """
    return parse_documents(read_content(path), path)


def parse_documents(content: bytes, path: Path) -> list[Any]:
    """Parse the documents of a Compose file.

    Raises:
        EnvironmentFileError: It is no YAML, or out of bounds.
    """
    return _parse(content, path, lambda text: list(yaml.load_all(text, _ComposeLoader)))


def compose_nodes(text: str) -> yaml.Node | None:
    """The nodes of a text, which know their places; None where it is no YAML, or has not one document."""
    try:
        return yaml.compose(text, _Loader)
    except yaml.YAMLError:
        return None


def syntax_problem(text: str) -> str | None:
    """The syntax error of a text with its line and column; None if it is valid YAML."""
    try:
        for _ in yaml.parse(text, _Loader):
            pass
    except yaml.MarkedYAMLError as error:
        # The error's own text would quote the line, which may hold a password.
        mark = error.problem_mark
        return f"{error.problem}{f' in line {mark.line + 1}, column {mark.column + 1}' if mark else ''}"
    except yaml.YAMLError as error:
        return " ".join(str(error).split())
    return None


_T = TypeVar("_T")


def read_content(path: Path) -> bytes:
    """Read a user's file.

    Raises:
        EnvironmentFileError: It cannot be read, is no regular file, or is too large.
    """
    try:
        return read_regular(path)
    except (OSError, ValueError) as error:
        raise EnvironmentFileError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            advice="It must be a text file that this user may read.",
        ) from error


def _parse(content: bytes, path: Path, load: Callable[[str], _T]) -> _T:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EnvironmentFileError(f"{path} is not UTF-8 text.", advice="Save it as UTF-8.") from error
    try:
        _check_bounds(yaml.parse(text, _Loader))
        return load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        # The error's own text would quote the line, which may hold a password.
        raise _refusal(f"{path}{line}", error.problem or error.context or "it is no YAML") from error
    except yaml.reader.ReaderError as error:
        raise _refusal(f"{path}:{text.count(chr(10), 0, error.position) + 1}", error.reason) from error
    except Exception as error:
        # For a date such as 2026-99-99 or a number of 5,000 digits, Python raises various errors.
        raise _refusal(str(path), "a value cannot be read as what it looks like or is tagged as") from error


def _refusal(where: str, problem: str) -> EnvironmentFileError:
    return EnvironmentFileError(f"{where}: {' '.join(problem.split())}.", advice="The file must be valid YAML.")


def _check_bounds(events: Iterator[Any]) -> None:
    """Check the number of values and levels with aliases expanded, before constructing them."""
    total = 0
    open_parts = [_Part()]
    anchored: dict[str, _Part] = {}
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            part = open_parts.pop()
            if part.anchor:
                anchored[part.anchor] = part
        elif isinstance(event, yaml.CollectionStartEvent):
            open_parts.append(_Part(event.anchor))
            total += 1
            continue
        elif isinstance(event, yaml.ScalarEvent):
            part = _Part(event.anchor)
            total += 1
            if part.anchor:
                anchored[part.anchor] = part
        elif isinstance(event, yaml.AliasEvent):
            if any(open_part.anchor == event.anchor for open_part in open_parts):
                raise _out_of_bounds(f"alias {event.anchor} stands within what it names", event)
            # The loader refuses an alias without an anchor.
            part = anchored.get(event.anchor or "", _Part())
            total += part.values
        else:
            continue
        open_parts[-1].add(part)
        if len(open_parts) + part.levels > DEPTH:
            raise _out_of_bounds(f"lists and mappings are more than {DEPTH} levels deep", event)
        if total > VALUES:
            raise _out_of_bounds(f"it has more than {VALUES:,} values, repetitions by aliases included", event)


def _out_of_bounds(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


@dataclass(slots=True)
class _Part:
    """Size of a value: how many values it contains, and how many levels."""

    anchor: str | None = None
    values: int = 1
    levels: int = 0

    def add(self, part: _Part) -> None:
        self.values += part.values
        self.levels = max(self.levels, part.levels + 1)


class _UniqueKeyLoader(_Loader):
    """Refuses duplicate keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in keys:
                raise yaml.MarkedYAMLError(problem=f"{key!r} is given twice", problem_mark=key_node.start_mark)
            keys.add(key if isinstance(key, str | int | float | bool) else None)
        return super().construct_mapping(node, deep)


class _ComposeLoader(_Loader):
    """Reads YAML as Compose does: drops its own tags, such as !reset, which only control merging."""


def _drop_tags(loader: _ComposeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


_ComposeLoader.add_multi_constructor("!", _drop_tags)


class _ComposeFileLoader(_UniqueKeyLoader, _ComposeLoader):
    """Drops tags as Compose does, and refuses duplicate keys."""


def _load_each(text: str) -> list[tuple[yaml.Node | None, Any]]:
    loader, found = _ComposeFileLoader(text), []
    try:
        while loader.check_node():
            node = loader.get_node()
            found.append((node, loader.construct_document(node)))
        return found
    finally:
        loader.dispose()


def _load_one(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()
