"""Compose's rendered configuration, translated into our models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from models.compose import (
    Application,
    ComposeVariable,
    DependencyCondition,
    DependsOn,
    HealthcheckDeclaration,
    InjectedFile,
    Mount,
    MountedFile,
    MountKind,
    NetworkDeclaration,
    NetworkPlace,
    PublishedPort,
    ServiceDeclaration,
    VolumeDeclaration,
)
from models.failures import ComposeError

_UPDATES: dict[str, tuple[Any, str]] = {
    "parallelism": (1, "containers are replaced one after the other"),
    "delay": ("0s", "the next container follows once one is proven"),
    "failure_action": ("rollback", "an update that fails goes back"),
    "monitor": ("0s", "stabilisation_seconds of the environment says how long a container has to stay healthy"),
    "max_failure_ratio": (0, "the first failure ends an update"),
}
"""Fields of deploy.update_config with the value that is what an update does, and what it does in place of others."""
_BY_COMPOSE = {
    **dict.fromkeys(("pre_start", "post_start", "pre_stop"), "only `docker compose` runs it; see hooks of updates"),
    "provider": "only `docker compose up` calls it, and no container of it is proven",
}

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def parse_application(document: dict[str, Any], hashes: Mapping[str, str], warnings: tuple[str, ...]) -> Application:
    """Translate a rendered document, with the configuration hash of each service."""
    project = document["name"]
    raw: dict[str, Any] = document["services"]
    awaited = {
        other
        for service in raw.values()
        for other, entry in (service.get("depends_on") or {}).items()
        if entry.get("condition") == DependencyCondition.COMPLETED
    }
    services = {
        name: _service(project, name, body, hashes.get(name, ""), document, awaited=name in awaited)
        for name, body in sorted(raw.items())
    }
    networks = [
        NetworkDeclaration(
            **_ownership(key, body),
            subnets=tuple(
                part["subnet"] for part in (body.get("ipam") or {}).get("config") or () if part and part.get("subnet")
            ),
        )
        for key, body in _section(document, "networks")
    ]
    volumes = [VolumeDeclaration(**_ownership(key, body)) for key, body in _section(document, "volumes")]
    return Application(
        project=project,
        services=services,
        networks=tuple(networks),
        volumes=tuple(volumes),
        files=tuple(_files(document)),
        warnings=warnings,
    )


def _service(
    project: str,
    name: str,
    body: dict[str, Any],
    config_hash: str,
    document: dict[str, Any],
    *,
    awaited: bool,
) -> ServiceDeclaration:
    deploy, build = body.get("deploy") or {}, body.get("build") or {}
    resources = deploy.get("resources") or {}
    limits, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    inside = tuple(sorted(_hosts_of(body)))
    ports = () if body.get("network_mode") == "host" else tuple(map(_port, body.get("ports") or ()))
    healthcheck = _healthcheck(body["healthcheck"]) if body.get("healthcheck") else None
    restart = _restart_policy(body, deploy)
    stays_up = (
        restart in {"always", "unless-stopped"} or bool(ports) or (healthcheck is not None and not healthcheck.disabled)
    )
    return ServiceDeclaration(
        name=name,
        image=body.get("image") or f"{project}-{name}",
        build=bool(body.get("build")),
        build_context=build.get("context") or "",
        dockerfile=build.get("dockerfile") or "",
        build_hash=hashlib.sha256(json.dumps(build, sort_keys=True).encode()).hexdigest() if build else "",
        user=str(body.get("user") or ""),
        pull_policy=body.get("pull_policy", ""),
        platform=body.get("platform"),
        depends_on={
            other: DependsOn(
                condition=DependencyCondition(entry.get("condition", DependencyCondition.STARTED)),
                required=entry.get("required", True),
                restart=entry.get("restart", False),
            )
            for other, entry in sorted((body.get("depends_on") or {}).items())
        },
        healthcheck=healthcheck,
        restart=restart,
        replicas=_first(body.get("scale"), deploy.get("replicas"), 1),
        profiles=tuple(body.get("profiles") or ()),
        ports=ports,
        mounts=tuple(_mount(entry) for entry in body.get("volumes") or ()),
        networks=tuple(sorted(body.get("networks") or ())),
        environment_names=tuple(sorted(body.get("environment") or ())),
        memory_limit_bytes=_number(limits.get("memory"), body.get("mem_limit"), kind=int),
        memory_reservation_bytes=_number(reservations.get("memory"), body.get("mem_reservation"), kind=int),
        cpu_limit=_number(limits.get("cpus"), body.get("cpus"), kind=float),
        cpu_reservation=_number(reservations.get("cpus"), kind=float),
        open_files=_open_files((body.get("ulimits") or {}).get("nofile")),
        stop_grace_period=_first(_duration(body.get("stop_grace_period")), timedelta(seconds=10)),
        container_name=body.get("container_name"),
        inside_of=inside,
        privileged=bool(body.get("privileged")),
        read_only=bool(body.get("read_only")),
        host_network=body.get("network_mode") == "host",
        capabilities_added=tuple(body.get("cap_add") or ()),
        capabilities_dropped=tuple(body.get("cap_drop") or ()),
        injects_files=bool(next(_injected_keys(document, body), None)),
        update_order=str((deploy.get("update_config") or {}).get("order") or ""),
        left_aside=tuple(_left_aside(body, deploy.get("update_config") or {})),
        network_mode=str(body.get("network_mode") or ""),
        fixed_address=_fixed_address(body),
        # Compose hashes such a service with the other container's id filled in, which only it knows.
        config_hash="" if inside else config_hash,
        awaited=awaited,
        one_shot=awaited or not stays_up,
    )


def _left_aside(body: dict[str, Any], update: dict[str, Any]) -> Iterator[str]:
    for key, (done, instead) in _UPDATES.items():
        if update.get(key, done) != done:
            yield f"deploy.update_config.{key} is left aside: {instead}"
    for key, instead in _BY_COMPOSE.items():
        if body.get(key):
            yield f"{key} is left aside: {instead}"


def parse_variables(table: str) -> tuple[ComposeVariable, ...]:
    """Parse the table that `docker compose config --variables` prints."""
    lines = table.splitlines()
    if not lines:
        return ()
    head = lines[0]
    starts = [match.start() for match in re.finditer(r"\S+(?: \S+)*", head)]
    variables = []
    for line in lines[1:]:
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        name, required, default, alternate = (*cells, "", "", "")[:4]
        if name:
            variables.append(
                ComposeVariable(name=name, required=required == "true", default=default, alternate=alternate)
            )
    return tuple(sorted(variables, key=lambda variable: variable.name))


def unescape(value: Any) -> Any:
    """Replace `$$` by `$`: Compose doubles every dollar sign of the configuration it prints."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [unescape(item) for item in value]
    if isinstance(value, dict):
        return {key: unescape(item) for key, item in value.items()}
    return value


