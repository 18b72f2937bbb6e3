"""Cache of rendered Compose applications, valid while their files and variables are unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adapters.compose.sources import files_read
from adapters.host.fingerprints import Fingerprints
from adapters.host.private_files import make_private_folder, read_regular, write_private
from core.deployment.plan import outline_of
from models.compose import Application
from models.environments import Environment

_KEPT = timedelta(hours=1)
"""Limit for changes that are in no file, such as a new version of Compose."""

_OF_COMPOSE = re.compile(r"COMPOSE_|DOCKER_|HOME$")


@dataclass(frozen=True, slots=True)
class _Known:
    """A rendered application and the fingerprint of its sources; without one it is rendered again."""

    fingerprint: str
    rendered_at: datetime
    files: tuple[str, ...]
    application: Application


class KnownApplications:
    """Renders an application only when a source has changed: a file that Compose would read, even a missing one, or a
    variable named in one.

    The outline is stored on disk; the whole application, whose commands may hold secrets, stays in memory. An
    application with includes that only Compose can resolve is rendered every time.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "outlines"
        self._data_dir = data_dir
        self._whole: dict[str, _Known] = {}

    def outline(
        self, environment: Environment, variables: Mapping[str, str], render: Callable[[], Application]
    ) -> Application:
        """The parts that health evaluation needs: services, dependencies, and which services end by themselves.

        Raises:
            ComposeError: As for `render`.
        """
        file = self._folder / f"{environment.name}.json"
        with suppress(OSError, ValidationError):
            recorded_outline = _AS_JSON.validate_json(file.read_bytes())
            if self._holds(recorded_outline, environment, variables):
                return recorded_outline.application
        rendering = self._render_anew(environment, variables, render)
        outline = replace(rendering, application=outline_of(rendering.application))
        # An outline that cannot be written, for example on a full disk, is rendered again next time.
        with suppress(OSError):
            if outline.fingerprint:
                make_private_folder(file.parent)
                write_private(file, _AS_JSON.dump_json(outline))
        return outline.application

    def whole(
        self, environment: Environment, variables: Mapping[str, str], render: Callable[[], Application]
    ) -> Application:
        """The whole application, rendered by this process.

        Raises:
            ComposeError: As for `render`.
        """
        return self._render_anew(environment, variables, render).application

    def fingerprint(self, environment: Environment, variables: Mapping[str, str]) -> str:
        """What changes with any source of the application; empty where only Compose can tell which these are."""
        files = files_read(environment.compose_files)
        return "" if files is None else self._fingerprint(files, environment, variables)

    def _render_anew(
        self, environment: Environment, variables: Mapping[str, str], render: Callable[[], Application]
    ) -> _Known:
        rendering = self._whole.get(environment.name)
        if rendering is not None and self._holds(rendering, environment, variables):
            return rendering
        # Before rendering, so that a change meanwhile counts as one.
        files = files_read(environment.compose_files)
        fingerprint = "" if files is None else self._fingerprint(files, environment, variables)
        made = _Known(fingerprint, datetime.now(UTC), files or (), render())
        self._whole[environment.name] = made
        return made

    def _holds(self, rendering: _Known, environment: Environment, variables: Mapping[str, str]) -> bool:
        if not rendering.fingerprint or not timedelta() <= datetime.now(UTC) - rendering.rendered_at < _KEPT:
            return False
        # Files read alongside are named by the listed files, so an unchanged list covers them.
        return rendering.fingerprint == self._fingerprint(rendering.files, environment, variables)

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
        return prints.keyed_hash(json.dumps([named, contents, used], sort_keys=True))


_AS_JSON = TypeAdapter(_Known)


def _content(file: Path) -> str | None:
    """The text of a file, or of a large one its size and time of change; None if it cannot be read."""
    with suppress(OSError, ValueError):
        return read_regular(file).decode("utf-8", "surrogateescape")
    with suppress(OSError, ValueError):
        status = file.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    return None


def _always_read(environment: Environment) -> tuple[str, ...]:
    files = [*environment.compose_files, *environment.env_files]
    files += [folder / ".env" for folder in {Path.cwd(), *(file.parent for file in environment.compose_files)}]
    return tuple(sorted({str(file.absolute()) for file in files}))
