"""The agent's watch of one environment while something happens in it, until all that follows has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from flows.recovery.watch import EnvironmentWatcher
from tasks.monitoring.event_hub import EventHub
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.project import load_project
from tasks.runtime.store_access import StoreAccess, outliving_stores

_FAR = datetime(9000, 1, 1, tzinfo=UTC)
_QUIET_FOR, _QUIET_AFTERWARDS, _QUIET_WITHIN = 1.0, 3.0, 300.0
_LOOKS_EVERY = 0.2
STEADY_WITHIN = 15.0
"""A program that crashes after each start never is."""


async def watch_while(
    environment: str, happen: Callable[[], Awaitable[None]], is_steady: Callable[[], Awaitable[bool]]
) -> None:
    """Watch as the agent does, let something happen, and wait until nothing follows for some seconds.

    `is_steady` says whether no program is about to become ready.

    Raises:
        TimeoutError: There is no end of what follows.
    """
    project, access, hub = await load_project(environment), StoreAccess(environment), EventHub()
    with without_task_runs(), outliving_stores(access):
        async with hub.listen(project) as feed:
            watcher = EnvironmentWatcher(project, (), access, feed, act=True)
            await access.begin()
            await watcher.survive(watcher.sweep())
            running = asyncio.create_task(watcher.run(_FAR))
            try:
                await _wait_until_listening(hub)
                await _wait_until_quiet(watcher, _QUIET_FOR)
                await happen()
                await _wait_until_quiet(watcher, _QUIET_AFTERWARDS)
                await wait_until_steady(is_steady)
                await _wait_until_quiet(watcher, _QUIET_FOR)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                await watcher.end()


async def wait_until_steady(is_steady: Callable[[], Awaitable[bool]]) -> None:
    """Wait until all programs are ready or have failed, as far as they come to that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STEADY_WITHIN):
            while True:
                if await is_steady():
                    return
                await asyncio.sleep(_LOOKS_EVERY)


async def _wait_until_listening(hub: EventHub) -> None:
    """Wait until each event reaches the watch: what happens before is seen by a sweep alone."""
    async with asyncio.timeout(_QUIET_WITHIN):
        while True:
            if all(stream._stream is not None for stream in hub._streams.values()):
                return
            await asyncio.sleep(_LOOKS_EVERY)


async def _wait_until_quiet(watcher: EnvironmentWatcher, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_QUIET_WITHIN):
        quiet_since, received = loop.time(), watcher.received
        while loop.time() - quiet_since < seconds:
            await asyncio.sleep(_LOOKS_EVERY)
            if _is_busy(watcher) or watcher.received != received:
                quiet_since, received = loop.time(), watcher.received


def _is_busy(watcher: EnvironmentWatcher) -> bool:
    tasks = (watcher._recoveries, watcher._recordings, watcher._short_tasks)
    return any(tasks) or bool(watcher.reconciler.queued_services)
