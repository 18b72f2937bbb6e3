"""Programs that begin on this machine, by the kernel's process events (netlink connector; needs root)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_LISTEN = 1
_EXEC = 2
_HEADER = struct.Struct("=IHHII IIIIHH")


@dataclass(frozen=True, slots=True)
class SuiteProgram:
    """One program that a process became, when (Unix seconds), and in which control group."""

    at: float
    words: tuple[str, ...]
    group: str


def begun_programs() -> Iterator[SuiteProgram]:
    """Yield each program that begins, until the caller stops asking. Raises PermissionError without root."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR) as events:
        events.bind((0, _CN_IDX_PROC))
        events.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        events.send(
            _HEADER.pack(_HEADER.size + 4, 3, 0, 0, 0, _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0)
            + struct.pack("=I", _LISTEN)
        )
        while True:
            message = events.recv(4096)
            kind, _cpu, _when = struct.unpack_from("=IIQ", message, _HEADER.size)
            if kind == _EXEC:
                (process,) = struct.unpack_from("=I", message, _HEADER.size + 16)
                with suppress(OSError):
                    yield _program(Path("/proc", str(process)))


def _program(process: Path) -> SuiteProgram:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    groups = (process / "cgroup").read_text().splitlines()
    group = next((line.partition(":cpuacct:")[2] for line in groups if ":cpuacct:" in line), "")
    return SuiteProgram(time.time(), tuple(word[:200] for word in words[:12]), group)
