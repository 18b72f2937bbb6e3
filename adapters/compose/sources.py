"""Files that Compose reads for an environment, unmerged: their paths, and the variables they name.

Only Compose merges and interpolates them (adapters/compose/cli.py). Before it runs we must know which variables it
may get, and which values in the files are secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters.config.yaml_files import parse_documents
from adapters.host.private_files import read_regular
from models.failures import EnvironmentFileError

_READ_ALONGSIDE = frozenset({"env_file", "label_file"})
_UNRESOLVED = re.compile(r"[$~]|://")
_INTERPOLATED = re.compile(r"(?<!\$)(?:\$\$)*\$(?:\{\s*)?([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class ComposeSources:
    """Text and parsed content of an environment's Compose files; `files` includes missing ones."""

    files: tuple[Path, ...]
    texts: tuple[str, ...]
    documents: tuple[dict[str, Any], ...]

    @property
    def variables(self) -> frozenset[str]:
        """The variables that these files interpolate or pass to a container."""
        return variables_in(self.texts, self.documents)


def read_sources(compose_files: Sequence[Path]) -> ComposeSources:
    """Read Compose files and the text files they name, without those that cannot be read: Compose reports them."""
    listed = files_read(compose_files)
    files = tuple(compose_files) if listed is None else tuple(map(Path, listed))
    texts, documents = [], []
    for file in dict.fromkeys(path.absolute() for path in files):
        try:
            content = read_regular(file)
        except (OSError, ValueError):
            continue
        # Values of an env_file are interpolated too.
        texts.append(content.decode("utf-8", "replace"))
        documents += [document for document in _parse_documents(content, file) or () if isinstance(document, dict)]
    return ComposeSources(files, tuple(texts), tuple(documents))


def variables_in(texts: Iterable[str], documents: Iterable[Any]) -> frozenset[str]:
    """The variables that texts interpolate, and those that documents name without a value: in `environment`, in build
    arguments, and as the source of a secret or a config."""
    named = {name for text in texts for name in _INTERPOLATED.findall(text)}
    for document in documents:
        for key, value in _fields(document):
            if key in {"environment", "args"}:
                named.update(_without_value(value))
    return frozenset(named)


def _fields(document: Any) -> Iterator[tuple[str, Any]]:
    """Every field of a document with its name, at any depth; aliases are followed once."""
    stack, ids = [document], set()
    while stack:
        value = stack.pop()
        if not isinstance(value, dict | list) or id(value) in ids:
            continue
        ids.add(id(value))
        if isinstance(value, dict):
            yield from ((str(key), inner) for key, inner in value.items())
            stack += value.values()
        else:
            stack += value


def _without_value(declared: Any) -> Iterator[str]:
    if isinstance(declared, str):
        # The source of a secret or a config.
        yield declared
    elif isinstance(declared, Mapping):
        yield from (str(name) for name, value in declared.items() if value is None)
    elif isinstance(declared, list):
        yield from (str(entry) for entry in declared if "=" not in str(entry))


def files_read(compose_files: Sequence[Path]) -> tuple[str, ...] | None:
    """Every file that Compose may read for the application, existing or not; None if only Compose can resolve them.

    A relative path is listed under each folder that it may start from, so that a new file counts as a change.
    """
    folders = frozenset(file.parent.absolute() for file in compose_files)
    stack = [(file.absolute(), folders) for file in compose_files]
    files: set[Path] = set()
    read: set[Path] = set()
    while stack:
        file, folders = stack.pop()
        if file in read:
            continue
        read.add(file)
        folders |= {file.parent}
        files |= {file, *(folder / ".env" for folder in folders)}
        try:
            documents = _parse_documents(read_regular(file), file)
        except (OSError, ValueError):
            return None
        if documents is None:
            return None
        for path, places, of_compose in (reference for document in documents for reference in _references(document)):
            if any(_UNRESOLVED.search(text) for text in (path, *places)):
                return None
            beyond = folders | {folder / place for place in places for folder in folders}
            candidates = {folder / path for folder in beyond}
            files |= candidates
            if of_compose:
                there = [candidate for candidate in candidates if candidate.is_file()]
                if not there:
                    return None
                stack += [(candidate, beyond) for candidate in there]
    return tuple(sorted(map(str, files)))


def included_env_files(compose_files: Sequence[Path]) -> tuple[Path, ...]:
    """The files of variables that fill in included Compose files: those an include names, else `.env` in its folder."""
    stack, read, env_files = [file.absolute() for file in compose_files], set[Path](), dict[Path, None]()
    while stack:
        if (file := stack.pop()) in read:
            continue
        read.add(file)
        try:
            documents = _parse_documents(read_regular(file), file) or ()
        except (OSError, ValueError):
            continue
        for entry in (
            value for document in documents if isinstance(document, dict) for value in _list(document.get("include"))
        ):
            include = entry if isinstance(entry, dict) else {"path": entry}
            paths = [file.parent / path for path in _texts(include.get("path"))]
            folder = file.parent / str(include.get("project_directory") or (paths[0].parent if paths else "."))
            named = [file.parent / path for path in _texts(include.get("env_file"))]
            env_files |= dict.fromkeys(named or [folder / ".env"])
            stack += paths
    return tuple(env_files)


@lru_cache(maxsize=32)
def _parse_documents(content: bytes, file: Path) -> tuple[Any, ...] | None:
    """The documents of a YAML file, or None if it is not YAML; cached, since parsing costs far more than reading."""
    try:
        return tuple(parse_documents(content, file))
    except EnvironmentFileError:
        return None


def _references(document: Any) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Paths a Compose file names: the path, folders it may start from, and whether it is a Compose file."""
    if not isinstance(document, dict):
        return
    for entry in _list(document.get("include")):
        if isinstance(entry, dict):
            places = tuple(_texts(entry.get("project_directory")))
            yield from ((path, places, True) for path in _texts(entry.get("path")))
            yield from ((path, places, False) for path in _texts(entry.get("env_file")))
        else:
            yield str(entry), (), True
    for key, value in _fields(document):
        if key in _READ_ALONGSIDE:
            paths = [reference.get("path") if isinstance(reference, dict) else reference for reference in _list(value)]
            yield from ((path, (), False) for path in _texts(paths))
        elif key == "extends" and isinstance(value, dict):
            yield from ((path, (), True) for path in _texts(value.get("file")))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _texts(value: Any) -> Iterator[str]:
    yield from (str(item) for item in _list(value) if item is not None)
