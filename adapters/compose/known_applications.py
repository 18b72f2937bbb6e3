"""What Compose rendered before, kept while nothing that it was rendered from has changed."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adapters.compose.sources import files_read
from adapters.host.fingerprints import Fingerprints
from adapters.host.private_files import make_private_folder, read_regular
from core.deployment.plan import outline_of
from models.compose import Application
from models.environments import Environment

_KEPT = timedelta(hours=1)
"""What changes a rendering and is in none of its files, such as another Compose, is seen after this."""

_OF_COMPOSE = re.compile(r"COMPOSE_|DOCKER_|HOME$")


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
        files = files_read(environment)
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
    make_private_folder(file.parent)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=file.name, delete=False) as made:
        try:
            made.write(content)
            made.flush()
            Path(made.name).replace(file)
        except OSError:
            Path(made.name).unlink()
            raise


def _content(file: Path) -> str | None:
    """The text of a file, of one too large its size and time of change; None where there is none to be read."""
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
