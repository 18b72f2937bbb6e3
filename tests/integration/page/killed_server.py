"""The page on a socket in a process of its own, which kills itself at a point of a request that a file names.

Run as `python -m tests.integration.page.killed_server HOME RUNS KILL_AT DESCRIPTOR`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from flows.page.mount import PageMount
from flows.server.server_process import OwnPageOnly
from tests.integration.page.page_clients import AUTH_STRING, ORIGIN
from tests.integration.page.prefect_server import PrefectServer


def kill_at(point: str, file: Path) -> None:
    """End this process where the file names this point, once."""
    if file.exists() and file.read_text() == point:
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class KilledPrefectServer(PrefectServer):
    """Ends with its process at the point."""

    def __init__(self, runs: Path, file: Path) -> None:
        super().__init__(runs)
        self._kill_file = file

    async def reach(self, point: str) -> int:
        """See the base."""
        kill_at(point, self._kill_file)
        return 0


def main(home: str, runs: str, file: str, descriptor: str) -> None:
    """Serve until it is killed."""
    page = OwnPageOnly(
        PageMount(KilledPrefectServer(Path(runs), Path(file)), Path(home), AUTH_STRING, frozenset({ORIGIN})), [ORIGIN]
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message.get("status") == 303 and scope["path"].startswith("/roas/do/"):
                kill_at("answer", Path(file))
            await send(message)

        await page(scope, receive, sending)

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    server.run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main(*sys.argv[1:])
