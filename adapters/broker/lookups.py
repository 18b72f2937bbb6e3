"""Facts that the broker reads from the engine and the disk before it forwards a request."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import h11
import orjson

from core.runtime.broker_images import whole_name
from core.runtime.broker_messages import refuse, show_words
from core.runtime.broker_policy import PROJECT, find_root
from core.runtime.broker_routes import EngineObject, ObjectKind, Policy, Root, Wanted
from core.runtime.broker_shapes import MountSource
from models.failures import EngineUnreachableError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*|sha256:[0-9a-f]{64}")
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_REMEMBERED = 10_000
_ANSWER_BYTES = 64 * 1024 * 1024
_SECONDS = 60
_LINKS = 40
Key = TypeVar("Key")
Value = TypeVar("Value")


async def connect(socket_path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the engine. Raises EngineUnreachableError if it does not listen."""
    try:
        return await asyncio.open_unix_connection(socket_path, limit=_ANSWER_BYTES)
    except OSError as error:
        raise EngineUnreachableError(f"unix://{socket_path}", (error.strerror or str(error)).lower()) from error


async def read_answer(reader: asyncio.StreamReader, method: str) -> tuple[int, bytes]:
    """Read an answer's status and body. Raises EngineUnreachableError if it broke off, is too large or is no HTTP."""
    connection, status, body = h11.Connection(h11.CLIENT), 0, bytearray()
    # It judges an answer by the request it belongs to: one of HEAD has no body.
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "docker")]))
    connection.send(h11.EndOfMessage())
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(64 * 1024))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _ANSWER_BYTES:
                    raise EngineUnreachableError("its socket", "the answer is too large")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                raise EngineUnreachableError("its socket", "the answer broke off")
    except (h11.RemoteProtocolError, OSError) as error:
        raise EngineUnreachableError("its socket", "the answer broke off") from error


@dataclass(slots=True)
class Lookups:
    """Projects of the objects that requests name, as the engine reports them.

    A container's id is never reused and its labels never change, so containers of declared projects are cached, as
    are their commands and anonymous volumes, and what their images' names were when they were made.
    """

    socket_path: str
    policy: Policy
    _projects: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _execs: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _volumes: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _images: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def knows(self, container: str) -> bool:
        """Whether this is the id of a cached container of a declared project."""
        return container in self._projects

    def remember_container(self, identity: str, project: str) -> None:
        """Cache a container's project, if it is a declared one."""
        if project in self.policy.projects:
            _keep(self._projects, identity, project)

    def remember_exec(self, identity: str, project: str) -> None:
        """Cache the project of a command."""
        _keep(self._execs, identity, project)

    def learn(self, inspected: Mapping[str, Any]) -> EngineObject:
        """Cache an inspected container, its anonymous volumes, and which image its image's name was."""
        project = _project_of((inspected.get("Config") or {}).get("Labels"))
        self.remember_container(inspected["Id"], project)
        if project in self.policy.projects:
            if name := _image_name(inspected):
                # The engine looked the name up when it made the container, so no client can have made this up.
                _keep(self._images, (name, str(inspected.get("Image"))), None)
            for mount in inspected.get("Mounts") or ():
                if mount.get("Type") == "volume" and _IDENTITY.fullmatch(mount.get("Name", "")):
                    _keep(self._volumes, mount["Name"], project)
        return EngineObject(identity=inspected["Id"], project=project)

    async def find(self, references: Iterable[Wanted]) -> dict[Wanted, EngineObject]:
        """Find the wanted objects that exist.

        Raises EngineUnreachableError if the engine did not answer, RequestRefusedError if it cannot resolve a name.
        """
        # Nearly always there is one, or none.
        return {reference: fact for reference in references if (fact := await self._fact(*reference)) is not None}

    async def inspect(self, container: str) -> EngineObject | None:
        """Inspect a container without the cache."""
        reported = await self._get(f"/containers/{container}/json")
        return None if reported is None else self.learn(reported)

    async def _fact(self, kind: ObjectKind, name: str) -> EngineObject | None:
        if kind is ObjectKind.IMAGE_NAME:
            return await self._image_name(name)
        if not _NAME.fullmatch(name):
            return None
        match kind:
            case ObjectKind.CONTAINER:
                container_project = self._projects.get(name)
                return (
                    await self.inspect(name)
                    if container_project is None
                    else EngineObject(identity=name, project=container_project)
                )
            case ObjectKind.EXEC:
                return await self._exec(name)
            case ObjectKind.NETWORK:
                network = await self._get(f"/networks/{name}")
                return network and EngineObject(
                    identity=network["Id"], name=network["Name"], project=_project_of(network.get("Labels"))
                )
            case ObjectKind.VOLUME:
                return await self._volume(name)
            case ObjectKind.IMAGE:
                image = await self._get(f"/images/{name}/json")
                project = _project_of(((image or {}).get("Config") or {}).get("Labels"))
                return image and EngineObject(
                    identity=image["Id"], project=project, tags=tuple(image.get("RepoTags") or ())
                )

    async def _exec(self, name: str) -> EngineObject | None:
        if name in self._execs:
            return EngineObject(identity=name, project=self._execs[name])
        reported = await self._get(f"/exec/{name}/json")
        container = None if reported is None else await self._fact(ObjectKind.CONTAINER, reported["ContainerID"])
        return container and reported and EngineObject(identity=reported["ID"], project=container.project)

    async def _image_name(self, name: str) -> EngineObject:
        """Which images a name was for containers of declared projects, and the projects of all containers of it."""
        users: set[str] = set()
        for container in await self._get("/containers/json?all=1") or ():
            # A listing has an id where the name moved since, so each container is asked.
            inspected = await self._get(f"/containers/{container['Id']}/json")
            if inspected is not None and _image_name(inspected) == name:
                users.add(self.learn(inspected).project)
        images = frozenset(image for image_name, image in self._images if image_name == name)
        return EngineObject(identity=name, name=name, users=frozenset(users), images=images)

    async def _volume(self, name: str) -> EngineObject | None:
        reported = await self._get(f"/volumes/{name}")
        if reported is None:
            return None
        project, users = _project_of(reported.get("Labels")), frozenset[str]()
        if project not in self.policy.projects:
            filters = json.dumps({"volume": {name: True}})
            listed = await self._get(f"/containers/json?all=1&filters={quote(filters)}") or ()
            users = frozenset(_project_of(container.get("Labels")) for container in listed)
            if name in self._volumes:
                users |= {self._volumes[name]}
        return EngineObject(
            identity=name, name=name, project=project, options=reported.get("Options") or {}, users=users
        )

    async def _get(self, target: str) -> Any:
        reader, writer = await connect(self.socket_path)
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(_SECONDS):
                status, body = await read_answer(reader, "GET")
        except (OSError, TimeoutError) as error:
            raise EngineUnreachableError(f"unix://{self.socket_path}", "it did not answer") from error
        finally:
            writer.close()
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            refuse(f"the engine cannot say what {show_words(target.partition('?')[0])} is (it answered {status})")
        return orjson.loads(body)


