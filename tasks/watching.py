"""Watch an application's containers: woken by the engine's events, with a slow look for what they miss."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from adapters.docker_engine import EventStream
from models.environments import Environment
from models.failures import EngineError
from tasks.doors import engine_of

log = logging.getLogger("roas")

LOOK_AGAIN_AFTER = timedelta(seconds=1)
"""An event can be lost when the engine is busy or restarts; nobody waits longer than this for one."""


class Watch:
    """Tells who waits for a service that something happened to it."""

    def __init__(self) -> None:
        """Know nobody yet."""
        self._bells: dict[str, asyncio.Event] = {}

    def ring(self, service: str) -> None:
        """Something happened to this service; called on the event loop."""
        self._bell(service).set()

    async def change(self, service: str, *, at_most: timedelta = LOOK_AGAIN_AFTER) -> None:
        """Return at the service's next event, or after `at_most` without one."""
        bell = self._bell(service)
        try:
            await asyncio.wait_for(bell.wait(), at_most.total_seconds())
        except TimeoutError:
            return
        finally:
            bell.clear()

    def _bell(self, service: str) -> asyncio.Event:
        return self._bells.setdefault(service, asyncio.Event())


@asynccontextmanager
async def watch_project(environment: Environment) -> AsyncIterator[Watch]:
    """Listen to the engine's events about this project while the body runs.

    Raises:
        EngineError: The engine did not answer.
    """
    watch, loop = Watch(), asyncio.get_running_loop()
    stream = await asyncio.to_thread(engine_of(environment).events, environment.project, datetime.now(UTC))
    listener = threading.Thread(target=_listen, args=(stream, watch, loop), name="engine-events", daemon=True)
    listener.start()
    try:
        yield watch
    finally:
        await asyncio.to_thread(stream.close)
        await asyncio.to_thread(listener.join, 5)


def _listen(stream: EventStream, watch: Watch, loop: asyncio.AbstractEventLoop) -> None:
    try:
        for event in stream:
            loop.call_soon_threadsafe(watch.ring, event.service)
    except EngineError as error:
        # The waits look by themselves every second, so a lost stream costs speed, not truth.
        log.warning("the engine's events stopped: %s", error)
