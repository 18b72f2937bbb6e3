"""A simulated Docker engine behind the SDK's interface, as adapters/docker calls it."""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests
from docker.errors import APIError, NotFound

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL
from models.containers import ONE_OFF_LABEL
from tests.simulation import kernel
from tests.simulation.checks import HealthChecks
from tests.simulation.clock import BEGIN, Clock
from tests.simulation.containers import (
    KILLED,
    TERMINATED,
    Container,
    Data,
    Outcome,
    Row,
    Version,
)

_LONGEST_BACK_OFF = 60.0
_STOPS_IN = 0.4
_AGAIN = 1.0
_FORGIVES_AFTER = 10.0
"""A container that ran so long is restarted at once again (moby, restartmanager)."""


@dataclass(slots=True)
class Weather:
    """How often calls of the engine go wrong, as shares of them."""

    refused: float = 0.0
    hang: float = 0.0
    twice: float = 0.0
    lost_event: float = 0.0
    is_away: bool = False


class Engine:
    """One engine: what it has, and what happens in it by itself."""

    def __init__(self, clock: Clock, choices: random.Random) -> None:
        self.clock, self.choices, self.weather = clock, choices, Weather()
        self.containers: dict[str, Container] = {}
        self.registry: dict[str, Version] = {}
        """What registries have, by name."""
        self.names: dict[str, Version] = {}
        """What the engine has, by name."""
        self.pulled: dict[str, Version] = {}
        """All images that it has, by id, also those that no name leads to."""
        self.volumes: dict[str, Data] = {}
        self.networks: dict[str, dict[str, Any]] = {"bridge": {"Name": "bridge", "Driver": "bridge", "Labels": {}}}
        self.events: list[dict[str, Any]] = []
        self.streams: list[EventConnection] = []
        self.broken: set[str] = set()
        """Services whose program ends soon after each start, whatever its version."""
        self.started_at = BEGIN - timedelta(days=3)
        self.programs, self.checks = Programs(self), HealthChecks(self)
        self.on_event: Callable[[Container, str], None] = lambda _, __: None
        self.on_change: Callable[[Container, str], None] = lambda _, __: None
        """Called with each change that a process of ours asks for, before it is made."""

    # What it has

    def find(self, key: str) -> Container:
        """A container by its id, the beginning of its id, or its name."""
        for container in self.containers.values():
            if container.container_id == key or container.name == key:
                return container
        for container in self.containers.values():
            if len(key) >= 12 and container.container_id.startswith(key):
                return container
        raise NotFound("404", response=response(404), explanation=f"No such container: {key}")

    def of_project(self, project: str, service: str | None = None) -> list[Container]:
        """The containers of a project or of one service, without those that ran a command once."""
        return [
            container
            for container in self.containers.values()
            if container.labels.get(PROJECT_LABEL) == project
            and service in (None, container.labels.get(SERVICE_LABEL))
            and container.labels.get(ONE_OFF_LABEL) != "True"
        ]

    def data_of(self, container: Container) -> Data | None:
        """The contents of its volume."""
        volume = next((mount["Name"] for mount in container.mounts if mount["Type"] == "volume"), None)
        return None if volume is None else self.volumes.setdefault(volume, Data())

    # What happens in it

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Do something later, whoever is killed meanwhile."""
        kernel.loop().call_later(seconds, call, *arguments, context=contextvars.Context())

    def create(self, name: str | None, body: dict[str, Any]) -> Container:
        """Make a container."""
        if any(container.name == name for container in self.containers.values()):
            raise conflict(f'Conflict. The container name "/{name}" is already in use')
        version = self.names.get(body["Image"]) or next(
            (version for version in self.names.values() if version.image_id == body["Image"]),
            self.pulled.get(body["Image"]),
        )
        if version is None:
            raise NotFound("404", response=response(404), explanation=f"No such image: {body['Image']}")
        host = dict(body.get("HostConfig") or {})
        mounts = [
            {"Type": "volume", "Name": bind["Source"], "Destination": bind["Target"], "Source": "", "RW": True}
            for bind in host.get("Mounts") or ()
        ]
        mounts += [
            {"Type": "volume", "Name": f"{self.choices.getrandbits(64):016x}", "Destination": target, "Source": "",
             "RW": True}
            for target in body.get("Volumes") or ()
        ]  # fmt: skip
        points = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        container_id = f"{self.choices.getrandbits(256):064x}"
        container = Container(
            container_id=container_id,
            name=name or container_id[:12],
            version=version,
            config={key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")},
            host_config=host,
            networks={network: endpoint(point) for network, point in points.items()},
            mounts=mounts,
            created_at=self.clock.now(),
        )
        for mount in mounts:
            self.volumes.setdefault(mount["Name"], Data())
        self.containers[container_id] = container
        self.report(container, "create")
        return container

    def run_once(self, name: str, body: dict[str, Any], code: int) -> None:
        """Make a container, let its command end with this code after half a second, and remove it."""
        container = self.create(name, body)
        container.status, container.started_at = "running", self.clock.now()
        self.report(container, "start")

        def end() -> None:
            container.status, container.exit_code, container.finished_at = "exited", code, self.clock.now()
            self.report(container, "die", exitCode=str(code))
            self.remove(container)

        self.later(0.5, end)

    def start(self, container: Container, *, again: bool = False) -> None:
        """Start a container; does nothing if it runs, or is about to."""
        if container.is_up or (container.status == "restarting" and not again):
            return
        if not again:
            container.restart_count, container.back_off, container.stopped_by_hand = 0, 0, False
        container.life += 1
        container.status, container.exit_code, container.oom_killed = "running", 0, False
        container.started_at = self.clock.now()
        self.checks.begin(container)
        self.report(container, "start")
        version = container.version
        if (schema := self.programs.begin(container)) > version.schema:
            container.log.append(
                f"FATAL: data has schema {schema}, and version {version.number} reads {version.schema}"
            )
            self.later(0.3, self._die_if_still, container, container.life, 3)
        elif version.service in self.broken:
            self.later(self.choices.uniform(0.5, 12.0), self._die_if_still, container, container.life, 1)
        elif version.outcome is Outcome.CRASHES:
            container.log.append(f"fatal error: version {version.number} has a defect")
            self.later(0.5, self._die_if_still, container, container.life, 1)
        elif version.outcome is not Outcome.HANGS:
            seconds = version.starts_in * self.choices.uniform(0.8, 1.2)
            self.later(seconds, self._up, container, container.life)

    def _up(self, container: Container, life: int) -> None:
        if container.life != life or not container.is_up:
            return
        if container.status == "paused":
            self.later(_AGAIN, self._up, container, life)
            return
        self.programs.serve(container)
        container.log.append("ready")
        if container.version.outcome is Outcome.CRASHES_LATER:
            self.later(container.version.crashes_after, self._die_if_still, container, life, 1)
        if container.version.outcome is not Outcome.UNHEALTHY:
            self.checks.change(container, passes=True)

    def sicken(self, container: Container) -> None:
        """Let its health check fail from now on, until it is started anew."""
        self.checks.change(container, passes=False)

    def _die_if_still(self, container: Container, life: int, code: int) -> None:
        if container.life == life and container.is_up:
            self.die(container, code)

    def die(self, container: Container, code: int, *, oom: bool = False) -> None:
        """Let its program end by itself."""
        if oom:
            container.oom_killed = True
            self.report(container, "oom")
        self._end(container, code)
        policy = (container.host_config.get("RestartPolicy") or {}).get("Name") or "no"
        is_restarted = policy in ("always", "unless-stopped") or (policy == "on-failure" and code != 0)
        if is_restarted and not container.stopped_by_hand:
            ran = (self.clock.now() - (container.started_at or self.clock.now())).total_seconds()
            container.back_off = 0 if ran > _FORGIVES_AFTER else container.back_off
            container.status = "restarting"
            pause = min(0.1 * 2**container.back_off, _LONGEST_BACK_OFF)
            container.restart_count += 1
            container.back_off += 1
            self.later(pause, self._restart_if_still, container, container.life)

    def _restart_if_still(self, container: Container, life: int) -> None:
        if container.life == life and container.status == "restarting" and container.container_id in self.containers:
            self.start(container, again=True)

    def describe(self, container: Container) -> dict[str, Any]:
        """What it reports of a container."""
        self.checks.keep_results(container)
        return container.document()

    def _end(self, container: Container, code: int) -> None:
        self.checks.end(container)
        container.status, container.exit_code = "exited", code
        container.finished_at = self.clock.now()
        container.life += 1
        seconds = int((container.finished_at - (container.started_at or container.finished_at)).total_seconds())
        self.report(container, "die", exitCode=str(code), execDuration=str(seconds))

    def signal(self, container: Container, signal: int, code: int) -> None:
        """End its program by a signal, as `docker kill` and `docker stop` do."""
        container.stopped_by_hand = True
        if container.status == "restarting":
            # Nothing is sent to a program that does not run (moby, daemon/kill.go).
            container.status = "exited"
        elif container.is_up:
            self._send(container, signal)
            self._end(container, code)

    def _send(self, container: Container, signal: int) -> None:
        """Send a signal; a container that is paused goes on, so that it arrives (moby, daemon/kill.go)."""
        self.report(container, "kill", signal=str(signal))
        self.unpause(container)

    def stop(self, container: Container) -> None:
        """Stop a container: ask its program to end, and wait for that."""
        if container.status == "restarting":
            self.signal(container, 15, TERMINATED)
        elif container.is_up:
            container.stopped_by_hand, life = True, container.life
            self._send(container, 15)
            kernel.sleep(_STOPS_IN)
            if container.life == life:
                self._end(container, TERMINATED)
        else:
            return
        self.report(container, "stop")

    def pause(self, container: Container) -> None:
        """Pause a container."""
        if container.status == "running":
            self.checks.end(container)
            container.status = "paused"
            self.report(container, "pause")

    def unpause(self, container: Container) -> None:
        """Let a paused container go on."""
        if container.status == "paused":
            container.status = "running"
            self.report(container, "unpause")
            self.checks.resume(container)

    def remove(self, container: Container, *, force: bool = False) -> None:
        """Remove a container."""
        if container.is_up:
            if not force:
                raise conflict("cannot remove a running container")
            self.signal(container, 9, KILLED)
        self.containers.pop(container.container_id, None)
        self.report(container, "destroy")

    def report(self, container: Container, action: str, **attributes: str) -> None:
        """Report an event to all streams, unless it is lost."""
        self.on_event(container, action)
        at = self.clock.now()
        event = {
            "Type": "container",
            "Action": action,
            "Actor": {
                "ID": container.container_id,
                "Attributes": {
                    PROJECT_LABEL: container.labels.get(PROJECT_LABEL, ""),
                    SERVICE_LABEL: container.labels.get(SERVICE_LABEL, ""),
                    ONE_OFF_LABEL: container.labels.get(ONE_OFF_LABEL, ""),
                    "name": container.name,
                    "image": container.config["Image"],
                    **attributes,
                },
            },
            "time": int(at.timestamp()),
            "timeNano": int(at.timestamp() * 1e6) * 1000,
        }
        self.events.append(event)
        del self.events[:-1000]
        if self.choices.random() >= self.weather.lost_event:
            for stream in self.streams:
                stream.put(event)

    def break_streams(self) -> None:
        """Let all connections that listen to events end."""
        for stream in list(self.streams):
            stream.breaks()

    def restart(self) -> None:
        """Restart the engine: all containers end, and those come back whose policy says so."""
        self.break_streams()
        running = [container for container in self.containers.values() if container.is_up]
        for container in running:
            self._end(container, KILLED)
        self.started_at = self.clock.now()
        self.events.clear()
        for container in self.containers.values():
            policy = (container.host_config.get("RestartPolicy") or {}).get("Name") or "no"
            if policy == "always" or (policy == "unless-stopped" and container in running):
                self.start(container)


class Programs:
    """What programs do with data: each with that of its own volume."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.written = 0

    def begin(self, container: Container) -> int:
        """A program begins: the newest schema of the data that it needs."""
        data = self.engine.data_of(container)
        return data.schema if data is not None else 0

    def serve(self, container: Container) -> None:
        """It serves from now on: it migrates older data, and writes."""
        if (data := self.engine.data_of(container)) is not None:
            self.write(container, data)

    def write(self, container: Container, data: Data) -> None:
        """Let it write one row."""
        version, self.written = container.version, self.written + 1
        data.schema = max(data.schema, version.schema)
        data.rows.append(Row(self.written, version.service, version.number, self.engine.clock.seconds, data.schema))


