"""Decide which mounted files a release keeps copies of, and mount them where a rollback applies the release.

A copy takes the place of the file until the next start. So what changes by itself is never taken for configuration:
what a container may write, certificates, and files of the host. What is in doubt is not kept.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from models.compose import Application, MountKind
from models.containers import COPIES_LABEL, RELEASE_HASH_LABEL, ContainerState

MOST_BYTES = 1024 * 1024
"""Of a file, or of all files of a folder."""
MOST_FILES = 200

_OF_THE_HOST = ("/dev", "/proc", "/run", "/sys", "/var/run")
_CONFIGURATION = re.compile(
    r"(?i)^/(usr/local/)?etc/.*(?<!\.json)$|\.(cfg|cnf|conf|ini|properties|template|tmpl|toml|vcl)$|/Caddyfile$"
)
"""Where programs read their configuration and do not write. JSON is often written, such as Traefik's acme.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """A file, folder or link as a release keeps it; `path` is relative to what is mounted, empty for that itself.

    `data` is None for folders and links. It may be a secret: it belongs in no store and no log.
    """

    path: str
    mode: int
    uid: int
    gid: int
    data: bytes | None = field(default=None, repr=False)
    link: str | None = None


def is_file_of_host(path: str) -> bool:
    """Whether the key of a release's fingerprints is a mounted file or folder."""
    return path.startswith("/")


def why_not_configuration(path: str, application: Application, *, is_folder: bool) -> str:
    """Why a mounted file or folder may be other than configuration, by how it is declared; empty where it is that."""
    place = PurePosixPath(path)
    if any(place.is_relative_to(folder) for folder in _OF_THE_HOST) or str(place.parent) == "/etc":
        return "it belongs to the host"
    for service in application.services.values():
        for mount in service.mounts:
            if mount.kind is not MountKind.BIND or mount.read_only:
                continue
            source = PurePosixPath(mount.source)
            if source == place:
                writes = is_folder or not _CONFIGURATION.search(mount.target)
            else:
                writes = place.is_relative_to(source) or source.is_relative_to(place)
            if writes:
                return f"{service.name} may write to it; if it only reads it, mount it read-only (:ro)"
    return ""


def why_unfit(entries: Sequence[KeptEntry]) -> str:
    """Why the content of a mounted file or folder is no configuration; empty where it is."""
    contents = [entry.data for entry in entries if entry.data is not None]
    if any(b"-----BEGIN " in content for content in contents):
        return "it holds a certificate or key, which is renewed by itself"
    if any(b"\0" in content for content in contents):
        return "it is not text"
    return ""


def services_by_mount(application: Application) -> dict[str, frozenset[str]]:
    """The services that mount each file or folder of the host."""
    services_by_path: dict[str, set[str]] = {}
    for service in application.services.values():
        for mount in service.mounts:
            if mount.kind is MountKind.BIND:
                services_by_path.setdefault(mount.source, set()).add(service.name)
    for file in application.files:
        services_by_path.setdefault(file.path, set()).update(file.services)
    return {path: frozenset(services) for path, services in services_by_path.items()}


def with_copies(
    document: dict[str, Any], application: Application, copies: Mapping[str, str], hashes: Mapping[str, str]
) -> dict[str, Any]:
    """A release's configuration that mounts copies, by the path of the file of which each is one.

    `application` is what the configuration declares, and `hashes` are the release's. A label tells each container
    whose place it takes, so that it counts as the release's own and the next start replaces it.
    """
    whole = copy.deepcopy(document)
    replaced: dict[str, dict[str, str]] = {}
    for name, service in application.services.items():
        bound = [mount for mount in service.mounts if mount.kind is MountKind.BIND and mount.source in copies]
        sources = {mount.target: mount.source for mount in bound}
        for mount in whole["services"][name].get("volumes") or ():
            if isinstance(mount, dict) and (source := sources.get(str(mount.get("target")))) is not None:
                mount["source"] = _literal(copies[source])
                # An engine that does not see it makes no empty folder in its place.
                mount["bind"] = {**(mount.get("bind") or {}), "create_host_path": False}
                replaced.setdefault(name, {})[source] = copies[source]
    for file in application.files:
        section = whole.get(f"{file.kind}s") or {}
        if file.path in copies and isinstance(section.get(file.key), dict):
            section[file.key]["file"] = _literal(copies[file.path])
            for name in file.services:
                replaced.setdefault(name, {})[file.path] = copies[file.path]
    for name, service_copies in replaced.items():
        service = whole["services"][name]
        labels = service.get("labels") or {}
        added = {key: _literal(value) for key, value in copy_labels(hashes.get(name, ""), service_copies).items()}
        if isinstance(labels, dict):
            service["labels"] = labels | added
        else:
            service["labels"] = [*labels, *(f"{key}={value}" for key, value in added.items())]
    return whole


