"""What runs beside `roas serve`, each in a process of its own that is started anew where it ends: agent and server."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from adapters.host.programs import kills_for_memory
from core.common.exit_codes import describe_end
from flows.server.embedded import ServerProcess
from flows.warm.warm_keeper import RUN_COMMAND

log = logging.getLogger("roas")

_AGENT = (*RUN_COMMAND[:-1], "flows.agent.agent_process")
"""In the warm process, or else in a process of its own."""

_LOOKED_AT_EVERY_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_WELL_AFTER_SECONDS = 60.0

Poll = Callable[[], int | None]
"""The exit code of a process; None while it runs."""


async def keep_agent() -> None:
    """Keep the agent running until this is cancelled; it ends with this process, which ends its children itself."""
    # It must not speak to systemd for the service.
    variables = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}

    async def begin() -> Poll:
        agent = await asyncio.create_subprocess_exec(*_AGENT, env=variables, stdin=asyncio.subprocess.DEVNULL)
        return lambda: agent.returncode

    await _keep("the agent", begin)


async def keep_server(server: ServerProcess) -> None:
    """Keep a server that runs already running until this is cancelled; the caller ends it.

    While there is none, its clients wait at its socket for a moment, and are turned away after that.
    """
    listening = server.listening

    async def begin() -> Poll:
        if server.process.poll() is not None:
            server.start_anew()
        return server.process.poll

    async def turn_away(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(listening, _turn_away, listening)
        try:
            await asyncio.sleep(seconds)
        finally:
            loop.remove_reader(listening)

    listening.setblocking(False)
    await _keep("the Prefect server", begin, turn_away)


def _turn_away(listening: socket.socket) -> None:
    with suppress(OSError):
        listening.accept()[0].close()


async def _keep(
    what: str, begin: Callable[[], Awaitable[Poll]], wait: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    loop, pause = asyncio.get_running_loop(), _PAUSE_SECONDS
    while True:
        began = loop.time()
        try:
            ending = await _ending_of(await begin())
        except OSError as error:
            ending = f"could not be started ({error})"
        pause = _PAUSE_SECONDS if loop.time() - began > _WELL_AFTER_SECONDS else pause
        # Where all ends, these end first, and this is cancelled meanwhile.
        await asyncio.sleep(_PAUSE_SECONDS)
        remaining = pause - _PAUSE_SECONDS
        log.warning("%s %s; it is started anew%s", what, ending, f" in {remaining:.0f} s" if remaining else "")
        await wait(remaining)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _ending_of(poll: Poll) -> str:
    before = latest = kills_for_memory()
    while (code := poll()) is None:
        before, latest = latest, kills_for_memory()
        await asyncio.sleep(_LOOKED_AT_EVERY_SECONDS)
    return describe_end(code, memory_ran_out=kills_for_memory() > before)
