"""Which users' processes listen on a port of the loopback."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_ADDRESSES = {"127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"}  # noqa: S104 - compared with, not listened on
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PROC_TABLES = {
    "tcp": {"0100007F", "00000000"},
    "tcp6": {"0" * 32, "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"},
}
"""The same addresses as /proc/net has them, in little-endian order."""

_PROC_LISTEN = "0A"
_LISTEN_STATE = 10
_SOCK_DIAG, _BY_FAMILY, _DUMP, _DUMP_WAS_INTERRUPTED = 4, 20, 0x301, 0x10
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s46x")
_ANSWER = struct.Struct("=4x2s2x16s16x12x12xI")
"""Of a socket: its port, its address, and the user id."""

_ANSWERS_WITHIN_SECONDS = 1.0


def listening_users(port: int) -> frozenset[int]:
    """The user ids of processes that listen on a TCP port of the loopback or of all addresses."""
    try:
        return frozenset(user for family in _FAMILIES for user in _ask_kernel(family, port))
    except OSError:
        # A service may be kept from such sockets.
        return frozenset(_read_proc(port))


def _ask_kernel(family: socket.AddressFamily, port: int) -> Iterator[int]:
    """Ask the kernel for listening sockets alone: its file of all connections takes a hundred times as long."""
    port_bytes = port.to_bytes(2, "big")
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _LISTEN_STATE, port_bytes)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking:
        asking.settimeout(_ANSWERS_WITHIN_SECONDS)
        asking.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _DUMP, 1, 0) + body)
        while True:
            answers, (sender, _) = asking.recvfrom(1 << 16)
            if sender != 0:
                continue
            while answers:
                length, kind, flags, _, _ = _HEADER.unpack_from(answers)
                if kind == _ERROR or flags & _DUMP_WAS_INTERRUPTED:
                    raise OSError("the kernel gave no whole answer")
                if kind == _DONE:
                    return
                at, packed, user = _ANSWER.unpack_from(answers, _HEADER.size)
                address = socket.inet_ntop(family, packed[: 4 if family == socket.AF_INET else 16])
                if at == port_bytes and address in _ADDRESSES:
                    yield user
                answers = answers[(length + 3) & ~3 :]


def _read_proc(port: int) -> Iterator[int]:
    for table, addresses in _PROC_TABLES.items():
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            # A kernel without IPv6 has no tcp6.
            continue
        for fields in map(str.split, lines):
            address, at = fields[1].split(":")
            if fields[3] == _PROC_LISTEN and int(at, 16) == port and address in addresses:
                yield int(fields[7])
