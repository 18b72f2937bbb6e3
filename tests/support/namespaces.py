"""Network namespaces: machines of a fleet that see their own network, and of this machine what a line brings."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.support.engines import OwnEngine, engine_for_a_while

_ENDS_WITHIN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Machine:
    """A network namespace with an address, and the Docker engine that runs in it."""

    address: str
    inside: tuple[str, ...]
    """The words before a command that run it there; its process id stays that of the command."""
    engine: OwnEngine


def ip(*words: str) -> None:
    """Change links, addresses and namespaces."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def inside(name: str) -> tuple[str, ...]:
    """The words before a command that run it in a namespace, with this machine's files and control groups."""
    return "nsenter", f"--net=/run/netns/{name}"


@contextmanager
def namespace() -> Iterator[str]:
    """A new one with its loopback; afterwards it is gone, and all that still ran in it."""
    name = f"roas-{secrets.token_hex(4)}"
    ip("netns", "add", name)
    try:
        ip("-netns", name, "link", "set", "lo", "up")
        yield name
    finally:
        _end_what_runs_in(name)
        ip("netns", "delete", name)


def _end_what_runs_in(name: str) -> None:
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    while left := subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < deadline, f"processes in {name} do not end: {left.split()}"
        for process in left.split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.05)


@contextmanager
def machines(number: int) -> Iterator[tuple[str, list[Machine]]]:
    """The address at which they reach this machine, and so many machines."""
    with ExitStack() as held:
        bridge, network = held.enter_context(_bridge())
        made = []
        for place in range(2, 2 + number):
            name = held.enter_context(namespace())
            line = f"{name}-b"
            ip("link", "add", line, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", line, "master", bridge, "up")
            ip("-netns", name, "address", "add", f"{network}.{place}/24", "dev", "eth0")
            ip("-netns", name, "link", "set", "eth0", "up")
            engine = held.enter_context(engine_for_a_while(inside=inside(name)))
            made.append(Machine(f"{network}.{place}", inside(name), engine))
        yield f"{network}.1", made


@contextmanager
def _bridge() -> Iterator[tuple[str, str]]:
    """A bridge of this machine, and the first three numbers of its addresses, which no other test has."""
    while True:
        third = secrets.randbelow(250)
        bridge = f"roas-fleet-{third}"
        made = subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], capture_output=True, text=True)
        if made.returncode == 0:
            break
        assert "File exists" in made.stderr, made.stderr
    try:
        ip("address", "add", f"10.216.{third}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        yield bridge, f"10.216.{third}"
    finally:
        ip("link", "delete", bridge)
