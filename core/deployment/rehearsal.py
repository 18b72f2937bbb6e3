"""Decide what a copy of an application is given, so that it reaches neither production nor host nor network."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models.compose import Application
from models.containers import COPY_LABEL
from models.snapshots import FilesData

Document = dict[str, Any]

# What is not named here is left out: a key that a later Compose brings must not open a way out.
_GIVEN = frozenset(
    "attach command cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus "
    "cpuset depends_on domainname entrypoint environment expose extra_hosts group_add healthcheck hostname image init "
    "links mem_limit mem_reservation mem_swappiness memswap_limit oom_kill_disable pids_limit platform profiles "
    "read_only shm_size stdin_open stop_grace_period stop_signal sysctls tmpfs tty ulimits user "
    "working_dir cap_drop".split()
)
_TOLD = frozenset(
    "privileged devices device_cgroup_rules gpus runtime provider use_api_socket external_links userns_mode uts cgroup "
    "cgroup_parent credential_spec models".split()
)
_CAPABILITIES = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT "
    "IPC_LOCK SYS_NICE".split()
)
# By these a proxy that asks the engine would send production's requests to the copy.
_OF_PROXIES = ("VIRTUAL_", "LETSENCRYPT_")


class HostPath(StrEnum):
    """What a path of the host is that a service mounts."""

    FILE = "file"
    FOLDER = "folder"
    """Looked through: small enough to be copied, and without sockets and devices."""
    LARGE = "large"
    """The same, but too large to be copied."""
    MISSING = "missing"
    WITHHELD = "withheld"
    """A socket, a device, a folder that has one or was too much to look through, or the host's own."""


@dataclass(slots=True)
class ApplicationCopy:
    """The document of a copy; `folders` are what its volumes get a copy of, `notes` what it is not given, and why."""

    document: Document = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def copy_name(project: str) -> str:
    """The Compose project of the copy of a project."""
    return f"{project}-rehearsal"


def volume_of(source: str) -> str:
    """The key of the volume that stands for a folder of the host."""
    return f"roas-{hashlib.sha256(source.encode()).hexdigest()[:12]}"


def key_of_volume(data: FilesData, application: Application) -> str:
    """The key of the copy's volume that has the place of some files: a volume, or a folder of the host."""
    keys = (volume.key for volume in application.volumes if data.volume in (volume.key, volume.name))
    return next(keys, volume_of(data.volume))


def bound_paths(document: Document) -> frozenset[str]:
    """The paths of the host that services mount, also as configs and secrets."""
    mounts = [entry for body in (document.get("services") or {}).values() for entry in body.get("volumes") or ()]
    files = [body for part in ("configs", "secrets") for body in (document.get(part) or {}).values()]
    return frozenset(_source(entry) for entry in mounts if entry.get("type") == "bind") | {
        _plain(body["file"]) for body in files if body.get("file")
    }


def isolate(
    document: Document,
    project: str,
    images: Mapping[str, str],
    paths: Mapping[str, HostPath],
    restored: Collection[str] = (),
) -> ApplicationCopy:
    """What Compose rendered as a copy: own volumes, networks without a way out, no ports, nothing of the host to write.

    `images` are names of images by service. What `restored` names, services and folders, gets its data elsewhere.
    """
    copy, label = ApplicationCopy(), {COPY_LABEL: project}
    declared: Document = document.get("services") or {}
    files = {part: _files(document.get(part) or {}, paths) for part in ("configs", "secrets")}
    copy.notes += [f"{name} is no container and is left out" for name, body in declared.items() if body.get("provider")]
    # Traefik would route requests to a container whose image or name tells it to.
    given = {"labels": label | {"traefik.enable": "false"}, "restart": "no", "logging": {"driver": "json-file"}}
    services = {
        name: _service(name, body, copy, images, paths, restored)
        | {part: [entry for entry in body.get(part) or () if entry["source"] in files[part]] for part in files}
        | given
        for name, body in declared.items()
        if not body.get("provider")
    }
    mounted = {entry.get("source") for body in services.values() for entry in body["volumes"]}
    used = {network for body in services.values() for network in body.get("networks") or ()}
    volumes = sorted({*(document.get("volumes") or ()), *mounted} & {name for name in mounted if name})
    copy.document = {
        "name": copy_name(project),
        "services": services,
        "networks": {name: {"internal": True, "labels": label} for name in sorted(used)},
        "volumes": {name: {"name": f"{copy_name(project)}_{name}", "labels": label} for name in volumes},
        **files,
    }
    return copy


def with_only(now: Document, new: Document, only: Collection[str | None]) -> Document:
    """The copy of what runs with only these services changed, and with those that they need and that do not run."""
    services = now["services"] | {name: body for name, body in new["services"].items() if name in only}
    while lacking := {
        other for body in services.values() for other in body.get("depends_on") or () if other in new["services"]
    } - services.keys():
        services |= {name: new["services"][name] for name in lacking}
    whole = {part: now.get(part, {}) | new.get(part, {}) for part in ("networks", "volumes", "configs", "secrets")}
    kept = {
        name: body
        | {"depends_on": {other: how for other, how in (body.get("depends_on") or {}).items() if other in services}}
        for name, body in services.items()
    }
    return {"name": new["name"], "services": kept, **whole}


