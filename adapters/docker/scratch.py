"""Scratch containers: copies of a service's container with empty volumes and no network, to try things in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from docker.errors import NotFound

from adapters.docker.containers import ContainerSnapshot
from adapters.docker.engine import DockerEngine
from models.compose import InjectedFile

_KEPT = ("Memory", "MemorySwap", "NanoCpus", "ShmSize", "Tmpfs", "Ulimits", "SecurityOpt", "CapAdd", "CapDrop", "Init")


_KEPT_LABELS = ("com.docker.compose.project", "com.docker.compose.service", "com.docker.compose.container-number")


@contextmanager
def scratch_container(
    engine: DockerEngine, original: ContainerSnapshot, label: tuple[str, str], files: tuple[InjectedFile, ...] = ()
) -> Iterator[str]:
    """A container like another one but for volumes, which are new and empty, and networks and ports, of which it has
    none; it is not started. It is removed with its volumes at the end.

    Raises:
        EngineError: The engine cannot make it.
    """
    body = scratch_body(original.reported, label)
    with engine.translate_errors(f"making a copy of container {original.name}"):
        container = str(engine.changing.create_container_from_config(body, None)["Id"])
    try:
        with engine.translate_errors(f"preparing a copy of container {original.name}"):
            for file in files:
                engine.containers.put_file(container, file)
        yield container
    finally:
        with engine.translate_errors("removing a container for a rehearsal"), suppress(NotFound):
            engine.changing.remove_container(container, v=True, force=True)


def scratch_body(reported: dict[str, Any], label: tuple[str, str]) -> dict[str, Any]:
    """The engine's request for such a copy. Mounts that the original may only read stay; others become volumes."""
    config, host = dict(reported["Config"]), reported["HostConfig"]
    kept: list[dict[str, Any]] = []
    fresh: dict[str, dict[str, str]] = {}
    for mount in reported.get("Mounts") or ():
        if mount["Type"] == "bind" and not mount["RW"]:
            kept.append({"Type": "bind", "Source": mount["Source"], "Target": mount["Destination"], "ReadOnly": True})
        elif mount["Type"] != "tmpfs":
            fresh[mount["Destination"]] = {}
    for name in ("Hostname", "Domainname", "ExposedPorts", "MacAddress"):
        config.pop(name, None)
    # To Compose and to us it is a one-off container of the project, as of `docker compose run`: no service counts it,
    # and `docker compose down` removes it. The broker in front of an engine allows none without a project.
    labels = {name: value for name, value in (config.get("Labels") or {}).items() if name in _KEPT_LABELS}
    return config | {
        "Labels": labels | {"com.docker.compose.oneoff": "True", label[0]: label[1]},
        "Volumes": fresh,
        "HostConfig": {name: host[name] for name in _KEPT if host.get(name)}
        | {"Mounts": kept, "NetworkMode": "none", "RestartPolicy": {"Name": "no"}},
    }


def host_path(original: ContainerSnapshot, path: str) -> Path | None:
    """Where a file of a container lies on the engine's host; None where it is in no volume or folder of it."""
    wanted = PurePosixPath(path)
    mounts = sorted(original.reported.get("Mounts") or (), key=lambda one: len(one["Destination"]), reverse=True)
    for mount in mounts:
        if wanted.is_relative_to(mount["Destination"]) and mount.get("Source"):
            return Path(mount["Source"], wanted.relative_to(mount["Destination"]))
    return None
