"""Where environments are: one folder that is chosen, else what lies near the current folder and what is known.

Commands that only read records import this; it reads no YAML.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adapters.config.environment_names import COMPOSE_FILES, SUFFIXES, environment_names
from models.failures import EnvironmentFileError
from models.settings import Settings, config_home

FILE = "roas.yaml"
"""The environment of one application, beside its Compose file."""

_OWN_FOLDER = "roas"
_LISTED = "environments"
_NAME = "[a-z0-9][a-z0-9_-]{0,62}"
_FIELD = re.compile(rf"^(name|project)[ \t]*:[ \t]+(['\"]?)({_NAME})\2[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_EXTENSION = re.compile(r"^x-roas[ \t]*:", re.MULTILINE)
_MOST_CHARACTERS = 256 * 1024


def environment_files(settings: Settings) -> dict[str, Path]:
    """All environment files by the environment's name; of two with one name the nearer.

    Raises:
        EnvironmentFileError: A place that is set does not exist or cannot be read.
    """
    if settings.config is not None:
        return _configured_files(settings.config)
    folder = chosen_folder(settings)
    if folder is not None:
        return _files_in_folder(folder)
    files: dict[str, Path] = {}
    file = nearest_file(Path.cwd())
    for more in (
        {} if file is None else {name_of(file): file},
        _files_in_folder(Path.cwd() / _OWN_FOLDER),
        _listed_files(settings),
        _files_in_folder(config_home()),
    ):
        files = more | files
    return files


def known_environments(settings: Settings) -> tuple[str, ...]:
    """The names of all environments, sorted. Raises EnvironmentFileError as `environment_files` does."""
    return tuple(sorted(environment_files(settings)))


def meant_environment(settings: Settings) -> tuple[str, Path] | None:
    """The environment that is meant where none is named, and its file: that of ROAS_CONFIG, else the nearest one.

    None where one folder of environments is chosen, or there is no such file.
    """
    if settings.config is not None:
        files = _configured_files(settings.config)
        return next(iter(files.items())) if len(files) == 1 else None
    if chosen_folder(settings) is not None:
        return None
    file = nearest_file(Path.cwd())
    return None if file is None else (name_of(file), file)


def chosen_folder(settings: Settings) -> Path | None:
    """The one folder that holds all environments: that of ROAS_ENVIRONMENTS_DIR, or of a checkout."""
    is_set = "environments_dir" in settings.model_fields_set
    return settings.environments_dir if is_set or settings.environments_dir.is_dir() else None


def nearest_file(folder: Path) -> Path | None:
    """The roas.yaml of a folder, else its Compose file if that has `x-roas`, or of the nearest parent up to the
    repository or the home folder.

    In a parent it counts only if it belongs to this user or root: it names programs that probes run.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises for a user without one
    for at in (folder, *folder.parents):
        with suppress(OSError):
            file = _own_file(at)
            if file is not None and (at == folder or file.stat().st_uid in _trusted_users()):
                return file
            if at == home or (at / ".git").exists():
                return None
    return None


def _own_file(folder: Path) -> Path | None:
    if (folder / FILE).is_file():
        return folder / FILE
    compose = next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
    return compose if compose is not None and is_compose_file(compose) else None


def is_compose_file(file: Path) -> bool:
    """Whether the file of an environment is a Compose file with `x-roas`. Raises OSError."""
    return _EXTENSION.search(_beginning(file)) is not None


