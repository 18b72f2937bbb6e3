"""The HTTP server of our own pages: a deadline for each request, and no traceback for a client that hangs up."""

from __future__ import annotations

import io
import logging
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

log = logging.getLogger("roas")


class OwnServer(ThreadingHTTPServer):
    """Answers each connection in a thread that does not keep the process from ending."""

    daemon_threads = True
    block_on_close = False
    request_seconds = 10.0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the failure, at debug level where only the client disconnected."""
        if isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            log.debug("the client %s went away", client_address)
        else:
            log.exception("a request of %s could not be answered", client_address)


class OwnHandler(BaseHTTPRequestHandler):
    """Reads one whole request within the seconds of its server, however many parts it comes in."""

    server: OwnServer
    server_version = "roas"
    sys_version = ""

    def setup(self) -> None:
        """Read through the deadline."""
        super().setup()
        seconds = self.server.request_seconds
        self.connection.settimeout(seconds)
        self.rfile.close()
        self.rfile = io.BufferedReader(_UntilDeadline(self.connection, seconds))


class _UntilDeadline(io.RawIOBase):
    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining_seconds = self._deadline - time.monotonic()
        if remaining_seconds <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining_seconds)
        try:
            return self._connection.recv_into(buffer)
        finally:
            # A write has a time of its own.
            self._connection.settimeout(self._seconds)
