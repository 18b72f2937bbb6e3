"""Reading over HTTP from a socket of this machine, many small answers a second."""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode


class UnixHttp:
    """Reads from one socket, over connections that are kept. Threads may share one object."""

    def __init__(self, socket_path: str, *, seconds: float) -> None:
        self._socket_path = socket_path
        self._seconds = seconds
        self._idle: deque[UnixConnection] = deque()
        # Whoever forgets this object leaves no open connection behind.
        weakref.finalize(self, _close_all, self._idle)

    def get(self, path: str, asked: Mapping[str, str | int]) -> bytes | None:
        """The body of a good answer; None for any other, and where the connection was lost.

        Raises:
            TimeoutError: The answer took longer than the `seconds` of this object.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = UnixConnection(self._socket_path, seconds=self._seconds)
        try:
            connection.request("GET", f"{path}?{urlencode(asked)}" if asked else path)
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
        """Give back the connections."""
        _close_all(self._idle)


class UnixConnection(HTTPConnection):
    """HTTP over a socket of this machine; a lost one is made anew by the next request.

    It waits at most so many seconds for each step.
    """

    def __init__(self, socket_path: str, *, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._socket_path = socket_path

    def connect(self) -> None:
        """Open the socket.

        Raises:
            OSError: Nobody listens there.
        """
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _close_all(connections: deque[UnixConnection]) -> None:
    while connections:
        connections.pop().close()
