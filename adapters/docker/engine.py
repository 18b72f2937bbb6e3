"""The door to the Docker engine, through its API; the only module that knows the docker package."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from types import TracebackType
from typing import Any

import docker
import orjson
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream

from adapters.docker.control_groups import sample_group
from adapters.docker.unix_http import UnixHttp
from core.common.safe_text import printable
from core.errors.redact import Redactor, secrets_among, secrets_in
from core.monitoring.measurements import uses_the_same
from models.compose import ImageFact, InjectedFile, NetworkFact, NetworkPlace, PortHolder
from models.containers import ContainerEvent, ContainerState, EngineInfo, HealthLogEntry, ServiceSample
from models.failures import (
    ContainerGoneError,
    EngineError,
    EnginePermissionError,
    EngineUnreachableError,
)

_UNIX = "unix://"
_QUICK_SECONDS = 10
_PATIENT_SECONDS = 120
_AT_ONCE = 16
_LOG_BYTES = 256 * 1024
_EXEC_BYTES = 64 * 1024
_ONE_SHOT = {"stream": 0, "one-shot": 1}

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_NUMBER = "com.docker.compose.container-number"
_ONE_OFF = "com.docker.compose.oneoff"
_CONFIG_HASH = "com.docker.compose.config-hash"

# Everything but exec_*: every health check makes three of those, and they show commands with their arguments.
_ACTIONS = (
    "create",
    "start",
    "restart",
    "die",
    "oom",
    "kill",
    "stop",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "health_status",
)
_ENDS = frozenset({"kill", "stop", "die", "disconnect", "unmount", "destroy"})
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_ATTRIBUTES = ("exitCode", "signal", "execDuration", "image", "name", "oldName")


class DockerEngine:
    """One Docker engine, at an address such as unix:///var/run/docker.sock.

    Nothing is asked before the first call, and an engine that was away is asked again at the next one.
    Every call has a time limit; threads may share one object.

    No secret and no escape sequence comes through this door: words of containers and of the engine are made
    printable and redacted before anybody sees them, by the values it was told to conceal and by those its
    containers get in variables named like secrets.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._clients: dict[int, Any] = {}
        self._lock = threading.Lock()
        # By project: the containers whose control groups say what the engine says, and whether they have a network.
        self._shown: dict[str, dict[str, bool]] = {}
        self._pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="engine")
        self._direct = (
            UnixHttp(address.removeprefix(_UNIX), seconds=_QUICK_SECONDS) if address.startswith(_UNIX) else None
        )
        self._concealed: frozenset[str] = frozenset()
        self._learned: set[str] = set()
        self._redacted = _remembering(Redactor(()))

    def close(self) -> None:
        """Give back connections and threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._direct is not None:
            self._direct.close()
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def conceal(self, values: Iterable[str]) -> None:
        """Redact these values too, from now on and in every spelling."""
        new = frozenset(values)
        if new <= self._concealed:
            return
        with self._lock:
            self._concealed |= new
            self._redacted = _remembering(Redactor(self._concealed))

    @property
    def concealed(self) -> frozenset[str]:
        """The secret values this door knows; for redacting elsewhere, never to be written."""
        return self._concealed

    def redact(self, text: str) -> str:
        """The text without secrets, and without what a terminal would obey."""
        return self._redacted(text) if text else text

    def info(self) -> EngineInfo:
        """The engine as it describes itself.

        Raises:
            EngineUnreachableError: It did not answer.
            EnginePermissionError: It is there, but this user may not talk to it.
        """
        with self._speaking("describing itself"):
            reported = self._quick().info()
            version = self._quick().version(api_version=False)
        return EngineInfo(
            address=self.address,
            version=version.get("Version", ""),
            api_version=version.get("ApiVersion", ""),
            operating_system=reported.get("OperatingSystem", ""),
            architecture=reported.get("Architecture", ""),
            cpus=reported.get("NCPU", 0),
            memory_bytes=reported.get("MemTotal", 0),
            storage_driver=reported.get("Driver", ""),
            warnings=tuple(reported.get("Warnings") or ()),
            root_folder=reported.get("DockerRootDir", ""),
            system_time=_moment(reported.get("SystemTime")),
            address_pools=tuple(
                (pool["Base"], int(pool["Size"])) for pool in reported.get("DefaultAddressPools") or ()
            ),
        )

    def container_states(self, project: str, service: str | None = None) -> list[ContainerState]:
        """Every container of a project or of one service, stopped ones too, by service and number.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        return self.look_at(self._containers(project, service, running=False))

    def containers(self, project: str) -> dict[str, str]:
        """The service of every container of a project, stopped ones too, by the container's id.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        return self._containers(project, running=False)

    def look_at(self, container_ids: Iterable[str]) -> list[ContainerState]:
        """These containers, by service and number, without those that are gone.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        found = self._pool.map(self._container_state_or_none, container_ids)
        seen = [container_state for container_state in found if container_state is not None]
        return sorted(seen, key=lambda one: (one.service, one.number, one.name))

    def container_state(self, container_id: str) -> ContainerState:
        """One container now.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking(f"looking at container {_short(container_id)}"):
            reported = self._read(f"/containers/{container_id}/json")
        if container_id not in self._learned:
            # A container's configuration never changes.
            self.conceal(_secrets_of(reported))
            self._learned.add(container_id)
        return _container_state(reported, datetime.now(UTC), self.redact)

    def start(self, container_id: str, files: Sequence[InjectedFile] = ()) -> None:
        """Start a container, after copying into it the files Compose would; a running one is left alone.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: The engine could not start it; in its own words.
        """
        with self._speaking(f"starting container {_short(container_id)}"):
            for file in files:
                self._patient().put_archive(container_id, "/", _archive(file))
            self._patient().start(container_id)

    def stop(self, container_id: str, grace: timedelta | None = None) -> None:
        """Ask a container to stop and wait for it; after the grace the engine kills it.

        Without a grace the container's own stop timeout counts. A stopped one is left alone.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: The engine could not stop it.
        """
        with self._speaking(f"stopping container {_short(container_id)}"):
            self._patient().stop(container_id, **_grace(grace))

    def restart(self, container_id: str, grace: timedelta | None = None) -> None:
        """Stop and start a container, keeping what is in it.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: The engine could not restart it.
        """
        with self._speaking(f"restarting container {_short(container_id)}"):
            # Without a number the client would impose ten seconds of its own over the container's timeout.
            seconds = _grace(grace) or {"timeout": self._stop_timeout(container_id)}
            self._patient().restart(container_id, **seconds)

    def unpause(self, container_id: str) -> None:
        """Let a paused container go on: a paused one can handle no signal.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: It is not paused.
        """
        with self._speaking(f"unpausing container {_short(container_id)}"):
            self._quick().unpause(container_id)

    def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: It is not running.
        """
        with self._speaking(f"killing container {_short(container_id)}"):
            self._quick().kill(container_id, signal)

    def remove(self, container_id: str, *, force: bool = False) -> None:
        """Remove a container and its anonymous volumes' names, not named volumes; a gone one is well.

        Raises:
            EngineError: It still runs and `force` was not given, or the engine refused.
        """
        with self._speaking(f"removing container {_short(container_id)}"):
            try:
                self._patient().remove_container(container_id, force=force)
            except NotFound:
                return

    def samples(self, project: str) -> list[ServiceSample]:
        """What each running container of a project uses now; counters are totals since its start.

        Its statistics are dear to the engine. So where the kernel's control groups are seen from here and have said the
        same of a container once, only they are read from then on.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        containers, shown = self._containers(project, running=True), self._shown.get(project, {})
        read = {
            one: sample_group(one, service, networked=shown[one]) for one, service in containers.items() if one in shown
        }
        unread = [one for one in containers if read.get(one) is None]
        for one, reported in zip(unread, self._pool.map(self._statistics, unread), strict=True):
            read[one] = None if reported is None else _sample(reported, one, containers[one])
            networked = bool(reported and reported.get("networks"))
            group = sample_group(one, containers[one], networked=networked)
            if group is not None and (engines := read[one]) is not None and uses_the_same(engines, group):
                shown = shown | {one: networked}
        self._shown[project] = {one: networked for one, networked in shown.items() if one in containers}
        return [sample for one in containers if (sample := read[one]) is not None]

    def logs(self, container_id: str, lines: int = 100, since: datetime | None = None) -> str:
        """The last lines a container wrote to its output, both streams, with the engine's time stamps.

        Raises:
            ContainerGoneError: There is no such container any more.
            EngineError: The engine refused, for example because its log driver keeps nothing readable.
        """
        with self._speaking(f"reading the logs of container {_short(container_id)}"):
            written: bytes = self._quick().logs(
                container_id, tail=lines, timestamps=True, since=None if since is None else since.timestamp()
            )
        if len(written) > _LOG_BYTES:
            # Only whole lines: half a secret at the cut would not be known as one.
            written = written[-_LOG_BYTES:].partition(b"\n")[2]
        return self.redact(written.decode("utf-8", errors="replace"))

    def events(self, project: str, since: datetime, until: datetime | None = None) -> EventStream:
        """The events of a project's containers from a moment on, as they come; past ones first.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        asked = {
            "since": f"{since.timestamp():.9f}",
            "until": None if until is None else f"{until.timestamp():.9f}",
            "filters": json.dumps({"type": ["container"], "label": [f"{_PROJECT}={project}"], "event": list(_ACTIONS)}),
        }
        with self._speaking("listening to events"):
            client = self._quick()
            # Not the client's own call: that waits for ever, not only between events but for the answer too.
            answer = client.get(client._url("/events"), params=asked, stream=True, timeout=_QUICK_SECONDS)
            client._raise_for_status(answer)
            client._disable_socket_timeout(client._get_raw_response_socket(answer))
            stream = CancellableStream(client._stream_helper(answer, decode=True), answer)
        return EventStream(stream, self.address, endless=until is None)

    def remembers(self, since: datetime, until: datetime) -> bool:
        """Whether the engine still tells of anything but ends, of anybody's, between two past moments.

        One that has begun in between does not: before all else it stops what ran on while it was away (moby,
        daemon.restore without live-restore), in events that look as if a person had asked for it.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking("reading past events"):
            reported: Iterable[dict[str, Any]] = self._quick().events(
                since=f"{since.timestamp():.9f}", until=f"{until.timestamp():.9f}", decode=True
            )
            return any(event.get("Action") not in _ENDS for event in reported)

    def exec(self, container_id: str, command: Sequence[str], timeout: timedelta) -> tuple[int, str]:
        """Run a command in a container; its exit code and what it printed on both streams.

        The engine cannot end a command from outside, so one that passes its time limit is left behind.

        Raises:
            TimeoutError: The command did not end in time.
            ContainerGoneError: There is no such container any more.
            EngineError: The container does not run, or has no such command.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        with self._speaking(f"running {command[0]} in container {_short(container_id)}"):
            client = self._quick()
            made = client.exec_create(container_id, list(command))
            # Not the client's own call: it leaves out what arrived together with the answer's head, and has
            # no time limit.
            answer = client.post(
                client._url("/exec/{0}/start", made["Id"]),
                json={"Detach": False, "Tty": False},
                stream=True,
                timeout=timeout.total_seconds(),
            )
            client._raise_for_status(answer)
            try:
                printed = _frames(answer.raw, deadline)
            finally:
                answer.close()
            exit_code = client.exec_inspect(made["Id"])["ExitCode"]
        if exit_code is None:
            raise TimeoutError(f"{command[0]} closed its output but did not end within the time limit")
        return exit_code, self.redact(printed.decode("utf-8", errors="replace"))

    def image(self, reference: str) -> ImageFact | None:
        """The image of that name as the engine holds it, or None where it holds none.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking(f"looking for image {reference}"):
            try:
                reported = self._quick().inspect_image(reference)
            except NotFound:
                return None
        return ImageFact(
            reference=reference,
            image_id=reported["Id"],
            digests=tuple(reported.get("RepoDigests") or ()),
            platform="/".join(
                filter(None, (reported.get("Os"), reported.get("Architecture"), reported.get("Variant")))
            ),
            size_bytes=reported.get("Size", 0),
            created_at=_moment(reported.get("Created")),
            checked=_has_check((reported.get("Config") or {}).get("Healthcheck")),
            user=(reported.get("Config") or {}).get("User") or "",
            layers=_layers(reported.get("GraphDriver") or {}),
        )

    def image_can_be_had(self, reference: str) -> str | None:
        """None where the engine can fetch an image of that name, else why not, in the engine's words.

        Raises:
            EngineUnreachableError: The engine itself did not answer.
            EnginePermissionError: The engine may not be asked this.
        """
        try:
            with self._speaking(f"asking a registry for {reference}"):
                self._quick().inspect_distribution(reference)
        except (EngineUnreachableError, EnginePermissionError):
            raise
        except EngineError as error:
            return error.what
        return None

    def port_holders(self) -> list[PortHolder]:
        """The ports of the host that running containers hold.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking("listing containers"):
            containers = self._quick().containers()
        return [
            PortHolder(
                port=port["PublicPort"],
                host_ip=port.get("IP", ""),
                protocol=port.get("Type", "tcp"),
                container=container["Names"][0].removeprefix("/"),
                project=printable(container["Labels"].get(_PROJECT, "")),
                service=printable(container["Labels"].get(_SERVICE, "")),
            )
            for container in containers
            for port in container.get("Ports") or ()
            if port.get("PublicPort")
        ]

    def networks(self, project: str | None = None) -> list[NetworkFact]:
        """The networks of a project, or all the engine has.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking("listing networks"):
            reported = self._quick().networks(filters=_owned_by(project))
        return [
            NetworkFact(
                name=network["Name"],
                driver=network.get("Driver", ""),
                subnets=tuple(
                    part["Subnet"] for part in (network.get("IPAM") or {}).get("Config") or () if part.get("Subnet")
                ),
                project=(network.get("Labels") or {}).get(_PROJECT, ""),
            )
            for network in reported
        ]

    def remove_network(self, name: str) -> None:
        """Remove a network; one that is gone already is as good as removed.

        Raises:
            EngineError: Containers are still in it, or the engine did not answer.
        """
        with suppress(ContainerGoneError), self._speaking(f"removing network {name}"):
            self._quick().remove_network(name)

    def network_is_empty(self, name: str) -> bool:
        """Whether no container has to do with a network, not even a stopped one that would need it to start.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking(f"looking for containers in network {name}"):
            return not self._quick().containers(all=True, filters={"network": name})

    def dangling_images(self, project: str) -> dict[str, int]:
        """The images built for a project that have no name any more and no container: size in bytes by id.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking("listing dangling images"):
            reported = self._quick().images(filters={"dangling": True, **_owned_by(project)})
            used = {one["ImageID"] for one in self._quick().containers(all=True)} if reported else set()
        return {image["Id"]: int(image.get("Size") or 0) for image in reported if image["Id"] not in used}

    def remove_dangling_image(self, image_id: str) -> None:
        """Remove an image that has no name; one that is gone already is as good as removed.

        Raises:
            EngineError: A container or another image needs it, or the engine did not answer.
        """
        with suppress(ContainerGoneError), self._speaking(f"removing image {_short(image_id.removeprefix('sha256:'))}"):
            if self._quick().inspect_image(image_id).get("RepoTags"):
                raise EngineError(f"Image {_short(image_id.removeprefix('sha256:'))} has a name again.")
            self._quick().remove_image(image_id)

    def anonymous_volumes(self, container_id: str) -> list[str]:
        """The volumes of a container that only it knows by name: who removes it leaves them behind.

        Raises:
            EngineError: The engine did not answer, or has no such container.
        """
        with self._speaking(f"looking at the volumes of container {_short(container_id)}"):
            mounts = self._quick().inspect_container(container_id).get("Mounts") or ()
        return [one["Name"] for one in mounts if one.get("Type") == "volume" and _ANONYMOUS.fullmatch(one["Name"])]

    def tag(self, image_id: str, name: str) -> None:
        """Give an image one more name, such as repository:tag; images with a name are not pruned as dangling.

        Raises:
            EngineError: The engine has no such image, or did not answer.
        """
        repository, _, tag = name.partition(":")
        with self._speaking(f"naming image {_short(image_id.removeprefix('sha256:'))} {name}"):
            self._quick().tag(image_id, repository, tag)

    def names_in(self, repository: str) -> list[str]:
        """The names of the engine's images that are in a repository.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking(f"listing images of {repository}"):
            reported = self._quick().images(name=repository)
        return sorted(name for image in reported for name in image.get("RepoTags") or ())

    def untag(self, name: str) -> None:
        """Take a name from an image; the image itself goes only if nothing else names or uses it.

        Raises:
            EngineError: The engine did not answer, or a container needs that name.
        """
        with suppress(ContainerGoneError), self._speaking(f"removing the image name {name}"):
            self._quick().remove_image(name, noprune=False)

    def keep(self, container_id: str) -> KeptContainer:
        """All it takes to make a container again after it was removed.

        Raises:
            ContainerGoneError: It is gone.
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking(f"looking at container {_short(container_id)}"):
            reported = self._quick().inspect_container(container_id)
        return KeptContainer(
            name=reported["Name"].lstrip("/"),
            service=(reported["Config"].get("Labels") or {}).get(_SERVICE, ""),
            was_running=bool(reported["State"]["Running"]),
            reported=reported,
        )

    def put_back(self, kept: KeptContainer) -> str:
        """Make a kept container again as it was, with the volumes it had, and give back its id; it is not started.

        Raises:
            EngineError: The engine did not answer, or refused: its name, image or network may be gone.
        """
        networks = kept.reported["NetworkSettings"]["Networks"] or {}
        mode = kept.reported["HostConfig"]["NetworkMode"]
        joined = [] if mode.startswith(("container:", "host", "none")) else list(networks)
        first = {name: _endpoint(networks[name], kept) for name in joined[:1]}
        body = {
            **kept.reported["Config"],
            "HostConfig": _with_its_volumes(kept.reported),
            "NetworkingConfig": {"EndpointsConfig": first},
        }
        with self._speaking(f"making container {kept.name} again"):
            client = self._patient()
            container_id = str(client.create_container_from_config(body, kept.name)["Id"])
            for name in joined[1:]:
                point = _endpoint(networks[name], kept)
                client.connect_container_to_network(
                    container_id,
                    name,
                    aliases=point["Aliases"],
                    ipv4_address=(point["IPAMConfig"] or {}).get("IPv4Address"),
                )
        return container_id

    def join(self, container_id: str, place: NetworkPlace) -> None:
        """Connect a container to a network; one that is in it is left alone.

        Raises:
            ContainerGoneError: The container or the network is gone.
            EngineError: The engine did not answer, or refused.
        """
        if place.name in self.container_state(container_id).networks:
            return
        with self._speaking(f"connecting container {_short(container_id)} to network {place.name}"):
            self._quick().connect_container_to_network(
                container_id,
                place.name,
                aliases=list(place.aliases),
                ipv4_address=place.ipv4_address,
                ipv6_address=place.ipv6_address,
            )

    def volumes(self, project: str | None = None) -> list[str]:
        """The names of a project's volumes, or of all the engine has.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        with self._speaking("listing volumes"):
            reported = self._quick().volumes(filters=_owned_by(project))
        return sorted(volume["Name"] for volume in reported.get("Volumes") or ())

    def _quick(self) -> Any:
        return self._client(_QUICK_SECONDS)

    def _patient(self) -> Any:
        return self._client(_PATIENT_SECONDS)

    def _client(self, seconds: int) -> Any:
        with self._lock:
            if seconds not in self._clients:
                client = docker.APIClient(
                    base_url=self.address,
                    version="auto",
                    timeout=seconds,
                    max_pool_size=2 * _AT_ONCE,
                    use_ssh_client=self.address.startswith("ssh://"),
                )
                # No proxy stands before a socket of this machine: looking for one is a fifth of a quick call.
                client.trust_env = not self.address.startswith(_UNIX)
                self._clients[seconds] = client
            return self._clients[seconds]

    def _read(self, path: str, **asked: str | int) -> Any:
        """What the engine tells at a path, in the words of its API.

        A collection asks these things of every container. A socket of this machine is asked directly, since the
        client takes longer to prepare a request than such an engine to answer it. What is no good answer is asked
        again through the client, for its words.
        """
        client = self._quick()
        if self._direct is not None:
            try:
                body = self._direct.get(f"/v{client.api_version}{path}", asked)
            except TimeoutError as error:
                raise requests.Timeout(error) from error
            if body is not None:
                return orjson.loads(body)
        return client._result(client._get(client._url(path), params=asked), json=True)

    @contextmanager
    def _speaking(self, doing: str) -> Iterator[None]:
        """Turn what the docker package raises into our own words."""
        try:
            yield
        except NotFound as error:
            raise ContainerGoneError(
                f"Docker engine failed {doing}: {self.redact(_explanation(error))}.",
                advice="Look again: it may have been removed or replaced.",
            ) from error
        except APIError as error:
            status = 0 if error.response is None else error.response.status_code
            if status == HTTPStatus.FORBIDDEN:
                raise EnginePermissionError(
                    f"Docker engine at {self.address} forbids {doing}: {self.redact(_explanation(error))}.",
                    advice="What the broker in front of the engine allows is declared in docker-compose.yml.",
                ) from error
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                # The broker in front of the engine answers so while the engine is away.
                raise EngineUnreachableError(self.address, self.redact(_explanation(error))) from error
            raise EngineError(f"Docker engine failed {doing}: {self.redact(_explanation(error))}.") from error
        except (DockerException, requests.RequestException, OSError) as error:
            if "PermissionError" in repr(error) or "Permission denied" in str(error):
                raise EnginePermissionError(
                    f"This user may not talk to the Docker engine at {self.address}.",
                    advice="Join the group that owns the socket, or use sudo.",
                ) from error
            if isinstance(error, TimeoutError):
                raise
            raise EngineUnreachableError(self.address, _innermost(error)) from error

    def _containers(self, project: str, service: str | None = None, *, running: bool) -> dict[str, str]:
        """The service of each container of a project, by container."""
        labels = [f"{_PROJECT}={project}", *([f"{_SERVICE}={service}"] if service is not None else ())]
        with self._speaking("listing containers"):
            found = self._read("/containers/json", all=int(not running), filters=json.dumps({"label": labels}))
        return {container["Id"]: printable(container["Labels"].get(_SERVICE, "")) for container in found}

    def _container_state_or_none(self, container_id: str) -> ContainerState | None:
        try:
            return self.container_state(container_id)
        except ContainerGoneError:
            # Removed since it was listed: not seen is then the truth.
            return None

    def _statistics(self, container_id: str) -> Any | None:
        try:
            with self._speaking(f"measuring container {_short(container_id)}"):
                return self._read(f"/containers/{container_id}/stats", **_ONE_SHOT)
        except ContainerGoneError:
            return None

    def _stop_timeout(self, container_id: str) -> int:
        return int(self._quick().inspect_container(container_id)["Config"].get("StopTimeout") or 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptContainer:
    """A container as it was, in the engine's own words; they hold values of its environment, so they stay
    in memory and out of its text."""

    name: str
    service: str
    was_running: bool
    reported: dict[str, Any] = field(repr=False)


class EventStream:
    """Events of one project's containers; closing it, from any thread, ends the iteration."""

    def __init__(self, stream: Any, address: str, *, endless: bool) -> None:
        self._stream = stream
        self._address = address
        self._endless = endless
        self._closed = threading.Event()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Wait for each event in turn.

        Raises:
            EngineUnreachableError: The engine went away while being listened to.
        """
        try:
            for reported in self._stream:
                yield _event(reported)
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            # A stream that is closed while it is being read ends in one of these, whichever layer notices.
            if not self._closed.is_set():
                raise EngineUnreachableError(self._address, _innermost(error)) from error
        if self._endless and not self._closed.is_set():
            raise EngineUnreachableError(self._address, "its events ended")

    def close(self) -> None:
        """Stop listening; a reader in another thread is woken."""
        if not self._closed.is_set():
            self._closed.set()
            self._stream.close()


def _owned_by(project: str | None) -> dict[str, str]:
    return {} if project is None else {"label": f"{_PROJECT}={project}"}


def _short(container_id: str) -> str:
    return container_id[:12]


def _grace(grace: timedelta | None) -> dict[str, int]:
    return {} if grace is None else {"timeout": max(0, round(grace.total_seconds()))}


def _explanation(error: APIError) -> str:
    return str(error.explanation or error).strip().rstrip(".")


def _innermost(error: BaseException) -> str:
    """The system's own words, which the layers above wrap several times."""
    seen: BaseException = error
    while seen.__cause__ or seen.__context__:
        seen = seen.__cause__ or seen.__context__ or seen
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror.lower()
    if isinstance(seen, TimeoutError):
        return "timed out"
    return str(seen) or type(seen).__name__


def _archive(file: InjectedFile) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(file.target.lstrip("/"))
        entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
        entry.uid, entry.gid = file.uid or 0, file.gid or 0
        archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _frames(raw: Any, deadline: float) -> bytes:
    """What a command printed: frames of a head (stream, length) and a body, until the stream ends."""
    printed = bytearray()
    try:
        while head := raw.read(8):
            if time.monotonic() > deadline:
                raise TimeoutError("the command did not end within its time limit")
            body = raw.read(struct.unpack(">BxxxL", head)[1])
            if len(printed) < _EXEC_BYTES:
                printed += body
    except urllib3.exceptions.TimeoutError as error:
        raise TimeoutError("the command did not end within its time limit") from error
    return bytes(printed[:_EXEC_BYTES])


def _moment(text: str | None) -> datetime | None:
    """A time as Go prints it, to the nanosecond; its zero time means never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)


def _secrets_of(reported: dict[str, Any]) -> set[str]:
    """What a container gets as secrets: in variables, and in the words of its command and its health check.

    A password that is its own name hides nothing, and would blot out the name.
    """
    config = reported["Config"]
    variables = (entry.partition("=") for entry in config.get("Env") or ())
    plain = f"{reported['Name']} {config.get('Image', '')}"
    found = set(secrets_among((name, value) for name, _, value in variables))
    for words in (config.get("Entrypoint"), config.get("Cmd"), (config.get("Healthcheck") or {}).get("Test")):
        found.update(secrets_in(" ".join(words or ())))
    return {value for value in found if value not in plain}


def _remembering(redactor: Redactor) -> Callable[[str], str]:
    """The same few outputs of health checks are looked at again and again."""
    return lru_cache(maxsize=512)(lambda text: redactor.text(printable(text)))


def _container_state(reported: dict[str, Any], now: datetime, redact: Callable[[str], str]) -> ContainerState:
    state, config, labels = reported["State"], reported["Config"], reported["Config"].get("Labels") or {}
    health = state.get("Health") or {}
    networks = (reported.get("NetworkSettings") or {}).get("Networks") or {}
    published = (reported.get("NetworkSettings") or {}).get("Ports") or {}
    host = reported.get("HostConfig") or {}
    return ContainerState(
        container_id=reported["Id"],
        name=reported["Name"].removeprefix("/"),
        service=printable(labels.get(_SERVICE, "")),
        project=printable(labels.get(_PROJECT, "")),
        number=int(labels.get(_NUMBER) or 1),
        image=config.get("Image", ""),
        image_id=reported.get("Image", ""),
        state=state["Status"],
        seen_at=now,
        exit_code=state.get("ExitCode", 0),
        oom_killed=state.get("OOMKilled", False),
        error=redact(state.get("Error", "")),
        restart_count=reported.get("RestartCount", 0),
        restart_policy=(host.get("RestartPolicy") or {}).get("Name") or "no",
        health=health.get("Status") if health.get("Status") not in (None, "none") else None,
        health_log=tuple(
            HealthLogEntry(
                ended_at=entry.get("End", ""),
                exit_code=entry.get("ExitCode", 0),
                output=redact(entry.get("Output", "")),
            )
            for entry in health.get("Log") or ()
        ),
        created_at=_moment(reported.get("Created")),
        started_at=_moment(state.get("StartedAt")),
        finished_at=_moment(state.get("FinishedAt")),
        config_hash=labels.get(_CONFIG_HASH, ""),
        one_off=labels.get(_ONE_OFF) == "True",
        addresses={name: one["IPAddress"] for name, one in networks.items() if one.get("IPAddress")},
        ports={
            target: int(bindings[0]["HostPort"])
            for target, bindings in published.items()
            if bindings and bindings[0].get("HostPort")
        },
        environment_names=tuple(sorted(entry.split("=", 1)[0] for entry in config.get("Env") or ())),
        memory_limit_bytes=host.get("Memory") or None,
        network_mode=host.get("NetworkMode") or "",
        networks=tuple(sorted(networks)),
    )


def _endpoint(reported: dict[str, Any], kept: KeptContainer) -> dict[str, Any]:
    """How a container joined a network. The engine adds the container's short id to its aliases by itself."""
    own = str(kept.reported["Id"])[:12]
    aliases = [name for name in reported.get("Aliases") or () if name != own]
    return {"Aliases": aliases, "IPAMConfig": reported.get("IPAMConfig"), "Links": reported.get("Links")}


def _with_its_volumes(reported: dict[str, Any]) -> dict[str, Any]:
    """The host configuration, with the unnamed volumes by the names the engine gave them: they hold data."""
    host = dict(reported["HostConfig"])
    volumes = {one["Destination"]: one["Name"] for one in reported.get("Mounts") or () if one["Type"] == "volume"}
    mounts = [
        mount | {"Source": volumes[mount["Target"]]} if mount["Target"] in volumes else mount
        for mount in host.get("Mounts") or ()
    ]
    known = {mount["Target"] for mount in mounts} | {bind.split(":")[1] for bind in host.get("Binds") or ()}
    unnamed = [f"{name}:{target}" for target, name in volumes.items() if target not in known]
    return host | {"Mounts": mounts, "Binds": [*(host.get("Binds") or ()), *unnamed]}


def _has_check(declared: dict[str, Any] | None) -> bool:
    test = (declared or {}).get("Test") or []
    return bool(test) and test != ["NONE"]


def _layers(driver: dict[str, Any]) -> tuple[str, ...]:
    """The folders of an overlay image's layers, uppermost first."""
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay2":
        return ()
    return tuple(filter(None, [data.get("UpperDir", ""), *data.get("LowerDir", "").split(":")]))


def _event(reported: dict[str, Any]) -> ContainerEvent:
    actor = reported.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = reported.get("timeNano") or reported["time"] * 1_000_000_000
    return ContainerEvent(
        happened_at=datetime.fromtimestamp(nanoseconds // 1000 / 1e6, UTC),
        container_id=actor.get("ID", ""),
        service=printable(attributes.get(_SERVICE, "")),
        project=printable(attributes.get(_PROJECT, "")),
        action=reported.get("Action", ""),
        attributes={key: printable(attributes[key]) for key in _ATTRIBUTES if key in attributes},
    )


def _sample(reported: dict[str, Any], container_id: str, service: str) -> ServiceSample | None:
    sampled_at, cpu, memory = _moment(reported.get("read")), reported["cpu_stats"], reported.get("memory_stats") or {}
    if sampled_at is None or "usage" not in memory:
        # It ended between being listed and being measured: the engine then answers with zeroes.
        return None
    # Page cache that can be dropped at once is no use of memory; the two cgroup versions name it differently.
    details = memory.get("stats") or {}
    reclaimable = details.get("total_inactive_file", details.get("inactive_file", 0))
    networks = (reported.get("networks") or {}).values()
    blocks = (reported.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return ServiceSample(
        service=service,
        container_id=container_id,
        sampled_at=sampled_at,
        cpu_total_ns=cpu["cpu_usage"]["total_usage"],
        memory_bytes=max(0, memory["usage"] - reclaimable),
        memory_limit_bytes=memory.get("limit", 0),
        network_rx_bytes=sum(one["rx_bytes"] for one in networks),
        network_tx_bytes=sum(one["tx_bytes"] for one in networks),
        block_read_bytes=sum(one["value"] for one in blocks if one["op"].lower() == "read"),
        block_write_bytes=sum(one["value"] for one in blocks if one["op"].lower() == "write"),
        processes=(reported.get("pids_stats") or {}).get("current", 0),
        throttled_periods=(cpu.get("throttling_data") or {}).get("throttled_periods", 0),
    )
