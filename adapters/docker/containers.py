"""Containers of an engine: state, life cycle, commands, logs, and copies to create them again."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import urllib3
from docker.errors import NotFound

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL, EngineClient, short
from adapters.docker.states import compose_origin, container_state, secrets_of
from core.common.safe_text import printable
from core.common.stamps import earlier
from core.deployment.kept_files import copies_of
from models.compose import InjectedFile
from models.containers import COPIES_LABEL, ONE_OFF_LABEL, ComposeOrigin, ContainerState
from models.failures import ContainerGoneError

_LOG_BYTES = 256 * 1024
_EXEC_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSnapshot:
    """A container's configuration, as the engine reported it. It holds values of its environment, so keep it in
    memory."""

    name: str
    service: str
    was_running: bool
    reported: dict[str, Any] = field(repr=False)


class CommandTimeoutError(TimeoutError):
    """A command in a container did not end in time; `printed` is what it had written until then."""

    def __init__(self, what: str, printed: str) -> None:
        super().__init__(what)
        self.printed = printed


class Containers:
    """Containers of one engine.

    Every call raises an EngineError when the engine does not answer or refuses, and a ContainerGoneError when the
    container does not exist any more.
    """

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._known: set[str] = set()

    def services(self, project: str, service: str | None = None, *, running: bool = False) -> dict[str, str]:
        """The service of every container of a project, or of the running ones, by container id."""
        labels = [f"{PROJECT_LABEL}={project}", *([f"{SERVICE_LABEL}={service}"] if service is not None else ())]
        with self._client.translate_errors("listing containers"):
            containers = self._client.get(
                "/containers/json", all=int(not running), filters=json.dumps({"label": labels})
            )
        return {container["Id"]: printable(container["Labels"].get(SERVICE_LABEL, "")) for container in containers}

    def projects(self) -> frozenset[str]:
        """The Compose projects that have containers, stopped ones too."""
        with self._client.translate_errors("listing containers"):
            containers = self._client.get("/containers/json", all=1, filters=json.dumps({"label": [PROJECT_LABEL]}))
        return frozenset(printable(container["Labels"][PROJECT_LABEL]) for container in containers)

    def running_projects(self) -> frozenset[str]:
        """The Compose projects with a running container that is not a one-off one."""
        filters = json.dumps({"label": [PROJECT_LABEL, f"{ONE_OFF_LABEL}=False"]})
        with self._client.translate_errors("listing containers"):
            containers = self._client.get("/containers/json", filters=filters)
        return frozenset(printable(container["Labels"][PROJECT_LABEL]) for container in containers)

    def mounted_copies(self) -> frozenset[str]:
        """The copies of files that containers of any project mount, stopped ones too."""
        with self._client.translate_errors("listing containers"):
            containers = self._client.get("/containers/json", all=1, filters=json.dumps({"label": [COPIES_LABEL]}))
        return frozenset(copy for container in containers for copy in copies_of(container["Labels"]).values())

    def compose_files(self, project: str) -> tuple[ComposeOrigin, ...]:
        """The files that Compose made a project's containers from, those of the newest container first."""
        with self._client.translate_errors("listing containers"):
            filters = json.dumps({"label": [f"{PROJECT_LABEL}={project}"]})
            containers = self._client.get("/containers/json", all=1, filters=filters)
        newest_first = sorted(containers, key=lambda container: int(container["Created"]), reverse=True)
        return tuple(dict.fromkeys(compose_origin(container["Labels"]) for container in newest_first))

    def inspect_project(self, project: str, service: str | None = None) -> list[ContainerState]:
        """Inspect every container of a project or of one service, stopped ones too, by service and number."""
        return self.inspect_all(self.services(project, service))

    def inspect_all(self, container_ids: Iterable[str]) -> list[ContainerState]:
        """Inspect these containers, by service and number, without those that are gone."""
        results = self._client.map(self._inspect_if_there, container_ids)
        states = [state for state in results if state is not None]
        return sorted(states, key=lambda state: (state.service, state.number, state.name))

    def inspect(self, container_id: str) -> ContainerState:
        """Inspect one container."""
        with self._client.translate_errors(f"inspecting container {short(container_id)}"):
            reported = self._client.get(f"/containers/{container_id}/json")
        if container_id not in self._known:
            # A container's configuration never changes.
            self._client.conceal(secrets_of(reported))
            self._known.add(container_id)
        return container_state(reported, self._client.redact, self._client.ahead)

    def start(self, container_id: str, files: Sequence[InjectedFile] = ()) -> None:
        """Start a container, after copying into it the files that Compose would; does nothing if it runs."""
        with self._client.translate_errors(f"starting container {short(container_id)}"):
            for file in files:
                self._client.change_client.put_archive(container_id, "/", _archive(file))
            self._client.change_client.start(container_id)

    def stop(self, container_id: str, grace: timedelta | None = None) -> None:
        """Stop a container and wait for its end; does nothing if it is stopped.

        The engine kills it after the grace, or without one after the container's own stop timeout.
        """
        with self._client.translate_errors(f"stopping container {short(container_id)}"):
            self._client.change_client.stop(container_id, **_grace(grace))

    def restart(self, container_id: str, grace: timedelta | None = None, files: Sequence[InjectedFile] = ()) -> None:
        """Stop and start a container, keeping its files but those that are given anew."""
        with self._client.translate_errors(f"restarting container {short(container_id)}"):
            for file in files:
                self._client.change_client.put_archive(container_id, "/", _archive(file))
            # Without a number the SDK would impose ten seconds of its own over the container's timeout.
            seconds = _grace(grace) or {"timeout": self._stop_timeout(container_id)}
            self._client.change_client.restart(container_id, **seconds)

    def put_file(self, container_id: str, file: InjectedFile) -> None:
        """Write a file into a container, which need not run."""
        with self._client.translate_errors(f"writing into container {short(container_id)}"):
            self._client.change_client.put_archive(container_id, "/", _archive(file))

    def unpause(self, container_id: str) -> None:
        """Unpause a container, which must be paused. A paused container handles no signal."""
        with self._client.translate_errors(f"unpausing container {short(container_id)}"):
            self._client.read_client.unpause(container_id)

    def remove(self, container_id: str) -> None:
        """Remove a stopped container but no volume; does nothing if it is already gone."""
        with self._client.translate_errors(f"removing container {short(container_id)}"):
            try:
                self._client.change_client.remove_container(container_id)
            except NotFound:
                return

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name."""
        with self._client.translate_errors(f"naming container {short(container_id)} {name}"):
            self._client.change_client.rename(container_id, name)

    def logs(self, container_id: str, lines: int = 100, since: datetime | None = None) -> str:
        """The last lines that a container wrote to both output streams, with the engine's time stamps
        by this machine's clock.

        Raises:
            EngineError: Among others when the container's log driver keeps nothing readable.
        """
        ahead = self._client.ahead
        with self._client.translate_errors(f"reading the logs of container {short(container_id)}"):
            from_moment = None if since is None else (since + ahead).timestamp()
            written: bytes = self._client.read_client.logs(container_id, tail=lines, timestamps=True, since=from_moment)
        if len(written) > _LOG_BYTES:
            # Only whole lines: half a secret at the cut would not be known as one.
            written = written[-_LOG_BYTES:].partition(b"\n")[2]
        return self._client.redact(earlier(written.decode("utf-8", errors="replace"), ahead))

    def exec(
        self, container_id: str, command: Sequence[str], timeout: timedelta, *, last: bool = False
    ) -> tuple[int, str]:
        """Run a command in a container; its exit code, and the first 64 KiB of its output, or the `last` ones.

        The engine cannot stop a command, so one that passes its time limit keeps running.

        Raises:
            CommandTimeoutError: The command did not end in time.
            EngineError: Among others when the container does not run.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        with self._client.translate_errors(f"running {command[0]} in container {short(container_id)}"):
            client = self._client.read_client
            created = client.exec_create(container_id, list(command))
            # The SDK's own call loses output that arrives together with the answer's header, and has no time limit.
            answer = client.post(
                client._url("/exec/{0}/start", created["Id"]),
                json={"Detach": False, "Tty": False},
                stream=True,
                timeout=timeout.total_seconds(),
            )
            client._raise_for_status(answer)
            try:
                printed = bytearray()
                _read_frames(answer.raw, deadline, printed, last=last)
            except TimeoutError as error:
                raise CommandTimeoutError(str(error), self._client.redact(_decode(printed))) from error
            finally:
                answer.close()
            exit_code = client.exec_inspect(created["Id"])["ExitCode"]
        if exit_code is None:
            raise CommandTimeoutError(
                f"{command[0]} closed its output but did not end within the time limit",
                self._client.redact(_decode(printed)),
            )
        return exit_code, self._client.redact(_decode(printed))

    def snapshot(self, container_id: str) -> ContainerSnapshot:
        """Read all that `recreate` needs after the container was removed."""
        with self._client.translate_errors(f"inspecting container {short(container_id)}"):
            reported = self._client.get(f"/containers/{container_id}/json")
        return ContainerSnapshot(
            name=reported["Name"].lstrip("/"),
            service=(reported["Config"].get("Labels") or {}).get(SERVICE_LABEL, ""),
            was_running=bool(reported["State"]["Running"]),
            reported=reported,
        )

    def snapshot_all(self, container_ids: Iterable[str]) -> tuple[ContainerSnapshot, ...]:
        """Read all that `recreate` needs of each container."""
        return tuple(self._client.map(self.snapshot, container_ids))

    def recreate(self, snapshot: ContainerSnapshot) -> str:
        """Create a removed container again with the volumes it had, without starting it; its new id.

        Raises:
            EngineError: Among others when its name is taken, or its image or network is gone.
        """
        networks = snapshot.reported["NetworkSettings"]["Networks"] or {}
        mode = snapshot.reported["HostConfig"]["NetworkMode"]
        joined = [] if mode.startswith(("container:", "host", "none")) else list(networks)
        first = {name: endpoint(networks[name], snapshot) for name in joined[:1]}
        body = {
            **snapshot.reported["Config"],
            "HostConfig": _host_config(snapshot.reported),
            "NetworkingConfig": {"EndpointsConfig": first},
        }
        with self._client.translate_errors(f"recreating container {snapshot.name}"):
            client = self._client.change_client
            container_id = str(client.create_container_from_config(body, snapshot.name)["Id"])
            for name in joined[1:]:
                point = endpoint(networks[name], snapshot)
                client.connect_container_to_network(
                    container_id,
                    name,
                    aliases=point["Aliases"],
                    ipv4_address=(point["IPAMConfig"] or {}).get("IPv4Address"),
                )
        return container_id

    def _inspect_if_there(self, container_id: str) -> ContainerState | None:
        try:
            return self.inspect(container_id)
        except ContainerGoneError:
            return None

    def _stop_timeout(self, container_id: str) -> int:
        return int(self._client.read_client.inspect_container(container_id)["Config"].get("StopTimeout") or 10)


