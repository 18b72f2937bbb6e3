"""Decide which requests the broker forwards to the engine: by declared projects and declared host paths."""

from __future__ import annotations

import ipaddress
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import Any

from core.common.cloud_addresses import METADATA_NETWORKS
from core.runtime import broker_shapes as shapes
from core.runtime.broker_images import with_image_name
from core.runtime.broker_messages import RequestTarget, read_json, read_target, refuse, show_words, write_json
from core.runtime.broker_routes import (
    IMAGE,
    ROUTES,
    AllowedOperation,
    EngineObject,
    Facts,
    ObjectKind,
    Outgoing,
    Policy,
    Root,
    Route,
)
from core.runtime.broker_shapes import MountSource, References
from models.containers import ONE_OFF_LABEL
from models.failures import BadInputError

PROJECT = "com.docker.compose.project"
OWN_PROJECT = "roas-ops"

_SERVICE = "com.docker.compose.service"
_SHOWN_LABELS = (PROJECT, _SERVICE, "com.docker.compose.container-number", ONE_OFF_LABEL)
# Folders that hold the machine itself, or its engine's socket and data.
_NEVER_ROOTS = ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc", "/var/lib/docker")
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")))
_FALSE = frozenset({"", "0", "no", "false", "none"})


def make_policy(
    projects: Iterable[str],
    roots: Iterable[str],
    networks: Iterable[str] = (),
    volumes: Iterable[str] = (),
    containers: Iterable[str] = (),
    subnets: Iterable[str] = (),
) -> Policy:
    """Build a policy from declarations; a root ends in ":rw" if containers may write into it.

    Raises BadInputError for a declaration that would expose the control plane or the host.
    """
    named = frozenset(projects)
    if OWN_PROJECT in named:
        raise BadInputError(f"Project {OWN_PROJECT} is the control plane's own.", advice="Declare applications only.")
    made = tuple(_root(text) for text in roots)
    for root, other in permutations(made, 2):
        if root.writable and root.holds(other.path):
            raise BadInputError(
                f"Root {other.path} is {root.path} or lies below it, which is writable.",
                advice="Declare the folders that are mounted writable one by one.",
            )
    return Policy(
        projects=named,
        roots=made,
        networks=frozenset(networks),
        volumes=frozenset(volumes),
        containers=frozenset(containers),
        subnets=tuple(map(_private_subnet, subnets)),
    )


def _private_subnet(text: str) -> shapes.IPNetwork:
    try:
        subnet = ipaddress.ip_network(text)
    except ValueError:
        raise BadInputError(f"Subnet {text} is none such as 10.9.0.0/16.") from None
    if not shapes.is_declared_subnet(subnet, _PRIVATE) or any(map(subnet.overlaps, METADATA_NETWORKS)):
        raise BadInputError(
            f"Subnet {text} is not private: the machine would send to containers what is for others.",
            advice="Declare a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8 that this machine does not "
            "reach otherwise.",
        )
    return subnet


def _root(text: str) -> Root:
    path, writable = text.removesuffix(":rw").removesuffix(":ro"), text.endswith(":rw")
    root, folders = Root(path=path), [Root(path=folder) for folder in _NEVER_ROOTS]
    forbidden = [other.path for other in folders if path == "/" or other.holds(path) or root.holds(other.path)]
    if not path.startswith("/") or path.startswith("//") or posixpath.normpath(path) != path:
        raise BadInputError(f"Root {path} is not a plain absolute path.")
    if forbidden:
        raise BadInputError(
            f"Root {path} holds or lies in {forbidden[0]}, which is the machine's own.",
            advice="Declare the application's own folders.",
        )
    return Root(path=path, writable=writable)