def self_contained(rendered: dict[str, Any]) -> str:
    """Serialise what Compose rendered, without optional dependencies on services it left out: it refuses those."""
    services = rendered.get("services") or {}
    contained = {
        name: body
        | {"depends_on": {other: entry for other, entry in (body.get("depends_on") or {}).items() if other in services}}
        for name, body in services.items()
    }
    return json.dumps(rendered | {"services": contained})


def network_places(document: dict[str, Any], service: str) -> tuple[NetworkPlace, ...]:
    """A service's addresses and aliases in each of its networks."""
    names = {key: str(body.get("name", key)) for key, body in _section(document, "networks")}
    joined = (document["services"].get(service) or {}).get("networks") or {}
    return tuple(
        NetworkPlace(
            name=names[key],
            # Compose gives the service's name to every container of it.
            aliases=(service, *(reported.get("aliases") or ())),
            ipv4_address=reported.get("ipv4_address"),
            ipv6_address=reported.get("ipv6_address"),
        )
        for key, reported in ((key, body or {}) for key, body in joined.items())
        if key in names
    )


def injected_files(document: dict[str, Any], variables: Mapping[str, str]) -> dict[str, tuple[InjectedFile, ...]]:
    """The inline configs, and the secrets from variables, of each service.

    Raises:
        ComposeError: A variable that a file comes from is not set.
    """
    return {
        name: files
        for name, service in document["services"].items()
        if (files := tuple(_injected_files(document, service, variables)))
    }


