"""Prefect's API server as `roas` runs it: on a socket that is open already, for its own page and clients only.

`python -m flows.server_process FD` serves on the inherited socket FD, and ends when its standard input does: then the
process that started it is gone.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.embedded import own_origins

_END_WITHIN_SECONDS = 1


class OwnPageOnly:
    """Refuse what a foreign web page sends: another Host (DNS rebinding), another Origin; and being framed by one."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        """Guard an application that listens on a loopback port."""
        self._app = app
        self._origins = frozenset(own_origins(port))
        self._hosts = frozenset(origin.removeprefix("http://") for origin in self._origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        reason = self._foreign(Headers(scope=scope))
        if reason is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "http":
            await PlainTextResponse(f"{reason}\n", status_code=403)(scope, receive, send)
        else:
            # Closed before it was accepted, which a client sees as 403.
            await send({"type": "websocket.close", "code": 1008, "reason": reason})

    def _foreign(self, headers: Headers) -> str | None:
        if headers.get("host") not in self._hosts:
            return f"This server answers at {' and '.join(sorted(self._hosts))} only."
        if headers.get("origin", next(iter(self._origins))) not in self._origins:
            return "This server answers its own page only."
        return None


def _unframed(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-frame-options"] = "DENY"
            headers["content-security-policy"] = "frame-ancestors 'none'"
        await send(message)

    return sending


def serve(listening: socket.socket) -> None:
    """Serve until a signal, or until standard input ends."""
    from prefect.server.api.server import create_app

    port = listening.getsockname()[1]
    config = uvicorn.Config(
        lambda: OwnPageOnly(create_app(), port),
        factory=True,
        log_level="error",
        timeout_graceful_shutdown=_END_WITHIN_SECONDS,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    server.run(sockets=[listening])


def _end_with_parent(server: Any) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
