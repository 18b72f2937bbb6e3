"""Memory of processes that run for as long as the machine: what a moment needed goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import suppress

TRIM_FIRST_SECONDS = 20.0
TRIM_EVERY_SECONDS = 60.0
_ARENA_MAX_OPTION = -8
"""mallopt's M_ARENA_MAX."""


def spare_memory() -> None:
    """Let threads share two heaps: each would have one of its own, and keep what a moment needed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX_OPTION, 2)


def give_back() -> None:
    """Give memory back to the system that a moment needed, such as the start of many environments."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def keep_giving_back() -> None:
    """Give memory back soon after the start, and again and again, until this is cancelled."""
    pause = TRIM_FIRST_SECONDS
    while True:
        await asyncio.sleep(pause)
        await asyncio.get_running_loop().run_in_executor(None, give_back)
        pause = TRIM_EVERY_SECONDS