def check_links(source: MountSource, policy: Policy) -> None:
    """Follow the links in a path below its root, as the engine will, and check that it stays within the roots.

    The roots themselves are not resolved: the user who declares one decides where it leads. Raises RequestRefusedError
    if it leaves the declared roots, or the broker cannot see where it leads.
    """
    root = find_root(source, policy)
    at, parts, links = root.path, _parts(source.path[len(root.path) :]), 0
    if parts and not os.path.lexists(root.path):
        _refuse_link(source, f"root {root.path} is not mounted into the broker, so links below it cannot be followed")
    while parts:
        name, parts = parts[0], parts[1:]
        at = os.path.dirname(at) if name == ".." else f"{at}/{name}"  # noqa: PTH120
        _check_place(at, source, policy)
        target = None if name == ".." else _link(at, source)
        if target is None:
            continue
        links += 1
        if links > _LINKS:
            _refuse_link(source, "it has too many links")
        if target.startswith("/"):
            root = _roots_of(target, source, policy)[0]
            at, parts = root.path, [*_parts(target[len(root.path) :]), *parts]
        else:
            at, parts = os.path.dirname(at), [*_parts(target), *parts]  # noqa: PTH120
            _check_place(at, source, policy)
    find_root(MountSource(path=at, writable=source.writable), policy)


def _check_place(at: str, source: MountSource, policy: Policy) -> None:
    if any(root.writable and root.path != at for root in _roots_of(at, source, policy)):
        _refuse_link(source, "a link in it leads to where containers can write")


def _link(path: str, source: MountSource) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115  # a Path would lose what is doubled or dotted in it
    except OSError as error:
        # EINVAL: it is no link.
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            _refuse_link(source, f"the broker cannot follow it ({os.strerror(error.errno or 0).lower()})")
        return None


def _roots_of(path: str, source: MountSource, policy: Policy) -> list[Root]:
    roots = [root for root in policy.roots if root.holds(path)]
    return roots or _refuse_link(source, "a link in it leads out of the declared roots")


def _refuse_link(source: MountSource, why: str) -> NoReturn:
    refuse(
        f"{show_words(source.path)}: {why}", "Declare where it leads in ROAS_BROKER_ROOTS and mount that there as well."
    )


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _project_of(labels: Mapping[str, str] | None) -> str:
    return (labels or {}).get(PROJECT, "")


def _image_name(inspected: Mapping[str, Any]) -> str:
    """The whole name of the image that a container was made from; empty where it was given by an id or a digest."""
    try:
        return whole_name(str((inspected.get("Config") or {}).get("Image") or ""))
    except ValueError:
        return ""


def _keep(memory: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    memory[key] = value
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
