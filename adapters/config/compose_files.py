"""The Compose files and the project of a folder, as Compose itself chooses them."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from dotenv.main import DotEnv

from adapters.config.environment_names import COMPOSE_FILES
from adapters.host.private_files import read_regular
from models.failures import EnvironmentFileError

_OVERRIDE_FILES = (
    *("compose.override.yml", "compose.override.yaml"),
    *("docker-compose.override.yml", "docker-compose.override.yaml"),
)


def compose_files_of(folder: Path) -> tuple[Path, ...]:
    """The Compose files of a folder as Compose chooses them: those that COMPOSE_FILE lists, in the process or in
    `.env`, else the first of each kind of name.

    Raises:
        EnvironmentFileError: There is none.
    """
    if not is_there(folder, Path.is_dir):
        raise EnvironmentFileError(f"There is no folder {folder}.", advice="Name the one with the Compose file.")
    beside = variables_in(folder / ".env")
    listed = os.environ.get("COMPOSE_FILE") or beside.get("COMPOSE_FILE")
    if listed:
        separator = os.environ.get("COMPOSE_PATH_SEPARATOR") or beside.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        return tuple(folder / path for path in listed.split(separator) if path)
    chosen = next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
    if chosen is None:
        raise EnvironmentFileError(
            f"There is no Compose file in {folder}: none of {', '.join(COMPOSE_FILES)}.",
            advice="Name the folder that has one, or the file with -f.",
        )
    override = next((folder / name for name in _OVERRIDE_FILES if (folder / name).is_file()), None)
    return (chosen,) if override is None else (chosen, override)


def nearest_compose_folder(folder: Path) -> Path:
    """The folder, or its nearest parent with a Compose file, as Compose searches; the folder itself if none has one."""
    if os.environ.get("COMPOSE_FILE") or variables_in(folder / ".env").get("COMPOSE_FILE"):
        return folder
    for at in (folder, *folder.absolute().parents):
        if any(is_there(at / name, Path.is_file) for name in COMPOSE_FILES):
            return at
    return folder


def is_there(path: Path, is_kind: Callable[[Path], bool]) -> bool:
    """Whether a file or folder exists; a name that the system refuses, such as one too long, does not."""
    try:
        return is_kind(path)
    except OSError:
        return False


def project_name_of(folder: Path) -> str | None:
    """The project's name in the `.env` of a folder, which Compose reads unless its process has one."""
    return (
        None
        if os.environ.get("COMPOSE_PROJECT_NAME")
        else variables_in(folder / ".env").get("COMPOSE_PROJECT_NAME") or None
    )


def variables_in(file: Path) -> dict[str, str]:
    """The variables of a `.env`, none of them interpolated; none where it cannot be read."""
    try:
        text = read_regular(file).decode("utf-8")
    except (OSError, ValueError):
        # Compose itself reports one that it cannot read.
        return {}
    return {name: value or "" for name, value in DotEnv(None, StringIO(text), interpolate=False).parse()}
