"""A rollback that recovery decides on outside of a flow run: an operation, as the command of a process of its own."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from adapters.host.own_command import ENTRY
from adapters.host.processes import ASKED_BY
from models.failures import RoasError

_WITHIN = timedelta(minutes=30)
_ENDS_WITHIN_SECONDS = 10.0
_LAST_CHARACTERS = 2000


async def roll_back_in_own_process(environment: str, release: str, asked_by: str) -> str:
    """Run `roas rollback` to its end, and return its last line. It is forked from a warm process where there is one.

    Raises:
        RoasError: It failed, or did not end in half an hour; the message is its own.
    """
    command = (*ENTRY, "cli.main:main", "rollback", environment, release)
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {ASKED_BY: asked_by},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_WITHIN.total_seconds()):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            # It records its end, and can be resumed.
            process.terminate()
            try:
                async with asyncio.timeout(_ENDS_WITHIN_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
    lines = output.decode("utf-8", "replace")[-_LAST_CHARACTERS:].strip().splitlines()
    if process.returncode != 0:
        reason = next((line for line in reversed(lines) if line.startswith("roas: ")), lines[-1] if lines else "")
        raise RoasError(
            f"The rollback of {environment} to {release} failed: {reason.removeprefix('roas: ')}",
            advice=f"`roas history {environment}` lists it; `roas rollback {environment} {release}` tries again.",
        )
    return f"rolled back to {release}: {lines[-1].strip()}" if lines else f"rolled back to {release}"