def examine(method: str, target: str, body: bytes, policy: Policy) -> AllowedOperation:
    """Judge a request by its own words. Raises RequestRefusedError for what the policy does not allow."""
    request_target = read_target(target)
    matches = ((route, route.path.fullmatch(request_target.path)) for route in ROUTES if route.method == method)
    route, match = next(((route, match) for route, match in matches if match is not None), (None, None))
    if route is None or match is None:
        refuse("no such request is forwarded to the engine")
    references, content = References(), None
    if route.shape is not None:
        content = read_json(body)
        route.shape(content, "", references)
        _check_project(route, content, policy)
        if route.shape in _NAMED:
            name = dict(request_target.query).get("name") if route.shape is shapes.CONTAINER else content.get("Name")
            check_name(_NAMED[route.shape], name or "", content["Labels"][PROJECT], policy)
        for source in references.sources:
            find_root(source, policy)
        for subnet in references.subnets:
            if not shapes.is_declared_subnet(subnet, policy.subnets):
                refuse(
                    f"subnet {subnet} is not declared, and this machine may reach others by it",
                    "Let the engine choose one, or add it to ROAS_BROKER_SUBNETS if nothing else has it.",
                )
    elif body and not route.archive:
        refuse("the request has a body, which is not allowed there")
    named = match.groupdict().get("name")
    written, image_name = with_image_name(_with_checked_query(request_target, route, policy), named or "")
    return AllowedOperation(
        route=route,
        target=written,
        name=named,
        subject=None if route.subject is None or named is None else (route.subject, named),
        content=content,
        archive=body if route.archive else b"",
        found=references,
        image_name=image_name,
    )


def settle(operation: AllowedOperation, facts: Facts, policy: Policy) -> Outgoing:
    """Judge a request by what it refers to, and write it anew for the engine; every wanted fact must be given.

    Raises RequestRefusedError if something it refers to belongs to no declared project.
    """
    for key in sorted(operation.required_objects):
        _check_fact(*key, facts.get(key), operation, policy)
    target, content = operation.target, operation.content
    if operation.subject is not None and target.path.endswith("/rename"):
        name = dict(target.query).get("name", "")
        check_name(ObjectKind.CONTAINER, name, facts[operation.subject].project, policy)
    if operation.subject is not None:
        kind, name = operation.subject
        # By its id: the name could be another's by the time the engine reads it.
        collection, tail = target.path[1:].split("/", 1)
        path = f"/{collection}/{facts[kind, name].identity}{tail[len(name) :]}"
        target = RequestTarget(version=target.version, path=path, query=target.query)
    if content is not None:
        ids = {name: facts[ObjectKind.CONTAINER, name].identity for name in operation.found.containers}
        if operation.route.shape is shapes.CONTAINER:
            content = shapes.canonical(content, ids)
        elif ids:
            content = content | {"Container": ids[content["Container"]]}
    archive = operation.route.archive
    return Outgoing(
        method=operation.route.method,
        target=target.text(),
        body=operation.archive if content is None else write_json(content),
        content_type="application/x-tar" if archive else "" if content is None else "application/json",
        sources=_sources(operation, facts, policy),
    )


def find_root(source: MountSource, policy: Policy) -> Root:
    """The declared root a path of the host lies in. Raises RequestRefusedError if none allows this use of it."""
    roots = [root for root in policy.roots if root.holds(source.path)]
    above = [root for root in roots if root.writable and root.path != source.path]
    if above:
        refuse(
            f"{show_words(source.path)} lies below {above[0].path}, which containers can write into",
            "Declare the folder that is mounted as a writable root of its own instead of the one above it.",
        )
    usable = [root for root in roots if root.writable or not source.writable]
    if not usable:
        refuse(
            f"{show_words(source.path)} is not below a declared root{' for writing' if roots else ''}",
            f"Add its folder to ROAS_BROKER_ROOTS{', with :rw' * source.writable}, and to the broker's mounts.",
        )
    return usable[0]


def is_own(labels: Mapping[str, str] | None, policy: Policy) -> bool:
    """Whether these are the labels of a declared project."""
    return (labels or {}).get(PROJECT) in policy.projects


def reduced_listing(reported: list[dict[str, Any]], policy: Policy) -> list[dict[str, Any]]:
    """A list of containers with no more of those of others than who they are and which ports they hold."""
    keys = ("Id", "Names", "Image", "ImageID", "Created", "Ports", "State", "Status")
    return [
        container
        if is_own(container.get("Labels"), policy)
        else {key: container[key] for key in keys if key in container}
        | {"Labels": _shown_labels(container.get("Labels"))}
        for container in reported
    ]


