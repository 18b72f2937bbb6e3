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
_WITHIN = timedelta(seconds=30)
# No process inside of a container can signal its first one; the engine can.
_SIGNAL_OTHERS = 'kill "$0" -1 2>/dev/null || :'


class Faults:
    """Faults of drills on one engine. Every call raises an EngineError when the engine does not answer or refuses."""

    def __init__(self, client: EngineClient, containers: Containers, networks: Networks) -> None:
        self._client, self._containers, self._networks = client, containers, networks

    def places(self, container: ContainerState) -> FaultPlaces:
        """What a running container offers to faults."""
        snapshot = self._containers.snapshot(container.container_id)
        host, config = snapshot.reported["HostConfig"], snapshot.reported["Config"]
        limited = [path for path, options in (host.get("Tmpfs") or {}).items() if _SIZE.search(options)]
        own = {network.name for network in self._networks.find(container.project)}
        joined = snapshot.reported["NetworkSettings"]["Networks"] or {}
        period, quota, nano = (int(host.get(name) or 0) for name in ("CpuPeriod", "CpuQuota", "NanoCpus"))
        # The engine takes one of them alone, and no less; a quota of -1 is none.
        name, usual, slow = ("NanoCpus", nano, 10**7) if nano else ("CpuQuota", quota or -1, max(1000, period // 100))
        points = {one: endpoint(joined[one], snapshot) for one in sorted(joined.keys() & own)}
        return FaultPlaces(
            container_id=container.container_id,
            stop_signal=config.get("StopSignal") or "SIGTERM",
            has_check=container.health is not None,
            path=min(limited, default=""),
            limit=None if 0 < usual <= slow else (name, usual, slow),
            networks=tuple(
                NetworkPlace(
                    name=name,
                    aliases=tuple(point["Aliases"]),
                    ipv4_address=(point["IPAMConfig"] or {}).get("IPv4Address"),
                    ipv6_address=(point["IPAMConfig"] or {}).get("IPv6Address"),
                )
                for name, point in points.items()
            ),
        )

    def make(self, drill: DrillRecord) -> None:
        """Make the fault of a drill."""
        match drill.fault:
            case Fault.KILL | Fault.STOP:
                self._signal(drill.container_id, "SIGKILL" if drill.fault is Fault.KILL else drill.stop_signal)
            case Fault.UNHEALTHY:
                self._shell(drill.container_id, _SIGNAL_OTHERS, "-STOP")
                self._signal(drill.container_id, "SIGSTOP")
            case Fault.FULL_DISK:
                self._shell(drill.container_id, 'cat /dev/zero >"$0/.roas-drill" 2>/dev/null || :', drill.path)
            case Fault.LOST_NETWORK:
                for place in drill.networks:
                    self._networks.disconnect(drill.container_id, place.name)
            case Fault.SLOW if drill.limit:
                self._limit(drill.container_id, drill.limit[0], drill.limit[2])

    def undo(self, drill: DrillRecord, *, start: bool) -> None:
        """Undo the fault of a drill, as often as asked; what a new start or a new container ended is left alone.

        `start`: a container that the fault ended, and that was not started since, is started.
        """
        state = self._containers.inspect(drill.container_id)
        match drill.fault:
            case Fault.KILL | Fault.STOP if start and state.state == "exited":
                if state.started_at is None or state.started_at <= drill.made_at:
                    self._containers.start(drill.container_id)
            case Fault.UNHEALTHY if state.state == "running":
                self._signal(drill.container_id, "SIGCONT")
                self._shell(drill.container_id, _SIGNAL_OTHERS, "-CONT")
            case Fault.FULL_DISK if state.state == "running":
                self._shell(drill.container_id, 'rm -f "$0/.roas-drill"', drill.path)
            case Fault.LOST_NETWORK:
                for place in drill.networks:
                    self._networks.connect(drill.container_id, place)
            case Fault.SLOW if drill.limit:
                name, usual, slow = drill.limit
                # Another limit is somebody else's.
                if self._containers.snapshot(drill.container_id).reported["HostConfig"].get(name) == slow:
                    self._limit(drill.container_id, name, usual)

    def _limit(self, container: str, name: str, value: int) -> None:
        with self._client.translate_errors(f"limiting the processor time of container {short(container)}"):
            client = self._client.read_client
            answer = client.post(client._url("/containers/{0}/update", container), json={name: value}, timeout=30)
            client._raise_for_status(answer)

    def _signal(self, container: str, signal: str) -> None:
        with self._client.translate_errors(f"sending {signal} to container {short(container)}"):
            self._client.read_client.kill(container, signal)

    def _shell(self, container: str, script: str, argument: str) -> None:
        exit_code, printed = self._containers.exec(container, ("sh", "-c", script, argument), _WITHIN)
        if exit_code:
            raise EngineError(f"A command in container {short(container)} failed: {printed.strip()[-200:]}.")
