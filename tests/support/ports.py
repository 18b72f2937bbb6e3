"""Ports for servers that tests start."""

from __future__ import annotations

import fcntl
import socket
import tempfile
from contextlib import suppress
from itertools import chain
from pathlib import Path

_PORTS = range(20_000, 28_000)
"""Below those that the kernel and the engine give to whoever asks for any."""

_LAST = Path(tempfile.gettempdir()) / "roas-tests-last-port"
"""Of all tests on the machine: two that ask at once get two ports, and none gets one that another has yet to bind."""


def free_port() -> int:
    """Return a port of the machine that is free now, and that no other test is given for the next thousands."""
    with _LAST.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = int(file.read() or _PORTS.start)
        for port in chain(range(last + 1, _PORTS.stop), _PORTS):
            with suppress(OSError), socket.socket() as probe:
                probe.bind(("", port))
                file.truncate(0)
                file.write(str(port))
                return port
    raise OSError(f"No port from {_PORTS.start} to {_PORTS.stop} is free.")