def reduced_container(reported: dict[str, Any]) -> dict[str, Any]:
    """A container of others: who it is and whether it runs; nothing of its environment, command and mounts."""
    config, state = reported.get("Config") or {}, reported.get("State") or {}
    ports = (reported.get("NetworkSettings") or {}).get("Ports")
    return {
        **{key: reported[key] for key in ("Id", "Name", "Created", "Image") if key in reported},
        "State": {key: state[key] for key in ("Status", "Running", "StartedAt", "FinishedAt") if key in state},
        "Config": {"Image": config.get("Image", ""), "Labels": _shown_labels(config.get("Labels"))},
        "NetworkSettings": {"Ports": ports},
    }


def _shown_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (labels or {}).items() if key in _SHOWN_LABELS}


def only_own(operation: AllowedOperation, policy: Policy) -> bool:
    """Whether a listing is asked for by the label of a declared project, so that nothing else can be in it."""
    filters = dict(operation.target.query).get("filters")
    return filters is not None and _names_own_project(json.loads(filters), policy)


# Events that the engine reports, without the commands run in containers: those contain their arguments.
_EVENTS = (
    "attach", "commit", "connect", "copy", "create", "delete", "destroy", "detach", "die", "disable", "disconnect",
    "enable", "export", "health_status", "import", "install", "kill", "load", "mount", "oom", "pause", "prune", "pull",
    "push", "reload", "remove", "rename", "resize", "restart", "save", "start", "stop", "tag", "top", "unmount",
    "unpause", "untag", "update",
)  # fmt: skip


def _with_checked_query(target: RequestTarget, route: Route, policy: Policy) -> RequestTarget:
    query = dict(target.query)
    if unknown := [name for name in query if name not in route.parameters]:
        refuse(f"parameter {show_words(unknown[0])} is not allowed there")
    if "filters" in query or target.path == "/events":
        query["filters"] = write_json(_filters(query.get("filters") or "{}", target.path, policy)).decode()
    if target.path == "/images/create" and not re.fullmatch(IMAGE, query.get("fromImage", "")):
        refuse("an image to fetch must be named; none is imported")
    if target.path.startswith("/images/") and query.pop("force", "").strip().lower() not in _FALSE:
        refuse("images are not removed or renamed by force")
    return RequestTarget(version=target.version, path=target.path, query=tuple(query.items()))


def _filters(text: str, path: str, policy: Policy) -> dict[str, dict[str, bool]]:
    """Filters in the one form every engine takes; of events, not the commands that are run in others' containers."""
    reported = read_json(text.encode(errors="replace"))
    filters = {name: dict.fromkeys(_values(name, values), True) for name, values in reported.items()}
    if path == "/events" and not _names_own_project(filters, policy):
        events = filters.get("event") or _EVENTS
        # An empty filter would let everything through.
        filters["event"] = dict.fromkeys(
            [event for event in events if event.partition(":")[0] in _EVENTS] or ["none"], True
        )
    return filters


def _values(name: str, values: Any) -> list[str]:
    """A filter's values, which the engine takes as a list or as the keys of an object."""
    if isinstance(values, dict) and all(value is True for value in values.values()):
        values = list(values)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        refuse(f"filter {show_words(name)} is neither a list nor an object of texts")
    return values


def _names_own_project(filters: Mapping[str, Mapping[str, bool]], policy: Policy) -> bool:
    """Whether all that passes belongs to a declared project; the engine wants every label to match."""
    return any(f"{PROJECT}={project}" in filters.get("label", ()) for project in policy.projects)


def _check_project(route: Route, content: Mapping[str, Any], policy: Policy) -> None:
    if route.shape not in (shapes.CONTAINER, shapes.NETWORK, shapes.VOLUME) or is_own(content.get("Labels"), policy):
        return
    project = (content.get("Labels") or {}).get(PROJECT) or ""
    what = f"project {show_words(project)} is not declared" if project else f"it has no label {PROJECT}"
    refuse(what, "Add the application's project to ROAS_BROKER_PROJECTS.")


_NAMED = {shapes.CONTAINER: ObjectKind.CONTAINER, shapes.NETWORK: ObjectKind.NETWORK, shapes.VOLUME: ObjectKind.VOLUME}
# Compose's and our own, for the container that is to replace another one.
_BESIDE = re.compile(r"[0-9a-f]{12}_")
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


