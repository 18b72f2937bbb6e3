"""Mounted files of releases: keep those that are configuration, and mount the copies where the disk has others now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from adapters.docker.scratch import why_not_mounted
from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import KeptFiles, kept_environments, read_entries, time_of_change
from core.deployment.kept_files import KeptEntry, is_file_of_host, why_not_configuration, why_unfit
from models.compose import Application, Plan
from models.environments import Environment
from models.records import Release
from models.settings import current_settings
from tasks.deployment.kept_values import copy_out, values_digest
from tasks.runtime.project import Project
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesToMount:
    """The copies to mount where files differ now from those of a release.

    `copies` are paths of copies by the path of the file; `lacking` are the files of which there is no copy that could
    be mounted.
    """

    copies: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()


def kept_digests(environment: Environment) -> frozenset[str]:
    """The fingerprints of the files of which an environment has copies to mount."""
    return _kept_files(environment).digests() if _are_kept(environment) else frozenset()


def keep_files(project: Project, application: Application, release: Release, began: datetime) -> None:
    """Seal the mounted files of a release that was just proven; the operation began then.

    Only what is as it was when it was proven is kept. A release is none the worse for a file that cannot be kept.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    prints = Fingerprints(current_settings().data_dir)
    kept_files = _kept_files(project.environment)
    if not current_settings().keep_files:
        kept_files.sweep_sealed((), at_once=True)
    elif _are_kept(project.environment):
        for path, digest in release.files.items():
            if not is_file_of_host(path) or prints.is_of_checkout(Path(path)):
                continue
            entries = _read(Path(path), application)
            if isinstance(entries, str):
                log.debug("release %s keeps no copy of %s: %s", release.release_id, path, entries)
                continue
            try:
                # Another content than at the beginning may not be the one that was proven.
                if prints.fingerprint_path(Path(path)) == digest and time_of_change(Path(path)) < began.timestamp():
                    kept_files.seal(digest, entries)
            except OSError as error:
                log.warning("release %s keeps no copy of %s: %s", release.release_id, path, error.strerror)
    if kept_files.has_copies():
        kept_files.sweep_copies(project.engine.containers.mounted_copies())


def sweep_kept_files() -> None:
    """Remove the files that no release of their environment has named for a while.

    Raises:
        StoreError: The releases cannot be read.
    """
    data_dir, releases = current_settings().data_dir, open_stores().releases
    prints = Fingerprints(data_dir)
    for environment in kept_environments(data_dir):
        named = {
            digest
            for files, variables in releases.fingerprints(environment)
            for digest in (*files.values(), *variables.values(), values_digest(prints, files, variables))
        }
        KeptFiles(data_dir, environment, prints).sweep_sealed(named)


def with_lacking_copies(
    environment: Environment,
    application: Application,
    planned: Plan,
    last: Release,
    changed: Mapping[str, Sequence[str]],
) -> Plan:
    """The plan with a note where a file changed of which the release before has no copy to go back to."""
    digests = kept_digests(environment)
    lines = []
    for line in planned.services:
        lacking = [path for path in changed.get(line.service, ()) if last.files[path] not in digests]
        lacking = [path for path in lacking if is_file_of_host(path) and not _is_of_checkout(path)]
        notes = [
            f"release {last.release_id} keeps no copy of {path} ({_why_none(environment, application, path)}), so a "
            "rollback would mount it as it is then"
            for path in lacking
        ]
        lines.append(replace(line, note="; ".join(filter(None, (line.note, *notes)))))
    return replace(planned, services=tuple(lines))


def files_to_mount(project: Project, release: Release) -> FilesToMount:
    """Unseal the files of a release that differ from those on disk, which are left as they are.

    Raises:
        EngineUnreachableError: The engine did not answer.
    """
    if project.environment.is_remote:
        # The paths are of another machine, and nothing is known of its files.
        return FilesToMount()
    prints, kept_files = Fingerprints(current_settings().data_dir), _kept_files(project.environment)
    copies: dict[str, str] = {}
    lacking: list[str] = []
    for path, digest in release.files.items():
        original = Path(path)
        if not is_file_of_host(path) or prints.is_of_checkout(original):
            continue
        if prints.fingerprint_path(original) == digest and not kept_files.differs(digest, original):
            continue
        copy = copy_out(kept_files, digest, original) if current_settings().keep_files else None
        if copy is None:
            lacking.append(path)
        else:
            copies[path] = str(copy)
    if copies and (why := _why_unseen(project, release, [*copies.values()])):
        log.warning("copies of release %s cannot be mounted: %s", release.release_id, why)
        lacking += copies
        copies = {}
    return FilesToMount(copies=copies, lacking=tuple(sorted(lacking)))


def _why_unseen(project: Project, release: Release, paths: Sequence[str]) -> str:
    engine = project.engine
    images = engine.images.inspect_all(set(release.images.values()))
    # Without an image the engine makes no container, and the release cannot be applied anyway.
    image = next((image_id for image_id, fact in images.items() if fact is not None), None)
    return "" if image is None else why_not_mounted(engine, paths, image, project.environment.project)


def _are_kept(environment: Environment) -> bool:
    return current_settings().keep_files and not environment.is_remote


def _kept_files(environment: Environment) -> KeptFiles:
    data_dir = current_settings().data_dir
    return KeptFiles(data_dir, environment.name, Fingerprints(data_dir))


def _is_of_checkout(path: str) -> bool:
    return Fingerprints(current_settings().data_dir).is_of_checkout(Path(path))


def _read(path: Path, application: Application) -> tuple[KeptEntry, ...] | str:
    """What is mounted, or why it is not kept."""
    why = why_not_configuration(str(path), application, is_folder=path.is_dir())
    if why:
        return why
    try:
        entries = read_entries(path)
    except OSError as error:
        return error.strerror or str(error)
    return why_unfit(entries) or entries


def _why_none(environment: Environment, application: Application, path: str) -> str:
    if not current_settings().keep_files:
        return "ROAS_KEEP_FILES is off"
    if environment.is_remote:
        return "it is on the engine's machine"
    entries = _read(Path(path), application)
    return entries if isinstance(entries, str) else "it was kept by no release yet"
