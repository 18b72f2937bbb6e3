"""Requests of Apprise, the library in which notification blocks send, with answers limited in bytes and in time."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

_MOST_BYTES = 64 * 1024
_SECONDS = 15.0
_VERBS = frozenset({"request", "get", "options", "head", "post", "put", "patch", "delete"})


def limit_apprise() -> None:
    """Let every module of Apprise that is loaded send through `LimitedRequests`.

    Its plugins call functions of the module `requests`, which take no session or adapter.
    """
    limited = LimitedRequests()
    for name, module in list(sys.modules.items()):
        if name.startswith("apprise.") and vars(module).get("requests") is requests:
            vars(module)["requests"] = limited


class LimitedRequests:
    """The module `requests`, but that no answer is read beyond 64 KiB or 15 s, and no redirect is followed.

    The status of an answer that is cut off counts. A head that does not come in time is a ConnectionError.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "Session":
            return _Session
        return getattr(_Session() if name in _VERBS else requests, name)


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _LimitedAdapter())

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        return super().request(method, url, *args, **kwargs | {"allow_redirects": False})


class _LimitedAdapter(HTTPAdapter):
    def __init__(self) -> None:
        self._connections: list[socket.socket] = []
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._note_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._note_connections(manager)
        return manager

    def _note_connections(self, manager: Any) -> None:
        noted = self._connections

        def make_pool(pool: Any) -> Any:
            class Connection(pool.ConnectionCls):  # type: ignore[misc]
                def _new_conn(self) -> socket.socket:
                    made: socket.socket = super()._new_conn()
                    # TLS takes the socket over; its twin ends the connection at any time.
                    noted.append(made.dup())
                    return made

            return type("Pool", (pool,), {"ConnectionCls": Connection})

        manager.pool_classes_by_scheme = {
            scheme: make_pool(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        # A timeout of requests is for each read, and a server that drips never reaches it.
        over = threading.Event()
        ending = threading.Timer(_SECONDS, self._end, [over])
        ending.daemon = True
        ending.start()
        request.headers["Accept-Encoding"] = "identity"
        try:
            response = super().send(request, *args, **kwargs | {"stream": True})
            if over.is_set():
                # A head that is cut off reads like a whole one.
                response.raw.close()
                raise requests.ConnectionError(f"no answer within {_SECONDS:g} s", request=request)
            _read(response)
            return response
        finally:
            ending.cancel()
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _end(self, over: threading.Event) -> None:
        over.set()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _read(response: requests.Response) -> None:
    """Read the body as far as it is let; a compressed one is not unpacked, since a few bytes can hold gigabytes."""
    body = bytearray()
    with suppress(HTTPError, OSError):
        while len(body) < _MOST_BYTES and (part := response.raw.read(4096, decode_content=False)):
            body += part
    # What is not read is dropped with the connection.
    response.raw.close()
    response._content = b"" if "content-encoding" in response.headers else bytes(body[:_MOST_BYTES])
    response._content_consumed = True  # type: ignore[attr-defined]