def check_name(kind: ObjectKind, name: str, project: str, policy: Policy) -> None:
    """Check a new object's name: another project that takes an object by its name must not find this one.

    Raises RequestRefusedError unless it is declared, or begins with the project's and with no longer project's name.
    """
    declared = {
        ObjectKind.CONTAINER: policy.containers,
        ObjectKind.NETWORK: policy.networks,
        ObjectKind.VOLUME: policy.volumes,
    }[kind]
    bare = _BESIDE.sub("", name, count=1) if kind is ObjectKind.CONTAINER else name
    begun = [candidate for candidate in {*policy.projects, OWN_PROJECT} if _is_named_by(candidate, bare, kind)]
    anonymous = not name or (kind is ObjectKind.VOLUME and _ANONYMOUS.fullmatch(name))
    if not (anonymous or bare in declared or max(begun, key=len, default="") == project):
        refuse(
            f"{kind} {show_words(name)} has a name that does not begin with its project's, {show_words(project)}",
            f"Add the name to ROAS_BROKER_{kind.upper()}S if it is an application's.",
        )


def _is_named_by(project: str, name: str, kind: ObjectKind) -> bool:
    """Whether a name begins with a project's.

    Compose names volumes and networks PROJECT_NAME: shop-prod_data is not of shop, but of shop-prod, which need not be
    declared here. It finds containers by their labels, whatever their names.
    """
    if name == project or name.startswith(f"{project}_"):
        return True
    suffix = name.removeprefix(f"{project}-")
    return suffix != name and (kind is ObjectKind.CONTAINER or "_" not in suffix)


def _check_fact(
    kind: ObjectKind, name: str, fact: EngineObject | None, operation: AllowedOperation, policy: Policy
) -> None:
    what = f"{kind} {show_words(name)}"
    if fact is None:
        if kind is not ObjectKind.VOLUME:
            refuse(f"{what} does not exist")
        # The engine makes a volume that is named and not there: an empty one.
        check_name(kind, name, ((operation.content or {}).get("Labels") or {}).get(PROJECT, ""), policy)
        return
    is_declared = fact.project in policy.projects
    match kind:
        case ObjectKind.NETWORK:
            is_declared = is_declared or fact.name in policy.networks
            claimed = operation.found.networks.get(name)
            if claimed is not None and (name not in (fact.name, fact.identity) or claimed not in ("", fact.identity)):
                refuse(f"{what} is named by another network's id, or by the beginning of one")
        case ObjectKind.VOLUME:
            is_declared = (
                is_declared or fact.name in policy.volumes or bool(fact.users and fact.users <= policy.projects)
            )
        case ObjectKind.IMAGE_NAME:
            if operation.name not in fact.images:
                refuse(f"{what} was never that image for a container of a declared project")
            if users := sorted(fact.users - policy.projects):
                other = f"project {show_words(users[0])}" if users[0] else "a container"
                refuse(f"{what} is also used by {other} of others")
            is_declared = True
        case ObjectKind.IMAGE if fact.tags:
            refuse(f"{what} has a name; only images without one are removed")
        case _:
            pass
    if not is_declared:
        owner = f"project {show_words(fact.project)}, which is not declared" if fact.project else "no project"
        refuse(f"{what} belongs to {owner}", _HOW_TO_DECLARE.get(kind, _DECLARE_PROJECT))


_DECLARE_PROJECT = "Add the project to ROAS_BROKER_PROJECTS if it is an application's."
_HOW_TO_DECLARE = {
    ObjectKind.NETWORK: "Add the network to ROAS_BROKER_NETWORKS if applications share it.",
    ObjectKind.VOLUME: "Add the volume to ROAS_BROKER_VOLUMES if applications share it.",
}


def _sources(operation: AllowedOperation, facts: Facts, policy: Policy) -> frozenset[MountSource]:
    """The paths of the host it leads to, by itself and by the volumes that are there already."""
    references = References(sources=set(operation.found.sources))
    for name in operation.found.volumes:
        fact = facts.get((ObjectKind.VOLUME, name))
        if fact is not None and fact.name not in policy.volumes:
            shapes.check_driver_options(dict(fact.options), f"volume {show_words(name)}", references)
    for source in references.sources:
        find_root(source, policy)
    return frozenset(references.sources)
