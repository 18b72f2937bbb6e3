"""Prefect's API server as we run it: for its own page and clients only.

`python -m flows.server.server_process FD` serves on the inherited socket FD and ends when its standard input closes:
then the process that started it is gone. With FD HOME SECONDS it ends when no command has used it for so long (see
flows/server/shared_server.py). `guarded_app` is what the control plane's container serves.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.host.oom_score import end_before_others
from adapters.host.warm_client import end_with_parent
from adapters.server.host_keys import HostKeys
from adapters.server.made_database import new_database
from flows.common.memory import give_back, spare_memory
from flows.page.base import OwnCommands
from flows.page.mount import PageMount
from flows.server.engine_settings import take_settings_over
from flows.server.shared_server import end_when_unused, hold_server
from models.settings import current_settings

_END_WITHIN_SECONDS = 1
_USUAL_THRESHOLDS = gc.get_threshold()
_ENDS_BY_FORCE_AFTER_SECONDS = 5.0
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class OwnPageOnly:
    """Refuse what a foreign web page sends: another Host (DNS rebinding), another Origin; and being framed by one."""

    def __init__(self, app: ASGIApp, origins: Iterable[str], hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(map(_as_browsers_send, origins))
        self._hosts = frozenset(hosts) | {origin.partition("://")[2] for origin in self._origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        reason = self._foreign(Headers(scope=scope))
        if reason is None:
            await self._app(scope, receive, _allow_no_frames(send))
        elif scope["type"] == "http":
            await PlainTextResponse(f"{reason}\n", status_code=403)(scope, receive, send)
        else:
            # Closed before it was accepted, which a client sees as 403.
            await send({"type": "websocket.close", "code": 1008, "reason": reason})

    def _foreign(self, headers: Headers) -> str | None:
        if headers.get("host", "").lower() not in self._hosts:
            return f"This server answers at {' and '.join(sorted(self._hosts))} only."
        if "origin" in headers and headers["origin"] not in self._origins:
            return "This server answers its own page only."
        return None


def _as_browsers_send(origin: str) -> str:
    """An origin in lower case and without the port that its scheme implies."""
    scheme, _, host = origin.strip().lower().partition("://")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


def _allow_no_frames(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-frame-options"] = "DENY"
            # The page below /roas has a stricter one.
            headers.setdefault("content-security-policy", "frame-ancestors 'none'")
        await send(message)

    return sending


def guarded_app(commands: OwnCommands | None = None) -> ASGIApp:
    """Prefect's API and UI, and our page, for the origins that Prefect's own setting names.

    ROAS_SERVER_HOSTS: by what else this server is called. `commands` says how the page runs commands where a command
    left this server.
    """
    from prefect.server.api.server import create_app

    from flows.fleet.host_guard import HostGuard
    from flows.fleet.stores_of_hosts import StoresOfHosts

    home = Path(os.environ.get("PREFECT_HOME") or current_settings().prefect_home)
    origins = os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    password = os.environ["PREFECT_SERVER_API_AUTH_STRING"]
    keys, stores = HostKeys(home), StoresOfHosts()

    def finish_start() -> None:
        gc.collect()
        give_back()
        gc.freeze()
        gc.set_threshold(*_USUAL_THRESHOLDS)
        stores.restrict(keys)

    app = call_once_started(create_app(), finish_start)
    page = PageMount(app, home, password, frozenset(map(_as_browsers_send, origins)), commands)
    guarded = HostGuard(page, keys, password, stores)
    return OwnPageOnly(guarded, origins, os.environ.get("ROAS_SERVER_HOSTS", "").split())


def call_once_started(app: ASGIApp, then: Callable[[], None]) -> ASGIApp:
    """Do something once the server has started: it upgrades its database, and Alembic upgrades one at a time."""

    async def run_app(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                then()

        await app(scope, receive, sending if scope["type"] == "lifespan" else send)

    return run_app


def serve(
    listening: socket.socket,
    started: Callable[[], None],
    home: Path | None = None,
    idle_seconds: float = 0.0,
) -> None:
    """Serve until a signal, and until standard input ends, or in `home` until no command uses it any more."""
    folder = _current_folder()
    commands = None if home is None else OwnCommands(folder=folder, hold=partial(hold_server, home))
    config = uvicorn.Config(
        lambda: call_once_started(guarded_app(commands), started),
        factory=True,
        log_level="error",
        timeout_graceful_shutdown=_END_WITHIN_SECONDS,
    )
    server = uvicorn.Server(config)
    end = partial(_end, server)
    if home is None:
        threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()
    else:
        # No settings of the folder in which the first command was given, but its environments on the page.
        os.environ |= _places(home, folder)
        os.chdir(home)
        end_when_unused(home, end, idle_seconds, _settle)
    server.run(sockets=[listening])


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        # It was removed meanwhile.
        return None


def _places(home: Path, folder: Path | None) -> dict[str, str]:
    """The places of our own files that do not depend on the current folder."""
    environments = current_settings().environments_dir
    named = {"ROAS_ENVIRONMENTS_DIR": str(environments.absolute())} if folder and environments.is_dir() else {}
    return {"ROAS_DATA_DIR": str(home.parent), **named}


def _settle(port: int) -> bool:
    from flows.server.left_runs import crash_left_runs

    return asyncio.run(crash_left_runs(port))


def _end_with_parent(end: Callable[[], None]) -> None:
    sys.stdin.buffer.read()
    end()


def _end(server: Any) -> None:
    server.should_exit = True
    time.sleep(_ENDS_BY_FORCE_AFTER_SECONDS)
    # Prefect's own services may hang on the way out, and no other process is left that could end this one.
    os._exit(0)


def _upgrade_database() -> None:
    """Make or upgrade Prefect's database in a fork: what its migrations need, 40 MiB, would stay in this process.

    Where that fails, the server itself tries at its start, and reports it.
    """
    import prefect.server.api.server
    from prefect.server.database import provide_database_interface

    if not prefect.settings.PREFECT_SERVER_DATABASE_MIGRATE_ON_START.value():
        return
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            end_with_parent(parent)
            asyncio.run(provide_database_interface().create_db())
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(process, 0)[1] == 0:
        os.environ["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] = "false"
        take_settings_over()


def main(words: list[str]) -> None:
    """Serve as the command line says."""
    spare_memory()
    end_before_others()
    # Imports make a million objects that live on, and no garbage: looking for it took a fifth of the start.
    gc.set_threshold(100_000, 20, 20)
    listening = socket.socket(fileno=int(words[0]))
    started = new_database(Path(os.environ["PREFECT_HOME"]))
    if len(words) == 1:
        _upgrade_database()
        serve(listening, started)
    else:
        serve(listening, started, Path(words[1]), float(words[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
