"""What an operation shows in Prefect's UI while it goes on: it waits for that at its end only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any
from weakref import WeakKeyDictionary

log = logging.getLogger("roas")

_AT_MOST_SECONDS = 5.0

_showing: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = WeakKeyDictionary()


def show_later(what: str, showing: Awaitable[None]) -> None:
    """Show something while the operation goes on; a failure is logged as `what` is not shown."""

    async def show() -> None:
        try:
            async with asyncio.timeout(_AT_MOST_SECONDS):
                await showing
        except Exception as error:  # noqa: BLE001 - what is not shown must not fail what was done
            log.warning("the UI does not show %s: %s", what, str(error) or type(error).__name__)

    tasks = _showing.setdefault(asyncio.get_running_loop(), set())
    task = asyncio.create_task(show())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def all_shown() -> None:
    """Wait until all is shown, which takes seconds at most."""
    if showing := _showing.get(asyncio.get_running_loop()):
        await asyncio.wait(set(showing))
