"""Decide what a copy of an application is given, so that it reaches neither production nor host nor network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from models.compose import Application
from models.containers import COPY_LABEL

Document = dict[str, Any]

# What is not named here is left out: a key that a later Compose brings must not open a way out.
_GIVEN = re.compile(
    "attach|cap_drop|command|cpu_count|cpu_percent|cpu_period|cpu_quota|cpu_shares|cpus|cpuset|depends_on|domainname"
    "|entrypoint|expose|extra_hosts|group_add|healthcheck|hostname|image|init|links|mem_limit|mem_reservation"
    "|mem_swappiness|memswap_limit|pids_limit|platform|profiles|read_only|shm_size|stdin_open|stop_grace_period"
    "|stop_signal|sysctls|tmpfs|tty|ulimits|user|working_dir"
)
_NOT_MISSED = re.compile(
    "build|cap_add|configs|container_name|deploy|develop|env_file|environment|ipc|labels|label_file|logging|mac_address"
    "|network_mode|networks|pid|ports|pull_policy|restart|scale|secrets|security_opt|volumes|volumes_from"
)
_CAPABILITIES = re.compile(
    "(?:CAP_)?(?:AUDIT_WRITE|CHOWN|DAC_OVERRIDE|FOWNER|FSETID|IPC_LOCK|KILL|NET_BIND_SERVICE|SETFCAP|SETGID|SETPCAP"
    "|SETUID|SYS_CHROOT|SYS_NICE)"
)
_SPACES, _OWN_SPACES = ("network_mode", "pid", "ipc"), ("service:", "none", "private", "shareable")
_ALLOWED: dict[str, Callable[[str], bool]] = {
    "cap_add": lambda entry: _CAPABILITIES.fullmatch(entry) is not None,
    "security_opt": lambda entry: entry.startswith("no-new-privileges"),
    "volumes_from": lambda entry: not entry.startswith("container:"),
}
# By these a proxy that asks the engine would send production's requests to the copy.
_OF_PROXIES = ("VIRTUAL_", "LETSENCRYPT_")


def copy_name(project: str) -> str:
    """The Compose project of the copy of a project."""
    return f"{project}-rehearsal"


def volume_of(data: str, application: Application | None = None) -> str:
    """The key of the copy's volume that stands for a volume, by its key or name, or for a folder of the host."""
    volumes = application.volumes if application is not None else ()
    keys = (volume.key for volume in volumes if data in (volume.key, volume.name))
    return next(keys, f"roas-{hashlib.sha256(data.encode()).hexdigest()[:12]}")


def bound_paths(document: Document) -> frozenset[str]:
    """The paths of the host that services mount, also as configs and secrets."""
    mounts = [entry for body in document["services"].values() for entry in body.get("volumes") or ()]
    files = [body for part in ("configs", "secrets") for body in (document.get(part) or {}).values()]
    binds = (entry["source"] for entry in mounts if entry.get("type") == "bind")
    return frozenset(_plain(path) for path in (*binds, *(body["file"] for body in files if body.get("file"))))


def isolate(
    document: Document, project: str, images: Mapping[str, str], mountable: Mapping[str, bool], saved: Collection[str]
) -> tuple[Document, list[str]]:
    """What Compose rendered as a copy, and what the copy lacks: own volumes, networks without a way out, no ports.

    `images` are those to run, by service. `mountable` are the paths of the host that lead nowhere, and whether each is
    a folder. Services and folders that are `saved` get their data from a snapshot.
    """
    label, notes, services = {COPY_LABEL: project}, list[str](), {}
    files = {
        part: {
            key: body
            for key, body in (document.get(part) or {}).items()
            if not body.get("file") or _plain(body["file"]) in mountable
        }
        for part in ("configs", "secrets")
    }
    for name, body in document["services"].items():
        lacks: list[str] = []
        mounts = {part: [entry for entry in body.get(part) or () if entry["source"] in files[part]] for part in files}
        mounts["volumes"] = _mounts(name, body, mountable, saved, lacks)
        if body.get("provider"):
            notes.append(f"{name} is no container, and left out")
            continue
        # Traefik would route requests to a container whose image or name tells it to.
        own = {"labels": label | {"traefik.enable": "false"}, "restart": "no", "logging": {"driver": "json-file"}}
        image = {"image": images[name], "pull_policy": "never"} if name in images else {}
        services[name] = _given(body, lacks) | mounts | own | image
        notes += [f"{name} lacks {', '.join(lacks)}"] if lacks else []
    networks = {key for body in services.values() for key in body.get("networks") or ()}
    volumes = {
        mount.get("source") for body in services.values() for mount in body["volumes"] if mount["type"] == "volume"
    }
    return {
        "name": copy_name(project),
        "services": services,
        "networks": {key: {"internal": True, "labels": label} for key in sorted(networks)},
        "volumes": {key: {"name": f"{copy_name(project)}_{key}", "labels": label} for key in sorted(volumes - {None})},
        **files,
    }, notes


