"""Networks and volumes of an engine, and ports that containers publish on its host."""

from __future__ import annotations

import re
from contextlib import suppress

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL, EngineClient, labels_of_owner, short
from adapters.docker.containers import Containers
from core.common.safe_text import printable
from models.compose import NetworkFact, NetworkPlace, PortHolder
from models.failures import ContainerGoneError

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


class Networks:
    """Networks of one engine. Every call raises an EngineError when the engine does not answer or refuses."""

    def __init__(self, client: EngineClient, containers: Containers) -> None:
        self._client = client
        self._containers = containers

    def find(self, project: str | None = None) -> list[NetworkFact]:
        """The networks of a project, or all of the engine."""
        with self._client.translate_errors("listing networks"):
            reported = self._client.read_client.networks(filters=labels_of_owner(project))
        return [
            NetworkFact(
                name=network["Name"],
                driver=network.get("Driver", ""),
                subnets=tuple(
                    part["Subnet"] for part in (network.get("IPAM") or {}).get("Config") or () if part.get("Subnet")
                ),
                project=(network.get("Labels") or {}).get(PROJECT_LABEL, ""),
            )
            for network in reported
        ]

    def is_unused(self, name: str) -> bool:
        """Whether no container uses a network, not even a stopped one that needs it to start."""
        with self._client.translate_errors(f"listing containers of network {name}"):
            return not self._client.read_client.containers(all=True, filters={"network": name})

    def connect(self, container_id: str, place: NetworkPlace) -> None:
        """Connect a container to a network; does nothing if it is already connected.

        Raises:
            ContainerGoneError: The container or the network is gone.
        """
        if place.name in self._containers.inspect(container_id).networks:
            return
        with self._client.translate_errors(f"connecting container {short(container_id)} to network {place.name}"):
            self._client.read_client.connect_container_to_network(
                container_id,
                place.name,
                aliases=list(place.aliases),
                ipv4_address=place.ipv4_address,
                ipv6_address=place.ipv6_address,
            )

    def disconnect(self, container_id: str, name: str) -> None:
        """Disconnect a container from a network."""
        with self._client.translate_errors(f"disconnecting container {short(container_id)} from network {name}"):
            self._client.read_client.disconnect_container_from_network(container_id, name)

    def remove(self, name: str) -> None:
        """Remove a network; does nothing if it is already gone.

        Raises:
            EngineError: Containers are still connected to it.
        """
        with suppress(ContainerGoneError), self._client.translate_errors(f"removing network {name}"):
            self._client.read_client.remove_network(name)

    def published_ports(self) -> list[PortHolder]:
        """The ports of the host that running containers hold."""
        with self._client.translate_errors("listing containers"):
            containers = self._client.read_client.containers()
        return [
            PortHolder(
                port=port["PublicPort"],
                host_ip=port.get("IP", ""),
                protocol=port.get("Type", "tcp"),
                container=container["Names"][0].removeprefix("/"),
                project=printable(container["Labels"].get(PROJECT_LABEL, "")),
                service=printable(container["Labels"].get(SERVICE_LABEL, "")),
            )
            for container in containers
            for port in container.get("Ports") or ()
            if port.get("PublicPort")
        ]


class Volumes:
    """Volumes of one engine. Every call raises an EngineError when the engine does not answer or refuses."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def names(self, project: str | None = None) -> list[str]:
        """The names of a project's volumes, or of all volumes of the engine."""
        with self._client.translate_errors("listing volumes"):
            reported = self._client.read_client.volumes(filters=labels_of_owner(project))
        return sorted(volume["Name"] for volume in reported.get("Volumes") or ())

    def anonymous(self, container_id: str) -> list[str]:
        """The anonymous volumes of a container: only it refers to them, so removing it leaves them behind."""
        with self._client.translate_errors(f"listing volumes of container {short(container_id)}"):
            mounts = self._client.read_client.inspect_container(container_id).get("Mounts") or ()
        return [
            mount["Name"] for mount in mounts if mount.get("Type") == "volume" and _ANONYMOUS.fullmatch(mount["Name"])
        ]
