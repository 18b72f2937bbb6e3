"""A slow network between this machine and programs in a namespace of their own; it loses packets and can be cut.

The kernel here has no netem, so two tun devices stand for the two ends of the line, and a thread carries packets from
one to the other. It needs root.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import secrets
import select
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.namespaces import inside, ip, namespace

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES = 65_536
_SEEN_EVERY_SECONDS = 0.2


@dataclass(slots=True)
class SlowNetwork:
    """A line between two addresses: `here` on this machine, `there` in the namespace `name`."""

    name: str
    here: str
    there: str
    delay_seconds: float
    """Each packet takes so long, in either direction: an answer takes twice as long."""
    loss: float
    """The share of packets that are lost, 0 to 1."""
    carried: int = 0
    lost: int = 0
    _cut: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    @property
    def inside(self) -> tuple[str, ...]:
        """The words before a command that run it in the namespace; its process id stays that of the command."""
        return inside(self.name)

    def cut(self) -> None:
        """Lose every packet from now on, also those under way."""
        self._cut.set()

    def mend(self) -> None:
        """Carry packets again."""
        self._cut.clear()

    def carry(self, ends: tuple[int, int]) -> None:
        """Carry packets between the descriptors of two tun devices until `end`."""
        other, numbers = dict(zip(ends, reversed(ends), strict=True)), itertools.count()
        under_way: list[tuple[float, int, int, bytes]] = []
        while not self._ended.is_set():
            wait = min(_SEEN_EVERY_SECONDS, under_way[0][0] - time.monotonic()) if under_way else _SEEN_EVERY_SECONDS
            for end in select.select(ends, [], [], max(0.0, wait))[0]:
                packet = os.read(end, _PACKET_BYTES)
                if self._cut.is_set() or self._random.random() < self.loss:
                    self.lost += 1
                else:
                    heapq.heappush(
                        under_way, (time.monotonic() + self.delay_seconds, next(numbers), other[end], packet)
                    )
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                if self._cut.is_set():
                    self.lost += 1
                    continue
                # A device that is going down takes none.
                with suppress(OSError):
                    os.write(end, packet)
                    self.carried += 1

    def end(self) -> None:
        """Carry nothing any more."""
        self._ended.set()


@contextmanager
def slow_network(delay_seconds: float = 0.2, loss: float = 0.05) -> Iterator[SlowNetwork]:
    """A namespace that reaches this machine alone, by one slow line; nothing is left of it afterwards."""
    mark, third = secrets.token_hex(4), secrets.randbelow(250)
    links = f"roas{mark}a", f"roas{mark}b"
    with namespace() as name, ExitStack() as ended:
        network = SlowNetwork(name, f"10.215.{third}.1", f"10.215.{third}.2", delay_seconds, loss)
        ends = _device(links[0], ended), _device(links[1], ended)
        ip("link", "set", links[1], "netns", name)
        ip("address", "add", network.here, "peer", network.there, "dev", links[0])
        ip("link", "set", links[0], "up")
        ip("-netns", name, "address", "add", network.there, "peer", network.here, "dev", links[1])
        ip("-netns", name, "link", "set", links[1], "up")
        carrying = threading.Thread(target=network.carry, args=(ends,), daemon=True)
        carrying.start()
        try:
            yield network
        finally:
            network.end()
            carrying.join()


def _device(name: str, ended: ExitStack) -> int:
    """A new tun device, which ends with the descriptor that its packets are read from and written to."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    ended.callback(os.close, end)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end
