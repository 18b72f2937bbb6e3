"""Find the address at which a container's port answers from here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapters.docker.engine import DockerEngine
from adapters.probes.outcome import ProbeFailed
from models.containers import ContainerState
from models.failures import ContainerGoneError

_REACHABLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Address of a container's port. `proxied`: the engine's proxy accepts the connection."""

    host: str
    port: int
    proxied: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def find_address(
    port: int, container: ContainerState, engine: DockerEngine, *, timeout_seconds: float, udp: bool = False
) -> Address:
    """The first reachable address: the container's own addresses, then its published port.

    A refusal by the container's own address is the container's answer. A published port proves less: the engine's
    proxy accepts there even when nothing listens inside. With `udp` the port answers over UDP, so only whether the
    host answers at all is asked.

    Raises:
        ProbeFailed: There is none, or the container refuses.
    """
    places = await _addresses(port, container, engine, udp=udp)
    if not places:
        raise ProbeFailed(f"port {port} has no address: the container is in no network and publishes nothing")
    for place in places:
        try:
            async with asyncio.timeout(min(_REACHABLE_SECONDS, timeout_seconds)):
                _, writer = await asyncio.open_connection(place.host, place.port)
        except ConnectionRefusedError as error:
            if udp:
                return place
            raise ProbeFailed(f"connection to {place} refused: nothing listens on port {port}") from error
        except OSError:
            # TimeoutError or "no route": this address is unreachable from here, the next one may not be.
            continue
        writer.close()
        return place
    raise ProbeFailed(f"not reachable from here: tried {', '.join(map(str, places))}")


async def _addresses(port: int, container: ContainerState, engine: DockerEngine, *, udp: bool) -> list[Address]:
    if container.network_mode == "host":
        return [Address(host=_host_of(engine), port=port)]
    owner = container
    if container.network_mode.startswith("container:"):
        try:
            other = container.network_mode.removeprefix("container:")
            owner = await asyncio.to_thread(engine.containers.inspect, other)
        except ContainerGoneError as error:
            raise ProbeFailed("the container whose network it uses is gone") from error
    own = [Address(host=address, port=port) for address in owner.addresses.values()]
    published = owner.ports.get(f"{port}/{'udp' if udp else 'tcp'}")
    if published is not None:
        own.append(Address(host=_host_of(engine), port=published, proxied=True))
    return own


def _host_of(engine: DockerEngine) -> str:
    return urlsplit(engine.address).hostname or "127.0.0.1"