def with_only(now: Document, new: Document, only: Collection[str | None]) -> Document:
    """The copy of what runs with only these services changed, and with those that they need and that do not run."""
    services = now["services"] | {name: body for name, body in new["services"].items() if name in only}
    while (
        lacking := {
            other for body in services.values() for other in body.get("depends_on") or () if other in new["services"]
        }
        - services.keys()
    ):
        services |= {name: new["services"][name] for name in lacking}
    needs = {name: (body.get("depends_on") or {}).items() for name, body in services.items()}
    kept = {
        name: body | {"depends_on": {other: how for other, how in needs[name] if other in services}}
        for name, body in services.items()
    }
    parts = {part: now.get(part, {}) | new.get(part, {}) for part in ("networks", "volumes", "configs", "secrets")}
    return {"name": new["name"], "services": kept, **parts}


def verdict_of(problem: str, tried: Mapping[str, str], as_before: str) -> tuple[str, tuple[str, ...]]:
    """What a failed rehearsal means, in words, and which changes are to blame.

    `tried` is how each change alone ended, empty where it works; `as_before` how the version did that runs.
    """
    if as_before:
        return f"whether it would work is not known, as the version that runs fails in the copy too: {as_before}", ()
    if tried and set(tried.values()) == {problem}:
        return f"it would fail, with whichever change: {problem}", ()
    if culprits := tuple(name for name, how in tried.items() if how):
        works = ", ".join(name for name in tried if name not in culprits)
        alone = "; ".join(f"{name} fails alone: {tried[name]}" for name in culprits)
        return f"it would fail. {alone}{f'. Each alone works: {works}' if works else ''}", culprits
    return f"it would fail: {problem}{'. Each change alone works, so they fail only together' if tried else ''}", ()


def _given(body: Document, lacks: list[str]) -> Document:
    given = {key: value for key, value in body.items() if _GIVEN.fullmatch(key) and value is not None}
    given |= {key: body[key] for key in _SPACES if str(body.get(key) or "").startswith(_OWN_SPACES)}
    given |= {key: [entry for entry in body.get(key) or () if allowed(entry)] for key, allowed in _ALLOWED.items()}
    lacks += [f"{key} {body[key]}" for key in _SPACES if body.get(key) and key not in given]
    lacks += [f"{key} {entry}" for key in _ALLOWED for entry in body.get(key) or () if entry not in given[key]]
    lacks += sorted(key for key in body if body[key] and not (_GIVEN.fullmatch(key) or _NOT_MISSED.fullmatch(key)))
    if "network_mode" not in given:
        joined = body.get("networks") or {"default": None}
        given["networks"] = {key: {"aliases": (how or {}).get("aliases") or []} for key, how in joined.items()}
    variables = body.get("environment") or {}
    given["environment"] = {name: value for name, value in variables.items() if not name.startswith(_OF_PROXIES)}
    deploy = body.get("deploy") or {}
    limits = {"limits": (deploy.get("resources") or {}).get("limits") or {}}
    replicas = body.get("scale", deploy.get("replicas"))
    return given | {"deploy": {"resources": limits, "replicas": 0 if replicas == 0 else 1}}


def _mounts(
    name: str, body: Document, mountable: Mapping[str, bool], saved: Collection[str], lacks: list[str]
) -> list[Document]:
    mounts = []
    for entry in body.get("volumes") or ():
        kind, source = entry["type"], _plain(str(entry.get("source") or ""))
        read_only, is_saved = bool(entry.get("read_only")), name in saved or source in saved
        mount = {"type": kind, "source": entry.get("source"), "target": entry.get("target"), "read_only": read_only}
        if kind == "bind" and source in mountable and (read_only or not mountable[source] or not is_saved):
            lacks += [] if read_only else [f"write access to {source}"]
            mounts.append(mount | {"read_only": True})
        elif kind in ("bind", "volume"):
            lacks += [source] if kind == "bind" and not is_saved else []
            own = mount | {"type": "volume", "source": volume_of(source) if kind == "bind" else source}
            mounts.append({key: value for key, value in own.items() if value})
        elif kind in ("tmpfs", "image"):
            mounts.append(entry)
        else:
            lacks.append(f"{kind} at {entry.get('target')}")
    return mounts


def _plain(text: str) -> str:
    # Compose doubles every dollar sign of what it prints.
    return text.replace("$$", "$")