class EventConnection:
    """A connection that listens to events."""

    def __init__(self, engine: Engine, project: str | None, since: float, until: float | None) -> None:
        self._engine, self._project, self._until = engine, project, until
        self._waiting = [event for event in engine.events if event["timeNano"] / 1e9 >= since and self._fits(event)]
        self._signal, self._state = kernel.Signal(), "open"
        engine.streams.append(self)

    def _fits(self, event: dict[str, Any]) -> bool:
        owner = event["Actor"]["Attributes"].get(PROJECT_LABEL)
        return bool(owner) if self._project is None else owner == self._project

    def put(self, event: dict[str, Any]) -> None:
        if self._fits(event):
            self._waiting.append(event)
            self._signal.wake()

    def breaks(self) -> None:
        self._state = "broken"
        self.close()

    def close(self) -> None:
        if self._state == "open":
            self._state = "closed"
        if self in self._engine.streams:
            self._engine.streams.remove(self)
        self._signal.wake()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            while self._waiting:
                yield self._waiting.pop(0)
            if self._state == "broken":
                raise requests.ConnectionError("connection reset by peer")
            remaining = None if self._until is None else self._until - self._engine.clock.now().timestamp()
            if self._state == "closed" or (remaining is not None and remaining <= 0):
                return
            self._signal.wait(remaining)


def endpoint(point: dict[str, Any] | None) -> dict[str, Any]:
    """How a container joins a network."""
    aliases = list((point or {}).get("Aliases") or ())
    return {"Aliases": aliases, "IPAMConfig": None, "Links": (point or {}).get("Links"), "IPAddress": "10.0.0.2"}


def response(status: int) -> requests.Response:
    """An answer of the engine with this status."""
    response = requests.Response()
    response.status_code = status
    return response


def conflict(text: str) -> APIError:
    """The error of a change that another one stands against."""
    return APIError("409", response=response(409), explanation=text)
