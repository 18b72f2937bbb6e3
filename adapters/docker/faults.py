"""Faults of drills in one container: what it offers to them, how each is made, and how each is undone."""

from __future__ import annotations

import re
from datetime import timedelta

from adapters.docker.client import EngineClient, short
from adapters.docker.containers import Containers, endpoint
from adapters.docker.networks import Networks
from models.compose import NetworkPlace
from models.containers import ContainerState
from models.drills import DrillRecord, Fault, FaultPlaces
from models.failures import EngineError

_SIZE = re.compile(r"(?:^|,)size=[1-9][0-9]*[kmg]?(?:,|$)", re.IGNORECASE)
_FILLER = ".roas-drill"
_WITHIN = timedelta(seconds=30)
_ROLE = "SELECT count(*) FROM pg_roles WHERE rolname = '{}' AND rolcanlogin AND NOT rolsuper"
_PSQL = 'exec psql -XAtq -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres -c "$0"'


class Faults:
    """Faults of drills on one engine. Every call raises an EngineError when the engine does not answer or refuses."""

    def __init__(self, client: EngineClient, containers: Containers, networks: Networks) -> None:
        self._client, self._containers, self._networks = client, containers, networks

    def places(self, container: ContainerState, role: str) -> FaultPlaces:
        """What a running container offers to faults.

        `role` is left out unless the PostgreSQL inside has it, with a login, and as no superuser.
        """
        snapshot = self._containers.snapshot(container.container_id)
        host, config = snapshot.reported["HostConfig"], snapshot.reported["Config"]
        limited = [path for path, options in (host.get("Tmpfs") or {}).items() if _SIZE.search(options)]
        limited += [
            mount["Target"] for mount in host.get("Mounts") or () if (mount.get("TmpfsOptions") or {}).get("SizeBytes")
        ]
        own = {network.name for network in self._networks.find(container.project)}
        joined = snapshot.reported["NetworkSettings"]["Networks"] or {}
        points = {name: endpoint(joined[name], snapshot) for name in joined.keys() & own}
        has_role = role and self._psql(container.container_id, _ROLE.format(role)) == "1"
        return FaultPlaces(
            stop_signal=config.get("StopSignal") or "SIGTERM",
            has_check=((config.get("Healthcheck") or {}).get("Test") or ["NONE"])[0] != "NONE",
            path=min(limited, default=""),
            networks=tuple(
                NetworkPlace(
                    name=name,
                    aliases=tuple(point["Aliases"]),
                    ipv4_address=(point["IPAMConfig"] or {}).get("IPv4Address"),
                    ipv6_address=(point["IPAMConfig"] or {}).get("IPv6Address"),
                )
                for name, point in sorted(points.items())
            ),
            role=role if has_role else "",
        )

    def make(self, drill: DrillRecord) -> None:
        """Make the fault of a drill."""
        container, places = drill.container_id, drill.places
        match drill.fault:
            case Fault.KILL:
                self._signal(container, "SIGKILL")
            case Fault.STOP:
                self._signal(container, places.stop_signal)
            case Fault.UNHEALTHY:
                # No process inside of a container can stop its first one; the engine can.
                self._shell(container, "kill -STOP -1 2>/dev/null || :")
                self._signal(container, "SIGSTOP")
            case Fault.FULL_DISK:
                self._shell(container, f'cat /dev/zero >"$0/{_FILLER}" 2>/dev/null || :', places.path)
            case Fault.REFUSED_LOGIN:
                self._psql(container, f'ALTER ROLE "{places.role}" NOLOGIN')
            case Fault.LOST_NETWORK:
                for place in places.networks:
                    self._networks.disconnect(container, place.name)

    def undo(self, drill: DrillRecord, *, start: bool) -> None:
        """Undo the fault of a drill, as often as asked; what a new start or a new container ended is left alone.

        `start`: a container that the fault ended, and that was not started since, is started.

        Raises:
            ContainerGoneError: The container is gone.
        """
        container, state = drill.container_id, self._containers.inspect(drill.container_id)
        match drill.fault:
            case Fault.KILL | Fault.STOP:
                since = state.started_at is not None and state.started_at > drill.made_at
                if start and state.state == "exited" and not since:
                    self._containers.start(container)
            case Fault.UNHEALTHY if state.state == "running":
                self._signal(container, "SIGCONT")
                self._shell(container, "kill -CONT -1 2>/dev/null || :")
            case Fault.FULL_DISK if state.state == "running":
                self._shell(container, f'rm -f "$0/{_FILLER}"', drill.places.path)
            case Fault.REFUSED_LOGIN:
                self._psql(container, f'ALTER ROLE "{drill.places.role}" LOGIN')
            case Fault.LOST_NETWORK:
                for place in drill.places.networks:
                    self._networks.connect(container, place)

    def _signal(self, container: str, signal: str) -> None:
        with self._client.translate_errors(f"sending {signal} to container {short(container)}"):
            self._client.read_client.kill(container, signal)

    def _psql(self, container: str, statement: str) -> str:
        return self._shell(container, _PSQL, statement)

    def _shell(self, container: str, script: str, argument: str = "") -> str:
        exit_code, printed = self._containers.exec(container, ("sh", "-c", script, argument), _WITHIN)
        if exit_code:
            raise EngineError(f"A command in container {short(container)} failed: {printed.strip()[-200:]}.")
        return printed.strip()
