"""Scratch containers: copies of a service's container with empty volumes and no network, to try things in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from docker.errors import NotFound

from adapters.docker.containers import ContainerSnapshot
from adapters.docker.engine import DockerEngine
from models.compose import InjectedFile
from models.containers import COPY_LABEL, ONE_OFF_LABEL
from models.failures import EngineError, EngineUnreachableError

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
    with dockerfile_lines(engine, original.name, scratch_body(original.reported, label), None, files) as container:
        yield container


@contextmanager
def dockerfile_lines(
    engine: DockerEngine,
    original: str,
    body: dict[str, Any],
    name: str | None,
    files: Sequence[InjectedFile] = (),
) -> Iterator[str]:
    """A container that the engine makes of a request, which is not started and is removed at the end.

    `original` is the name of the one that it is a copy of.

    Raises:
        EngineError: The engine cannot make it.
    """
    with engine.translate_errors(f"making a copy of container {original}"):
        if name is not None:
            with suppress(NotFound):
                engine.change_client.remove_container(name, v=True, force=True)
        container = str(engine.change_client.create_container_from_config(body, name)["Id"])
    try:
        with engine.translate_errors(f"preparing a copy of container {original}"):
            for file in files:
                engine.containers.put_file(container, file)
        yield container
    finally:
        with engine.translate_errors(f"removing a copy of container {original}"), suppress(NotFound):
            engine.change_client.remove_container(container, v=True, force=True)


def why_not_mounted(engine: DockerEngine, paths: Sequence[str], image: str, project: str) -> str:
    """Why the engine cannot mount these paths of this machine, in its words; empty where it can.

    Its host may be another machine, or this program be in a container; a broker before it may forbid them.

    Raises:
        EngineUnreachableError: It did not answer.
    """
    mounts = [
        {"Type": "bind", "Source": path, "Target": f"/{number}", "ReadOnly": True} for number, path in enumerate(paths)
    ]
    body = {
        "Image": image,
        "Entrypoint": ["true"],
        "Labels": {_KEPT_LABELS[0]: project, ONE_OFF_LABEL: "True"},
        "HostConfig": {"NetworkMode": "none", "Mounts": mounts},
    }
    try:
        with dockerfile_lines(engine, project, body, f"{project}-roas-mounts"):
            return ""
    except EngineUnreachableError:
        raise
    except EngineError as error:
        return error.what


def scratch_body(reported: dict[str, Any], label: tuple[str, str]) -> dict[str, Any]:
    """The engine's request for such a copy. Mounts that the original may only read stay; others become volumes."""
    config, host = dict(reported["Config"]), reported["HostConfig"]
    mounts: list[dict[str, Any]] = []
    fresh: dict[str, dict[str, str]] = {}
    for mount in reported.get("Mounts") or ():
        if mount["Type"] == "bind" and not mount["RW"]:
            mounts.append({"Type": "bind", "Source": mount["Source"], "Target": mount["Destination"], "ReadOnly": True})
        elif mount["Type"] != "tmpfs":
            fresh[mount["Destination"]] = {}
    for name in ("Hostname", "Domainname", "ExposedPorts", "MacAddress"):
        config.pop(name, None)
    # To Compose and to us it is a one-off container of the project, as of `docker compose run`: no service counts it,
    # and `docker compose down` removes it. The broker in front of an engine allows none without a project.
    labels = {name: value for name, value in (config.get("Labels") or {}).items() if name in _KEPT_LABELS}
    return config | {
        "Labels": labels | {ONE_OFF_LABEL: "True", label[0]: label[1]},
        "Volumes": fresh,
        "HostConfig": {name: host[name] for name in _KEPT if host.get(name)}
        | {"Mounts": mounts, "NetworkMode": "none", "RestartPolicy": {"Name": "no"}},
    }


def checking_body(
    reported: dict[str, Any], label: tuple[str, str], image: str, command: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """The engine's request for a copy that runs a command: it may read all that the original mounts, and write nothing.

    `image` takes the place of the original's. The `names` of other services mean the copy itself.
    """
    body = scratch_body(reported, label)
    mounts = [
        {
            "Type": mount["Type"],
            "Source": mount["Name"] if mount["Type"] == "volume" else mount["Source"],
            "Target": mount["Destination"],
            "ReadOnly": True,
        }
        for mount in reported.get("Mounts") or ()
        if mount["Type"] in ("bind", "volume")
    ]
    host = body["HostConfig"] | {"Mounts": mounts, "ExtraHosts": [f"{name}:127.0.0.1" for name in names]}
    return body | {
        "Image": image,
        "Entrypoint": list(command[:1]),
        "Cmd": list(command[1:]),
        "Healthcheck": {"Test": ["NONE"]},
        "Volumes": {},
        "HostConfig": host,
    }


def copy_images(project: str) -> str:
    """The repository of the names of the images that are built for a copy of a project."""
    return f"roas-rehearsal/{project}"


def remove_copy(engine: DockerEngine, project: str) -> None:
    """Remove the copy of a project: containers, networks and volumes that have its label, and what mounts its volumes.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    client, label = engine.change_client, {"label": [f"{COPY_LABEL}={project}"]}
    with engine.translate_errors(f"removing the copy of {project}"):
        volumes = [volume["Name"] for volume in client.volumes(filters=label).get("Volumes") or ()]
        helpers = client.containers(all=True, filters={"volume": volumes}) if volumes else []
        removals = [
            partial(client.remove_container, found["Id"], v=True, force=True)
            for found in (*client.containers(all=True, filters=label), *helpers)
        ]
        removals += [partial(client.remove_network, network["Id"]) for network in client.networks(filters=label)]
        for remove in (*removals, *(partial(client.remove_volume, volume, force=True) for volume in volumes)):
            with suppress(NotFound):
                remove()


def host_path(original: ContainerSnapshot, path: str) -> Path | None:
    """Where a file of a container lies on the engine's host; None where it is in no volume or folder of it."""
    target = PurePosixPath(path)
    mounts = sorted(original.reported.get("Mounts") or (), key=lambda mount: len(mount["Destination"]), reverse=True)
    for mount in mounts:
        if target.is_relative_to(mount["Destination"]) and mount.get("Source"):
            return Path(mount["Source"], target.relative_to(mount["Destination"]))
    return None
