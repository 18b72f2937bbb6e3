"""The agent inside `roas serve`: a process beside the server and its runner, which is started anew where it ends."""

from __future__ import annotations

import asyncio
import logging
import os

from flows.warm.warm_keeper import RUN_COMMAND

log = logging.getLogger("roas")

_COMMAND = (*RUN_COMMAND[:-1], "flows.agent.agent_process")
"""In the warm process, or else in a process of its own."""

_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_WELL_AFTER_SECONDS = 60.0


async def keep_agent() -> None:
    """Keep the agent running until this is cancelled; it ends with this process, which ends its children itself."""
    loop, pause = asyncio.get_running_loop(), _PAUSE_SECONDS
    # It must not speak to systemd for the service.
    variables = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    while True:
        began = loop.time()
        agent = await asyncio.create_subprocess_exec(*_COMMAND, env=variables, stdin=asyncio.subprocess.DEVNULL)
        code = await agent.wait()
        pause = _PAUSE_SECONDS if loop.time() - began > _WELL_AFTER_SECONDS else pause
        # Where all ends, the agent ends first, and this is cancelled meanwhile.
        await asyncio.sleep(pause)
        log.warning("the agent ended with exit code %d %.0f s ago; it is started anew", code, pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
