"""Containers beside the ones that they replace: copied without names in networks, then joined, and renamed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from docker.errors import APIError

from adapters.docker.client import EngineClient, short
from adapters.docker.containers import Containers, ContainerSnapshot
from models.containers import ContainerState

_NUMBER = "com.docker.compose.container-number"


class Beside:
    """Containers beside others of one engine. Every call raises an EngineError when the engine refuses."""

    def __init__(self, client: EngineClient, containers: Containers) -> None:
        self._client = client
        self._containers = containers

    def take(self, container_id: str) -> ContainerSnapshot:
        """Remove a container that was created and never started, with its anonymous volumes; what it was made from."""
        snapshot = self._containers.snapshot(container_id)
        with self._client.translate_errors(f"removing container {short(container_id)}"):
            self._client.change_client.remove_container(container_id, v=True)
        return snapshot

    def create(
        self, snapshot: ContainerSnapshot, name: str, replaces: ContainerState, without_names: Collection[str]
    ) -> str:
        """Create a container like the snapshot's, with the number of the one that it replaces; its id.

        In the networks `without_names` others find it under its own name only.
        """
        reported = snapshot.reported
        config = dict(reported["Config"])
        if config.get("Hostname") == short(reported["Id"]):
            # The engine's own choice, which was the other container's id.
            del config["Hostname"]
        config["Labels"] = (config.get("Labels") or {}) | {_NUMBER: str(replaces.number)}
        points = {}
        for network in reported["NetworkSettings"]["Networks"] or {}:
            names = () if network in without_names else names_in(snapshot, network, replaces)
            points[network] = _endpoint(snapshot, network, names)
        # The engine joins the network of NetworkMode in any case.
        mode = reported["HostConfig"].get("NetworkMode")
        first = mode if mode in points else next(iter(points), None)
        body = {
            **config,
            "HostConfig": reported["HostConfig"],
            "NetworkingConfig": {"EndpointsConfig": {} if first is None else {first: points[first]}},
        }
        with self._client.translate_errors(f"creating container {name}"):
            client = self._client.change_client
            container_id = str(client.create_container_from_config(body, name)["Id"])
            for network in points.keys() - {first}:
                self._connect(container_id, network, points[network])
        return container_id

    def names(self, container_id: str) -> dict[str, frozenset[str]]:
        """The names under which others find a container, by network."""
        with self._client.translate_errors(f"inspecting container {short(container_id)}"):
            reported = self._client.get(f"/containers/{container_id}/json")
        networks = reported["NetworkSettings"]["Networks"] or {}
        short_id = short(reported["Id"])
        return {name: frozenset(endpoint.get("Aliases") or ()) - {short_id} for name, endpoint in networks.items()}

    def join(self, container_id: str, network: str, aliases: Sequence[str]) -> None:
        """Give a running container these names in a network, which it leaves and joins again for that."""
        self._rejoin(container_id, network, aliases, None)

    def rename_in(self, container_id: str, network: str, aliases: Sequence[str] = ()) -> None:
        """Give a running container these names, or none, in a network where addresses can be chosen: it keeps its own.

        Connections to and from it go on, because they are bound to the address.
        """
        with self._client.translate_errors(f"inspecting container {short(container_id)}"):
            reported = self._client.get(f"/containers/{container_id}/json")
        address = (reported["NetworkSettings"]["Networks"] or {}).get(network, {}).get("IPAddress") or None
        self._rejoin(container_id, network, aliases, address)

    def rename(self, container_id: str, name: str) -> None:
        """Rename a container, which may run."""
        with self._client.translate_errors(f"renaming container {short(container_id)} to {name}"):
            self._client.change_client.rename(container_id, name)

    def health_test(self, container_id: str) -> tuple[str, ...]:
        """The command of a container's health check, as it runs inside of it; empty where it has none."""
        with self._client.translate_errors(f"inspecting container {short(container_id)}"):
            config = self._client.get(f"/containers/{container_id}/json")["Config"]
        kind, *words = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        if kind == "CMD-SHELL":
            return (*(config.get("Shell") or ("/bin/sh", "-c")), *words)
        return tuple(words) if kind == "CMD" else ()

    def command(self, container_id: str) -> tuple[str, ...]:
        """The entrypoint and command that a container was started with."""
        with self._client.translate_errors(f"inspecting container {short(container_id)}"):
            config = self._client.get(f"/containers/{container_id}/json")["Config"]
        return (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))

    def _rejoin(self, container_id: str, network: str, aliases: Sequence[str], address: str | None) -> None:
        client = self._client.change_client
        with self._client.translate_errors(f"connecting container {short(container_id)} to network {network}"):
            point = self._client.get(f"/containers/{container_id}/json")["NetworkSettings"]["Networks"].get(network)
            if point is not None:
                client.disconnect_container_from_network(container_id, network)
            endpoint = {"Aliases": list(aliases), "Links": (point or {}).get("Links")}
            endpoint["DriverOpts"] = (point or {}).get("DriverOpts")
            try:
                self._connect(container_id, network, endpoint, address)
            except APIError:
                if address is None:
                    raise
                # The address cannot be had again, but without a network nothing reaches the container any more.
                self._connect(container_id, network, endpoint)

    def _connect(self, container_id: str, network: str, point: dict[str, Any], address: str | None = None) -> None:
        self._client.change_client.connect_container_to_network(
            container_id,
            network,
            aliases=point["Aliases"],
            links=point["Links"],
            ipv4_address=address,
            driver_opt=point["DriverOpts"],
        )


def names_in(snapshot: ContainerSnapshot, network: str, replaces: ContainerState) -> tuple[str, ...]:
    """The names of a service's container in a network, with the replaced one's own name for the copied one's."""
    point = snapshot.reported["NetworkSettings"]["Networks"].get(network) or {}
    aliases = [name for name in point.get("Aliases") or () if name != short(snapshot.reported["Id"])]
    return tuple(replaces.name if name == snapshot.name else name for name in aliases)


def _endpoint(snapshot: ContainerSnapshot, network: str, aliases: Sequence[str]) -> dict[str, Any]:
    reported = snapshot.reported["NetworkSettings"]["Networks"][network]
    return {"Aliases": list(aliases), "Links": reported.get("Links"), "DriverOpts": reported.get("DriverOpts")}
