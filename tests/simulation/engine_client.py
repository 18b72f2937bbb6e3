"""The client of a simulated engine: the SDK's interface, as adapters/docker calls it."""

from __future__ import annotations

import contextvars
import json
import struct
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import requests
from docker.errors import NotFound

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL, EngineClient
from adapters.docker.engine import DockerEngine
from adapters.docker.events import Events, EventStream
from tests.simulation import kernel
from tests.simulation.containers import Container, Version, go_time, image_document
from tests.simulation.engine import Engine, EventConnection, conflict, endpoint, response

_STARTS_IN = 0.1


class SimulatedEvents(Events):
    """Streams of a simulated engine's events."""

    def __init__(self, client: EngineClient, engine: Engine) -> None:
        super().__init__(client)
        self._engine = engine

    def stream(self, project: str | None, since: datetime, until: datetime | None = None) -> EventStream:
        with self._client.translate_errors("listening to events"):
            self._client.read_client.reach("events")
            end = None if until is None else until.timestamp()
            stream = EventConnection(self._engine, project, since.timestamp(), end)
        answer: Any = SimpleNamespace(close=stream.close)
        return EventStream(stream, answer, self._client.address, endless=until is None)


class SimulatedDockerEngine(DockerEngine):
    """The client of adapters/docker whose SDK talks to a simulated engine."""

    def __init__(self, address: str, engine: Engine) -> None:
        super().__init__(address)
        self._direct = None
        self._api = Api(engine)
        self.events = SimulatedEvents(self, engine)

    def _client(self, seconds: int) -> Any:
        return self._api

    def get(self, path: str, **query: str | int) -> Any:
        return self._api.read(path, query)

    @property
    def ahead(self) -> timedelta:
        return timedelta()

    def map(self, call: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        return iter([call(item) for item in items])


class Api:
    """The calls of the SDK that adapters/docker makes."""

    api_version = "1.44"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._commands: dict[str, tuple[int, bytes]] = {}

    def reach(self, call: str) -> bool:
        """Go to the engine and back, or fail on the way; whether the call arrives twice."""
        weather, choices = self._engine.weather, self._engine.choices
        kernel.sleep(0.002)
        if weather.is_away or choices.random() < weather.refused:
            raise requests.ConnectionError(f"connection refused ({call})")
        if kernel.is_thread() and choices.random() < weather.hang:
            kernel.sleep(10.0)
            raise requests.ReadTimeout(f"no answer ({call})")
        return choices.random() < weather.twice

    def read(self, path: str, query: dict[str, str | int]) -> Any:
        """Answer a path of the API."""
        self.reach(path)
        kind, key, what = _split(path)
        if kind == "containers" and not key:
            labels = json.loads(str(query.get("filters", "{}"))).get("label", [])
            return [
                container.line()
                for container in self._engine.containers.values()
                if (query.get("all") or container.is_listed) and all(_has_label(container, label) for label in labels)
            ]
        if kind == "images":
            return image_document(*self._image(key))
        if what == "stats":
            return self._statistics(self._engine.find(key))
        return self._engine.describe(self._engine.find(key))

    def _image(self, key: str) -> tuple[Version, list[str]]:
        names = self._engine.names
        version = names.get(key)
        if version is None:
            digest = key.rpartition("@")[2]
            images = (image for image in names.values() if image.image_id == digest)
            version = next(images, self._engine.pulled.get(digest))
        if version is None:
            raise NotFound("404", response=response(404), explanation=f"No such image: {key}")
        return version, [name for name, image in names.items() if image == version]

    def _statistics(self, container: Container) -> dict[str, Any]:
        now = self._engine.clock.now()
        if not container.is_up:
            return {"read": "0001-01-01T00:00:00Z"}
        seconds = (now - (container.started_at or now)).total_seconds()
        return {
            "read": go_time(now),
            "cpu_stats": {"cpu_usage": {"total_usage": int(seconds * 5e6)}},
            "memory_stats": {"usage": 40_000_000, "limit": 1_000_000_000, "stats": {}},
            "networks": {},
        }

    def _asked(self, container_id: str, change: str) -> Container:
        container = self._engine.find(container_id)
        self._engine.on_change(container, change)
        return container

    # Changes

    def start(self, container_id: str) -> None:
        again = self.reach("start")
        if self._asked(container_id, "start").status == "paused":
            raise conflict("cannot start a paused container, try unpause instead")
        for _ in range(1 + again):
            self._engine.start(self._engine.find(container_id))

    def stop(self, container_id: str, timeout: int | None = None) -> None:
        self.reach("stop")
        container = self._asked(container_id, "stop")
        beside(lambda: self._engine.stop(container))

    def restart(self, container_id: str, timeout: int = 10) -> None:
        self.reach("restart")
        container = self._asked(container_id, "restart")

        def restart() -> None:
            self._engine.stop(container)
            # Else its stop would be of its new life.
            kernel.sleep(_STARTS_IN)
            self._engine.start(container)
            self._engine.report(container, "restart")

        beside(restart)

    def unpause(self, container_id: str) -> None:
        self.reach("unpause")
        self._engine.unpause(self._asked(container_id, "unpause"))

    def put_archive(self, container_id: str, path: str, data: bytes) -> None:
        self.reach("put archive")
        self._engine.find(container_id)

    def remove_container(self, container_id: str, v: bool = False, force: bool = False) -> None:
        again = self.reach("remove")
        self._engine.remove(self._asked(container_id, "remove"), force=force)
        if again:
            self._engine.find(container_id)

    def rename(self, container_id: str, name: str) -> None:
        self.reach("rename")
        container = self._engine.find(container_id)
        if any(other.name == name for other in self._engine.containers.values()):
            raise conflict(f'Conflict. The container name "/{name}" is already in use')
        container.name = name
        self._engine.report(container, "rename")

    def create_container_from_config(self, body: dict[str, Any], name: str) -> dict[str, str]:
        self.reach("create")
        container = self._engine.create(name, body)
        # One beside another gets that one's name later.
        labels = container.labels
        container.put_back = name == f"{labels.get(PROJECT_LABEL)}-{labels.get(SERVICE_LABEL)}-1"
        return {"Id": container.container_id}

    def connect_container_to_network(self, container_id: str, network: str, **point: Any) -> None:
        self.reach("connect")
        joined = endpoint({"Aliases": point.get("aliases"), "Links": point.get("links")})
        self._engine.find(container_id).networks[network] = joined

    def disconnect_container_from_network(self, container_id: str, network: str) -> None:
        self.reach("disconnect")
        self._engine.find(container_id).networks.pop(network, None)

    def remove_network(self, name: str) -> None:
        self.reach("remove network")
        if self._engine.networks.pop(name, None) is None:
            raise NotFound("404", response=response(404), explanation=f"network {name} not found")

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        self.reach("tag")
        self._engine.names[f"{repository}:{tag}"] = self._image(image_id)[0]

    def remove_image(self, name: str, noprune: bool = False) -> None:
        self.reach("remove image")
        if self._engine.names.pop(name, None) is None:
            raise NotFound("404", response=response(404), explanation=f"No such image: {name}")

    # Questions

    def inspect_container(self, container_id: str) -> dict[str, Any]:
        self.reach("inspect")
        return self._engine.describe(self._engine.find(container_id))

    def inspect_image(self, key: str) -> dict[str, Any]:
        self.reach("inspect image")
        return image_document(*self._image(key))

    def inspect_network(self, name: str) -> dict[str, Any]:
        self.reach("inspect network")
        return self._engine.networks[name] | {"Created": go_time(self._engine.started_at)}

    def inspect_distribution(self, reference: str) -> dict[str, Any]:
        self.reach("ask registry")
        version = self._engine.registry.get(reference)
        if version is None:
            raise NotFound("404", response=response(404), explanation=f"manifest for {reference} not found")
        return {"Descriptor": {"digest": version.image_id}}

    def containers(self, all: bool = False, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:  # noqa: A002
        self.reach("list containers")
        network = (filters or {}).get("network")
        return [
            container.line()
            for container in self._engine.containers.values()
            if (all or container.is_listed) and (network is None or network in container.networks)
        ]

    def images(self, name: str | None = None, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        self.reach("list images")
        if (filters or {}).get("dangling"):
            return []
        images: dict[str, dict[str, Any]] = {}
        for tag, version in self._engine.names.items():
            if name is None or tag.rpartition(":")[0] == name:
                line = images.setdefault(version.image_id, {"Id": version.image_id, "RepoTags": [], "Size": 1})
                line["RepoTags"].append(tag)
        return list(images.values())

    def networks(self, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        self.reach("list networks")
        label = (filters or {}).get("label")
        return [
            network
            for network in self._engine.networks.values()
            if label is None or network["Labels"].get(PROJECT_LABEL) == label.partition("=")[2]
        ]

    def volumes(self, filters: dict[str, Any] | None = None) -> dict[str, Any]:
        self.reach("list volumes")
        project = ((filters or {}).get("label") or "").partition("=")[2]
        return {"Volumes": [{"Name": name} for name in self._engine.volumes if name.startswith(project)]}

    def logs(self, container_id: str, **_: Any) -> bytes:
        self.reach("logs")
        container = self._engine.find(container_id)
        at = go_time(container.started_at)
        return "".join(f"{at} {line}\n" for line in container.log[-20:]).encode()

    def events(self, since: str, until: str, **_: Any) -> list[dict[str, Any]]:
        self.reach("past events")
        return [event for event in self._engine.events if float(since) <= event["timeNano"] / 1e9 <= float(until)]

    def info(self) -> dict[str, Any]:
        self.reach("info")
        return {
            "Name": "simulated",
            "OperatingSystem": "Simulated",
            "Architecture": "x86_64",
            "NCPU": 4,
            "MemTotal": 8 * 2**30,
            "Driver": "overlay2",
            "DockerRootDir": "/",
            "SystemTime": go_time(self._engine.clock.now()),
        }

    def version(self, api_version: bool = True) -> dict[str, str]:
        self.reach("version")
        return {"Version": "26.1.5", "ApiVersion": self.api_version}

    # Commands in containers

    def exec_create(self, container_id: str, command: list[str]) -> dict[str, str]:
        self.reach("exec")
        container = self._engine.find(container_id)
        if container.status != "running":
            raise conflict(f"container {container_id} is not running")
        key = f"{self._engine.choices.getrandbits(64):016x}"
        self._commands[key] = (0, b"ok\n") if container.serves else (1, b"not ready\n")
        return {"Id": key}

    def _url(self, path: str, *parts: str, **_: Any) -> str:
        return path.format(*parts)

    def post(self, url: str, **_: Any) -> Any:
        printed = self._commands[url.split("/")[2]][1]
        frames = iter([struct.pack(">BxxxL", 1, len(printed)), printed, b""])
        return SimpleNamespace(raw=SimpleNamespace(read=lambda _: next(frames, b"")), close=lambda: None)

    def _raise_for_status(self, _: Any) -> None:
        """It went well."""

    def exec_inspect(self, key: str) -> dict[str, int]:
        return {"ExitCode": self._commands.pop(key)[0]}

    def close(self) -> None:
        """Nothing to close."""


def beside(work: Callable[[], None]) -> None:
    """Do what takes a while in the engine, and wait for it; it goes on where the caller is killed."""
    if not kernel.is_thread():
        work()
        return
    done, failed = kernel.Event(), []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the caller raises it
            failed.append(error)
        done.set()

    contextvars.Context().run(kernel.spawn, run)
    done.wait()
    if failed:
        raise failed[0]


def _split(path: str) -> tuple[str, str, str]:
    words = unquote(path).strip("/").split("/")
    if words[0] == "images":
        return "images", "/".join(words[1:-1]), words[-1]
    return (words[0], "", words[1]) if len(words) == 2 else (words[0], words[1], words[2])


def _has_label(container: Container, label: str) -> bool:
    name, equals, value = label.partition("=")
    return name in container.labels and (not equals or container.labels[name] == value)
