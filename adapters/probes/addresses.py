"""Find the address at which a container's port answers from here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from adapters.docker.engine import DockerEngine
from adapters.probes.outcome import ProbeFailed
from core.deployment.remote import is_open_to_others, why_unasked
from models.containers import ContainerState
from models.failures import ContainerGoneError, ProbeOutOfReachError

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

    Of an engine on another machine only ports that it publishes to others are asked, at its host's name: the address
    of a container there may be a stranger's here.

    Raises:
        ProbeFailed: There is none, or the container refuses.
        ProbeOutOfReachError: The engine is on another machine, and the port is not published to others there.
        EngineUnreachableError: The engine did not answer.
    """
    here = await asyncio.to_thread(lambda: engine.is_here)
    places = await _addresses(port, container, engine, udp=udp, here=here)
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


async def _addresses(
    port: int, container: ContainerState, engine: DockerEngine, *, udp: bool, here: bool
) -> list[Address]:
    if container.network_mode == "host":
        return [Address(host=_host_of(engine), port=port)]
    owner = container
    if container.network_mode.startswith("container:"):
        try:
            other = container.network_mode.removeprefix("container:")
            owner = await asyncio.to_thread(engine.containers.inspect, other)
        except ContainerGoneError as error:
            raise ProbeFailed("the container whose network it uses is gone") from error
    target = f"{port}/{'udp' if udp else 'tcp'}"
    published, bound_to = owner.ports.get(target), owner.bound_to.get(target, "")
    addresses = [Address(host=address, port=port) for address in owner.addresses.values()] if here else []
    if not here and (published is None or not is_open_to_others(bound_to)):
        raise ProbeOutOfReachError(why_unasked(port, None if published is None else bound_to))
    if published is not None:
        addresses.append(Address(host=_host_of(engine), port=published, proxied=True))
    return addresses


def _host_of(engine: DockerEngine) -> str:
    return urlsplit(engine.address).hostname or "127.0.0.1"