def _beginning(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(_MOST_CHARACTERS)


def name_of(file: Path) -> str:
    """The name of the environment that a file holds by itself: its `name`, else its `project` in a roas.yaml, else that
    of the file or, of a roas.yaml or a Compose file, of its folder.
    """
    is_of_folder = file.name == FILE
    with suppress(OSError, ValueError):
        text = _beginning(file)
        fields = {match[1]: match[3] for match in _FIELD.finditer(text)}
        name = fields.get("name") or (fields.get("project") if is_of_folder else None)
        if name:
            return name
        is_of_folder = is_of_folder or _EXTENSION.search(text) is not None
    if not is_of_folder:
        return file.stem
    return re.sub(r"[^-_a-z0-9]", "", file.absolute().parent.name.lower()).lstrip("_-") or "app"


def no_environments(settings: Settings, name: str | None = None) -> EnvironmentFileError:
    """The error that there is no environment at all, also not the named one, with the places that were looked at."""
    folder = settings.config or chosen_folder(settings)
    if folder is not None:
        return EnvironmentFileError(
            f"There is no environment in {folder};", advice="put a NAME.yaml there, or set ROAS_ENVIRONMENTS_DIR."
        )
    return EnvironmentFileError(
        f"There is no environment{'' if name is None else f' {name!r}, nor any other'}. Looked for {places(settings)}.",
        advice="`roas init` beside a Compose file writes one; --config PATH names another place.",
    )


def places(settings: Settings) -> str:
    """The places that are looked at where no folder is chosen, in their order, for a message."""
    return (
        f"{FILE} in {Path.cwd()} and above, {_OWN_FOLDER}/*.yaml there, {config_home()}/*.yaml, "
        f"and files of earlier commands ({settings.data_dir.absolute() / _LISTED})"
    )


def remember_environment(name: str, settings: Settings) -> None:
    """List the file of an environment in the data folder, so that it is found from every folder.

    Files of a folder that is chosen, or of the user's own configuration, are found anyway.

    Raises:
        EnvironmentFileError: As for `remember_file`.
    """
    file = environment_files(settings).get(name)
    is_in_chosen = settings.config is None and chosen_folder(settings) is not None
    if file is not None and not is_in_chosen and file.parent != config_home():
        remember_file(name, file, settings)


def remember_file(name: str, file: Path, settings: Settings) -> None:
    """List a file in the data folder.

    Raises:
        EnvironmentFileError: Another file has an environment of this name, whose records would mix with its own, or
            the list cannot be written.
    """
    # Their import costs what a read command need not wait for.
    from adapters.host.private_files import make_private_folder, write_private

    file = file.absolute()
    refuse_taken_name(name, file, settings)
    listed = settings.data_dir.absolute() / _LISTED
    if _listed_files(settings).get(name) == file:
        return
    try:
        make_private_folder(settings.data_dir.absolute())
        make_private_folder(listed)
        write_private(listed / name, os.fsencode(f"{file}\n"))
    except OSError as error:
        raise EnvironmentFileError(
            f"{listed / name} cannot be written: {error.strerror}.", advice="Set ROAS_DATA_DIR to a folder of yours."
        ) from error


def refuse_taken_name(name: str, file: Path, settings: Settings) -> None:
    """Refuse a name that another existing file has in the list.

    Raises:
        EnvironmentFileError: It has; the message names that file.
    """
    other = _listed_files(settings).get(name)
    if other is not None and not _is_same(other, file):
        raise EnvironmentFileError(
            f"An environment {name!r} is known already, from {other}, and the records of both would mix.",
            advice=f"Give {file} another `name`, or remove {settings.data_dir.absolute() / _LISTED / name}.",
        )


def _is_same(path: Path, other: Path) -> bool:
    with suppress(OSError):
        return path.samefile(other)
    return path == other


def _trusted_users() -> tuple[int, ...]:
    behind_sudo = os.environ.get("SUDO_UID", "")
    return (0, os.geteuid(), *([int(behind_sudo)] if behind_sudo.isdecimal() else []))


def _configured_files(place: Path) -> dict[str, Path]:
    try:
        if place.is_file():
            return {name_of(place): place}
        if place.is_dir():
            file = place / FILE
            files = {name: path for name, path in _files_in_folder(place).items() if path != file}
            return ({name_of(file): file} if file.is_file() else {}) | files
    except OSError as error:
        raise EnvironmentFileError(f"{place} cannot be read: {error.strerror}.", advice="Correct --config.") from error
    raise EnvironmentFileError(
        f"{place} does not exist.", advice="Correct --config or ROAS_CONFIG: a file or a folder of environments."
    )


def _files_in_folder(folder: Path) -> dict[str, Path]:
    names = environment_names(folder)
    return {name: next(_candidates(folder, name)) for name in names}


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    yield from (path for path in paths if path.exists())
    yield paths[0]


def _listed_files(settings: Settings) -> dict[str, Path]:
    """The files in the data folder's list that still exist, by the name that each has now."""
    files: dict[str, Path] = {}
    folder = settings.data_dir.absolute() / _LISTED
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if re.fullmatch(_NAME, entry.name):
                with suppress(OSError):
                    file = Path(os.fsdecode(entry.read_bytes()).strip())
                    if file.is_file():
                        # Of NAME.yaml the name is that of the file, and of another that of the field.
                        files.setdefault(file.stem if file.parent.name == _OWN_FOLDER else name_of(file), file)
    return files