def _section(document: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, body in (document.get(name) or {}).items():
        yield key, body or {}


def _ownership(key: str, body: dict[str, Any]) -> dict[str, Any]:
    """What networks and volumes have in common."""
    external = bool(body.get("external"))
    return {"key": key, "name": body.get("name", key), "external": external, "driver": body.get("driver", "")}


def _files(document: dict[str, Any]) -> Iterator[MountedFile]:
    for section, kind in (("configs", "config"), ("secrets", "secret")):
        for key, body in _section(document, section):
            users = [
                name
                for name, service in document["services"].items()
                if any(entry.get("source") == key for entry in service.get(section) or ())
            ]
            if body.get("file") and users:
                yield MountedFile(kind=kind, key=key, path=body["file"], services=tuple(sorted(users)))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(*values: Any, kind: type[Any]) -> Any:
    """The first value that is a limit; Compose prints 0 and the empty string for "not limited"."""
    return next((kind(float(value)) for value in values if value not in (None, "", "0", 0)), None)


def _open_files(limit: Any) -> int | None:
    if isinstance(limit, dict):
        return limit.get("soft")
    return int(limit) if limit is not None else None


def _hosts_of(body: dict[str, Any]) -> set[str]:
    shared = [body.get(key) or "" for key in ("network_mode", "ipc", "pid")]
    services = {value.removeprefix("service:") for value in shared if value.startswith("service:")}
    mounted = body.get("volumes_from") or ()
    return services | {entry.split(":")[0] for entry in mounted if not entry.startswith("container:")}


def _fixed_address(body: dict[str, Any]) -> str:
    """The first address that the file chooses for a service's containers."""
    if body.get("mac_address"):
        return str(body["mac_address"])
    chosen = [
        joined.get(key)
        for joined in (body.get("networks") or {}).values()
        if joined
        for key in ("ipv4_address", "ipv6_address", "mac_address", "link_local_ips")
    ]
    return str(_first(*(address or None for address in chosen)) or "")


def _restart_policy(body: dict[str, Any], deploy: dict[str, Any]) -> str:
    if body.get("restart"):
        return str(body["restart"]).split(":")[0]
    policy = deploy.get("restart_policy")
    if policy is None:
        return "no"
    return {"none": "no", "on-failure": "on-failure"}.get(policy.get("condition") or "any", "always")


def _healthcheck(body: dict[str, Any]) -> HealthcheckDeclaration:
    test = body.get("test")
    return HealthcheckDeclaration(
        test=tuple(test) if test else None,
        disabled=bool(body.get("disable")) or list(test or ()) == ["NONE"],
        interval=_duration(body.get("interval")),
        timeout=_duration(body.get("timeout")),
        retries=body.get("retries"),
        start_period=_duration(body.get("start_period")),
        start_interval=_duration(body.get("start_interval")),
    )


def _port(entry: dict[str, Any]) -> PublishedPort:
    first, _, last = str(entry.get("published") or "").partition("-")
    return PublishedPort(
        target=int(entry["target"]),
        published=int(first) if first and first != "0" else None,
        published_last=int(last) if last else None,
        host_ip=entry.get("host_ip", ""),
        protocol=entry.get("protocol", "tcp"),
    )


def _mount(entry: dict[str, Any]) -> Mount:
    kind = entry.get("type", "")
    return Mount(
        kind=MountKind(kind) if kind in set(MountKind) else MountKind.OTHER,
        target=entry.get("target", ""),
        source=entry.get("source", ""),
        read_only=entry.get("read_only", False),
        create_host_path=(entry.get("bind") or {}).get("create_host_path", False),
    )


def _duration(text: str | None) -> timedelta | None:
    """Parse a duration as Go prints it: 1m5s, 500ms."""
    if not text:
        return None
    parts = re.findall(r"([\d.]+)(h|ms|m|s|us|µs|ns)", text)
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def _injected_keys(document: dict[str, Any], service: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, sources in (("configs", ("content", "environment")), ("secrets", ("environment",))):
        for entry in service.get(section) or ():
            body = (document.get(section) or {}).get(entry.get("source")) or {}
            if any(body.get(source) for source in sources):
                yield section, entry


def _injected_files(
    document: dict[str, Any], service: dict[str, Any], variables: Mapping[str, str]
) -> Iterator[InjectedFile]:
    for section, entry in _injected_keys(document, service):
        source = entry["source"]
        body = document[section][source]
        content = body.get("content", "")
        if body.get("environment"):
            if body["environment"] not in variables:
                raise ComposeError(
                    f"{section} {source} comes from the variable {body['environment']}, which is not set.",
                    advice="Set that variable before starting.",
                )
            content = variables[body["environment"]]
        folder = "/run/secrets/" if section == "secrets" else "/"
        target = entry.get("target") or source
        mode, uid, gid = entry.get("mode"), entry.get("uid"), entry.get("gid")
        yield InjectedFile(
            target=target if target.startswith("/") else folder + target,
            content=content.encode(),
            mode=0o444 if mode is None else int(str(mode), 8 if isinstance(mode, str) else 10),
            uid=int(uid) if uid else None,
            gid=int(gid) if gid else None,
        )