def verdict_of(problem: str, tried: Mapping[str, str], as_before: str) -> tuple[str, tuple[str, ...]]:
    """What a failed rehearsal means, in words, and which changes are to blame.

    `tried` is how each change alone ended, empty where it works; `as_before` how the version did that runs.
    """
    if as_before:
        return f"whether it would work is not known, as the version that runs fails in the copy too: {as_before}", ()
    culprits = tuple(name for name, how in tried.items() if how)
    if culprits:
        alone = "; ".join(f"{name} fails alone: {tried[name]}" for name in culprits)
        works = [name for name in tried if name not in culprits]
        return f"it would fail. {alone}{f'. Alone {_and(works)} would work' if works else ''}", culprits
    if tried:
        return f"it would fail: {problem}. Each change alone works, so they fail only together", ()
    return f"it would fail: {problem}", ()


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _service(
    name: str,
    body: Document,
    copy: ApplicationCopy,
    images: Mapping[str, str],
    paths: Mapping[str, HostPath],
    restored: Collection[str],
) -> Document:
    given = {key: value for key, value in body.items() if key in _GIVEN and value is not None}
    told = {key: str(key) for key in _TOLD if body.get(key)}
    mode, limits = str(body.get("network_mode") or ""), body.get("deploy") or {}
    if mode == "none" or mode.startswith("service:"):
        given["network_mode"] = mode
    else:
        told |= {mode: f"network_mode {mode}"} if mode else {}
        networks = body.get("networks") or {"default": None}
        given["networks"] = {key: {"aliases": (how or {}).get("aliases") or []} for key, how in networks.items()}
    for key in ("pid", "ipc"):
        if (space := str(body.get(key) or "")).startswith(("service:", "shareable", "private")):
            given[key] = space
        elif space:
            told[key] = f"{key} {space}"
    added = {entry.removeprefix("CAP_") for entry in body.get("cap_add") or ()}
    given["cap_add"] = sorted(added & _CAPABILITIES)
    told |= {entry: f"capability {entry}" for entry in added - _CAPABILITIES}
    given["security_opt"] = [entry for entry in body.get("security_opt") or () if "no-new-privileges" in entry]
    given["volumes_from"] = [other for other in body.get("volumes_from") or () if not other.startswith("container:")]
    given["volumes"] = [
        mount for entry in body.get("volumes") or () if (mount := _mount(name, entry, copy, paths, restored))
    ]
    environment = given.get("environment") or {}
    given["environment"] = {key: value for key, value in environment.items() if not key.startswith(_OF_PROXIES)}
    resources = {
        kind: {key: value for key, value in how.items() if key != "devices"}
        for kind, how in (limits.get("resources") or {}).items()
    }
    replicas = limits.get("replicas") if body.get("scale") is None else body["scale"]
    given["deploy"] = {"resources": resources, "replicas": min(1, 1 if replicas is None else int(replicas))}
    copy.notes += [f"{name} is not given {', '.join(sorted(told.values()))}"] if told else []
    return given | {"image": images.get(name, body.get("image")), "pull_policy": "never" if name in images else "missing"}


def _files(section: Document, paths: Mapping[str, HostPath]) -> Document:
    withheld = {path for path, kind in paths.items() if kind is HostPath.WITHHELD}
    return {key: body for key, body in section.items() if _plain(str(body.get("file") or "")) not in withheld}


def _source(entry: Document) -> str:
    return _plain(str(entry.get("source") or ""))


def _plain(text: str) -> str:
    # Compose doubles every dollar sign of what it prints.
    return text.replace("$$", "$")


def _mount(
    name: str, entry: Document, copy: ApplicationCopy, paths: Mapping[str, HostPath], restored: Collection[str]
) -> Document | None:
    kind, source, read_only = entry.get("type"), _source(entry), bool(entry.get("read_only"))
    if kind in ("tmpfs", "image"):
        return entry
    if kind == "volume":
        return {key: entry[key] for key in ("type", "source", "target", "read_only") if entry.get(key)}
    if kind != "bind":
        copy.notes.append(f"{name} is not given its {kind} at {entry.get('target')}")
        return None
    path, is_restored = paths.get(source, HostPath.WITHHELD), name in restored or source in restored
    if path is HostPath.FILE or (read_only and path in (HostPath.FOLDER, HostPath.LARGE)):
        bind = {"create_host_path": False}
        return {"type": "bind", "source": entry["source"], "target": entry["target"], "read_only": True, "bind": bind}
    if not is_restored and path is HostPath.FOLDER:
        copy.folders[volume_of(source)] = source
    elif not is_restored and path is not HostPath.MISSING:
        why = "it is too large to be copied" if path is HostPath.LARGE else "it may lead to production or the host"
        copy.notes.append(f"{name} has an empty folder for {source}: {why}")
    return {"type": "volume", "source": volume_of(source), "target": entry["target"], "read_only": read_only}
