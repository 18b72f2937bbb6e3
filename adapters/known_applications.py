"""What Compose rendered before, kept while nothing that it was rendered from has changed."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from adapters.fingerprints import Fingerprints
from core.compose import outline_of
from models.compose import Application
from models.environments import Environment

_KEPT = timedelta(hours=1)
"""What changes a rendering and is in none of its files, such as another Compose, is seen after this."""

_READ_ALONGSIDE = frozenset({"env_file", "label_file"})
_OF_COMPOSE = re.compile(r"COMPOSE_|DOCKER_|HOME$")
_FILLED_IN = re.compile(r"[$~]|://")


@dataclass(frozen=True, slots=True)
class _Known:
    """An application and what tells whether it would be rendered alike now; without a fingerprint nothing does."""

    fingerprint: str
    rendered_at: datetime
    files: tuple[str, ...]
    application: Application


class KnownApplications:
    """Renders an application only where something it was rendered from has changed.

    That is every file Compose would read for it, whether it is there or not, and every variable named in one.
    The outline outlives the process; the whole application, whose commands may hold secrets, stays in memory.
    What includes files whose names cannot be told without Compose is rendered every time.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "outlines"
        self._data_dir = data_dir
        self._whole: dict[str, _Known] = {}

    def outline(
        self, environment: Environment, variables: Mapping[str, str], render: Callable[[], Application]
    ) -> Application:
        """What judging needs of the application: its services, who needs whom, what ends by itself.

        Raises:
            ComposeError: As for `render`.
        """
        file = self._folder / f"{environment.name}.json"
        with suppress(OSError, ValidationError):
            kept = _AS_JSON.validate_json(file.read_bytes())
            if self._holds(kept, environment, variables):
                return kept.application
        known = self._rendered(environment, variables, render)
        outline = replace(known, application=outline_of(known.application))
        # One that cannot be kept, as on a full disk, is made again the next time.
        with suppress(OSError):
            if outline.fingerprint:
                _write(file, _AS_JSON.dump_json(outline))
        return outline.application

    def whole(
        self, environment: Environment, variables: Mapping[str, str], render: Callable[[], Application]
    ) -> Application:
        """All that is declared, as this process has rendered it.

        Raises:
            ComposeError: As for `render`.
        """
        return self._rendered(environment, variables, render).application

    def _rendered(
        self, environment: Environment, variables: Mapping[str, str], render: Callable[[], Application]
    ) -> _Known:
        kept = self._whole.get(environment.name)
        if kept is not None and self._holds(kept, environment, variables):
            return kept
        # Before it is rendered: what changes meanwhile then counts as a change.
        files = _files_of(environment)
        fingerprint = "" if files is None else self._fingerprint(files, environment, variables)
        made = _Known(fingerprint, datetime.now(UTC), files or (), render())
        self._whole[environment.name] = made
        return made

    def _holds(self, kept: _Known, environment: Environment, variables: Mapping[str, str]) -> bool:
        if not kept.fingerprint or not timedelta() <= datetime.now(UTC) - kept.rendered_at < _KEPT:
            return False
        # The files that are read alongside are named by those that are listed, which have not changed then.
        return kept.fingerprint == self._fingerprint(kept.files, environment, variables)

    def _fingerprint(self, files: tuple[str, ...], environment: Environment, variables: Mapping[str, str]) -> str:
        contents = {file: _content(Path(file)) for file in (*files, *_always_read(environment))}
        words = set(re.findall(r"\w+", "\n".join(text for text in contents.values() if text)))
        used = {name: value for name, value in variables.items() if name in words or _OF_COMPOSE.match(name)}
        named = [
            environment.project,
            environment.profiles,
            *map(str, (*environment.compose_files, *environment.env_files)),
        ]
        try:
            prints = Fingerprints(self._data_dir)
        except OSError:
            return ""
        return prints.of(json.dumps([named, contents, used], sort_keys=True))


_AS_JSON = TypeAdapter(_Known)


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all: another process may read it at this moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=file.name, delete=False) as made:
        try:
            made.write(content)
            made.flush()
            Path(made.name).replace(file)
        except OSError:
            Path(made.name).unlink()
            raise


def _content(file: Path) -> str | None:
    """The text of a file, None where there is none to be read."""
    try:
        return file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None


def _always_read(environment: Environment) -> tuple[str, ...]:
    files = [*environment.compose_files, *environment.env_files]
    files += [folder / ".env" for folder in {Path.cwd(), *(file.parent for file in environment.compose_files)}]
    return tuple(sorted({str(file.absolute()) for file in files}))


def _files_of(environment: Environment) -> tuple[str, ...] | None:
    """Every file that may be read for the application beside those the environment names, there or not.

    A relative path counts from each folder that it may be meant from: one that is not there is seen to
    appear. None where Compose alone can tell the files, or only by fetching them.
    """
    folders = frozenset(file.parent.absolute() for file in environment.compose_files)
    left = [(file.absolute(), folders) for file in environment.compose_files]
    found: set[Path] = set()
    read: set[Path] = set()
    while left:
        file, folders = left.pop()
        if file in read:
            continue
        read.add(file)
        folders |= {file.parent}
        found |= {file, *(folder / ".env" for folder in folders)}
        try:
            documents = list(yaml.load_all(file.read_bytes(), _Loader))
        except (OSError, yaml.YAMLError, ValueError, RecursionError):
            return None
        for path, places, of_compose in (one for document in documents for one in _references(document)):
            if any(_FILLED_IN.search(one) for one in (path, *places)):
                return None
            beyond = folders | {folder / place for place in places for folder in folders}
            candidates = {folder / path for folder in beyond}
            found |= candidates
            if of_compose:
                there = [candidate for candidate in candidates if candidate.is_file()]
                if not there:
                    return None
                left += [(candidate, beyond) for candidate in there]
    return tuple(sorted(map(str, found)))


def _references(document: Any) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Paths a Compose file names: the path, a folder it may be meant from, and whether it is a Compose file."""
    if not isinstance(document, dict):
        return
    for entry in _list(document.get("include")):
        if isinstance(entry, dict):
            places = tuple(_texts(entry.get("project_directory")))
            yield from ((path, places, True) for path in _texts(entry.get("path")))
            yield from ((path, places, False) for path in _texts(entry.get("env_file")))
        else:
            yield str(entry), (), True
    yield from _read_alongside(document)


def _read_alongside(value: Any) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _READ_ALONGSIDE:
                paths = [one.get("path") if isinstance(one, dict) else one for one in _list(inner)]
                yield from ((path, (), False) for path in _texts(paths))
            elif key == "extends" and isinstance(inner, dict):
                yield from ((path, (), True) for path in _texts(inner.get("file")))
            else:
                yield from _read_alongside(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _read_alongside(inner)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _texts(value: Any) -> Iterator[str]:
    yield from (str(one) for one in _list(value) if one is not None)


class _Loader(yaml.SafeLoader):
    """Reads YAML as Compose does: its own tags, such as !reset, say how to merge and are no values."""


def _untagged(loader: _Loader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


_Loader.add_multi_constructor("!", _untagged)