def _grace(grace: timedelta | None) -> dict[str, int]:
    return {} if grace is None else {"timeout": max(0, round(grace.total_seconds()))}


def _archive(file: InjectedFile) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(file.target.lstrip("/"))
        entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
        entry.uid, entry.gid = file.uid or 0, file.gid or 0
        archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _read_frames(raw: Any, deadline: float, printed: bytearray, *, last: bool) -> None:
    """Read a command's output: frames of a header (stream, length) and a body, until the stream ends."""
    try:
        while head := raw.read(8):
            if time.monotonic() > deadline:
                raise TimeoutError("the command did not end within its time limit")
            body = raw.read(struct.unpack(">BxxxL", head)[1])
            if last:
                printed += body
                del printed[:-_EXEC_BYTES]
            elif len(printed) < _EXEC_BYTES:
                printed += body
    except urllib3.exceptions.TimeoutError as error:
        raise TimeoutError("the command did not end within its time limit") from error
    finally:
        del printed[_EXEC_BYTES:]


def _decode(printed: bytearray) -> str:
    return printed.decode("utf-8", errors="replace")


def endpoint(reported: dict[str, Any], snapshot: ContainerSnapshot) -> dict[str, Any]:
    """How a container joined a network, without its short id, which the engine adds to the aliases itself."""
    aliases = [name for name in reported.get("Aliases") or () if name != short(snapshot.reported["Id"])]
    return {"Aliases": aliases, "IPAMConfig": reported.get("IPAMConfig"), "Links": reported.get("Links")}


def _host_config(reported: dict[str, Any]) -> dict[str, Any]:
    """The host configuration, with anonymous volumes by their names: they hold data."""
    host = dict(reported["HostConfig"])
    volumes = {
        mount["Destination"]: mount["Name"] for mount in reported.get("Mounts") or () if mount["Type"] == "volume"
    }
    mounts = [
        mount | {"Source": volumes[mount["Target"]]} if mount["Target"] in volumes else mount
        for mount in host.get("Mounts") or ()
    ]
    targets = {mount["Target"] for mount in mounts} | {bind.split(":")[1] for bind in host.get("Binds") or ()}
    unnamed = [f"{name}:{target}" for target, name in volumes.items() if target not in targets]
    return host | {"Mounts": mounts, "Binds": [*(host.get("Binds") or ()), *unnamed]}