def copy_labels(config_hash: str, copies: Mapping[str, str]) -> dict[str, str]:
    """The labels of a container that mounts copies: the hash of the configuration it stands for, and which."""
    return {RELEASE_HASH_LABEL: config_hash, COPIES_LABEL: json.dumps(dict(sorted(copies.items())))}


def copies_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The copies that a container mounts, by the path of the file of which each is one."""
    try:
        copies = json.loads(labels.get(COPIES_LABEL) or "{}")
    except ValueError:
        return {}
    if not isinstance(copies, dict):
        return {}
    return {path: copy_path for path, copy_path in copies.items() if isinstance(copy_path, str)}


def copies_of_document(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The files of which the services of a configuration mount copies, by service."""
    paths_by_service = {}
    for name, service in (document.get("services") or {}).items():
        labels = service.get("labels") or {}
        if not isinstance(labels, dict):
            labels = dict(label.partition("=")[::2] for label in labels)
        if copies := copies_of(labels):
            paths_by_service[name] = tuple(copies)
    return paths_by_service


def with_mounted_copies(reported: dict[str, Any], copies: Mapping[str, str]) -> dict[str, Any]:
    """The engine's description of a container that mounts copies; unchanged where it mounts none of these files."""
    labels = reported["Config"].get("Labels") or {}
    sources = {mount.get("Source") for mount in reported.get("Mounts") or ()}
    if not (mounted_copies := {path: copy_path for path, copy_path in copies.items() if path in sources}):
        return reported
    stands_for = labels.get(RELEASE_HASH_LABEL) or labels.get("com.docker.compose.config-hash", "")
    # What it mounts copies of already was proven with them.
    added_labels = copy_labels(stands_for, copies_of(labels) | mounted_copies)
    return remount(reported, mounted_copies) | {"Config": reported["Config"] | {"Labels": labels | added_labels}}


def remount(reported: dict[str, Any], copies: Mapping[str, str]) -> dict[str, Any]:
    """The engine's description of a container with other sources for what it mounts from the host."""

    def remount_bind(bind: str) -> str:
        source, _, target = bind.partition(":")
        return f"{copies.get(source, source)}:{target}" if target else bind

    def remount_mount(mount: dict[str, Any]) -> dict[str, Any]:
        return mount | {"Source": copies.get(mount.get("Source", ""), mount.get("Source", ""))}

    host = reported["HostConfig"]
    return reported | {
        "HostConfig": host
        | {
            "Binds": [remount_bind(bind) for bind in host.get("Binds") or ()],
            "Mounts": [remount_mount(mount) for mount in host.get("Mounts") or ()],
        },
        "Mounts": [
            remount_mount(mount) if mount.get("Type") == "bind" else mount for mount in reported.get("Mounts") or ()
        ],
    }


def copies_by_service(container_states: Sequence[ContainerState]) -> dict[str, tuple[str, ...]]:
    """The files of which services mount copies, by service."""
    return {container.service: tuple(container.copies) for container in container_states if container.copies}


def copies_in_words(copied: Mapping[str, Sequence[str]]) -> str:
    """Which services run with a release's copies, as a sentence; empty where none does."""
    if not copied:
        return ""
    parts = [f"{name} with that of {', '.join(sorted(paths))}" for name, paths in sorted(copied.items())]
    return f"copies that the release kept are mounted: {', '.join(parts)}; the next start mounts the files on disk"


def _literal(text: str) -> str:
    """Text in which Compose finds no variable."""
    return text.replace("$", "$$")
