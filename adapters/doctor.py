"""Gather what `roas doctor` judges: programs, engine, data folder, server and secrets. It changes nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from itertools import islice
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from adapters.compose.cli import ComposeCli
from adapters.compose.variables import missing_secrets, process_environment
from adapters.config.environments import declared_environment
from adapters.docker.engine import DockerEngine
from adapters.host.listeners import listening_users
from adapters.host.machine import sample_host
from adapters.server.workers import server_facts
from adapters.snapshots.restic import restic_problem
from adapters.stores.sqlite_file import known_fault
from models.containers import EngineInfo, SystemSample
from models.doctor import DataFolder, EnvironmentFacts, InstalledProgram, OpenFile, ServerFacts
from models.environments import Environment
from models.failures import EnginePermissionError, RoasError
from models.settings import Settings
from models.validation import Trouble

_OPEN, _ENTER = 0o077, 0o011
_MOST_FILES = 5000
_PACKAGE = "roas-ops"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine, Compose and the machine with the engine's disk, as far as they answer."""

    address: str
    engine: EngineInfo | Trouble
    refused: bool
    compose_version: str | Trouble
    clock_offset: timedelta | None
    host: SystemSample | None


def installed_programs() -> tuple[InstalledProgram, ...]:
    """Python and Prefect, with the versions that this program's package requires, and SQLite."""
    try:
        package = metadata.metadata(_PACKAGE)
        python = package["Requires-Python"] or ""
        needed = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        # Run from a checkout that is not installed.
        python, needed = "", []
    return (
        _find_installed("Python", platform.python_version(), python),
        _find_installed("Prefect", _version("prefect"), _requirement("prefect", needed)),
        InstalledProgram(
            name="SQLite",
            version=sqlite3.sqlite_version,
            known_fault=known_fault(),
            avoided_by="let other programs only read the stores: ours write one after the other",
        ),
    )


def _find_installed(name: str, version: str | None, required: str) -> InstalledProgram:
    fits = version is not None and SpecifierSet(required).contains(version, prereleases=True)
    return InstalledProgram(name=name, version=version, required=required, fits=fits)


def _version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _requirement(name: str, needed: Iterable[str]) -> str:
    for line in needed:
        with suppress(InvalidRequirement):
            requirement = Requirement(line)
            if requirement.name == name:
                return str(requirement.specifier)
    return ""


def engine_facts(environment: Environment) -> EngineFacts:
    """Ask the engine of an environment and Compose, side by side."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        version = pool.submit(_compose_version, environment)
        with closing(DockerEngine(environment.engine)) as engine:
            info, refused = _engine_info(engine)
        asked_at = datetime.now(UTC)
        is_local = environment.engine.startswith("unix://")
        folder = "/" if isinstance(info, Trouble) else info.root_folder or "/"
        return EngineFacts(
            address=environment.engine,
            engine=info,
            refused=refused,
            compose_version=version.result(),
            clock_offset=None if isinstance(info, Trouble) or not info.system_time else info.system_time - asked_at,
            host=sample_host(Path(folder), asked_at) if is_local else None,
        )


def _engine_info(engine: DockerEngine) -> tuple[EngineInfo | Trouble, bool]:
    try:
        return engine.info(), False
    except RoasError as error:
        return Trouble(what=error.what, advice=error.advice), isinstance(error, EnginePermissionError)


def _compose_version(environment: Environment) -> str | Trouble:
    try:
        return ComposeCli(environment, process_environment(environment, os.environ)).version()
    except RoasError as error:
        return Trouble(what=error.what, advice=error.advice)


def data_folder(path: Path) -> DataFolder:
    """The data folder, the space on its disk, and the files in it that others may read."""
    folder = path.absolute()
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    disk = os.statvfs(there)
    exists = folder.is_dir()
    return DataFolder(
        path=path,
        exists=exists,
        writable=os.access(there, os.W_OK | os.X_OK),
        free_bytes=disk.f_bavail * disk.f_frsize,
        exposed=tuple(_exposed_files(folder)) if exists else (),
    )


def _exposed_files(folder: Path) -> Iterator[OpenFile]:
    """The folder itself if it is not private; only then can others reach the files in it, which are listed too."""
    open_folder = exposed_file(folder)
    if open_folder is None:
        return
    yield open_folder
    for path in islice(folder.iterdir(), _MOST_FILES):
        if (open_file := exposed_file(path)) is not None:
            yield open_file


def exposed_file(path: Path) -> OpenFile | None:
    """A file or folder that others may read or that belongs to another user than this one and root, else None."""
    try:
        state = path.stat()
    except OSError:
        # Another process may have removed it; one that is missing is reported as such.
        return None
    mode = stat.S_IMODE(state.st_mode)
    if not mode & _OPEN and state.st_uid in (os.geteuid(), 0):
        return None
    return OpenFile(path=path, mode=mode, owner=state.st_uid, is_folder=path.is_dir())


def _is_closed(folder: Path) -> bool:
    try:
        return not folder.stat().st_mode & _ENTER
    except OSError:
        return False


def inspect_server(settings: Settings) -> ServerFacts:
    """The Prefect server that commands use: the one that PREFECT_API_URL names, else a `roas serve` of this machine."""
    if url := os.environ.get("PREFECT_API_URL"):
        return server_facts(url, os.environ.get("PREFECT_API_AUTH_STRING"))
    if not listening_users(settings.server_port):
        return ServerFacts()
    # Without a password, which a program of another user there must not get.
    facts = server_facts(f"http://127.0.0.1:{settings.server_port}/api", None, with_workers=False)
    return ServerFacts(url=facts.url, problem=facts.problem, is_served_here=True)


def inspect_environment_file(
    name: str, settings: Settings, watched_at: datetime | None
) -> tuple[EnvironmentFacts, Environment | None]:
    """An environment's file and secrets, and the environment itself if its file can be used."""
    try:
        environment = declared_environment(name, settings)
        missing = missing_secrets(environment)
    except RoasError as error:
        return EnvironmentFacts(name=name, problem=Trouble(what=error.what, advice=error.advice)), None
    files = [secret.file for secret in environment.secrets if secret.file is not None]
    # In a folder that others may not enter, a file's own mode exposes nothing.
    reachable = [file for file in files if not _is_closed(file.parent)]
    exposed = [open_file for file in reachable if (open_file := exposed_file(file)) is not None]
    facts = EnvironmentFacts(
        name=name,
        missing_secrets=missing,
        exposed_secrets=tuple(exposed),
        watched_at=watched_at,
        restic_problem=restic_problem() if environment.data is not None else "",
    )
    return facts, environment
