"""Watch an application's containers: woken by the engine's events, with a slow look for what they miss."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from adapters.docker.events import EventStream
from models.containers import ContainerEvent, ContainerState
from models.environments import Environment
from models.failures import EngineError
from tasks.deployment.lease import who_holds
from tasks.runtime.clients import engine_of
from tasks.runtime.retry_policy import retry_read
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

LOOK_AGAIN_AFTER = timedelta(seconds=1)
"""An event can be lost when the engine is busy or restarts; nobody waits longer than this for one."""

_LISTEN_AGAIN_SECONDS = 0.25
_LISTEN_AGAIN_AT_MOST_SECONDS = 2.0
_SILENT_AFTER = timedelta(minutes=3)
"""A watch leaves a heartbeat every minute."""

_MOST_RECEIVED = 1000
"""Events nobody has asked for yet; more than these are found by looking."""


class ContainerWatch:
    """Tells who waits for a service that something happened to it, and which containers it has."""

    def __init__(self) -> None:
        """Know nobody yet."""
        self._bells: dict[str, _ChangeSignal] = {}
        self._services: dict[str, str] | None = None

    def containers(self, service: str) -> tuple[str, ...] | None:
        """The ids of a service's containers by all events until now; None while no events come.

        An event can be lost, so whoever was not woken by one asks the engine instead.
        """
        if self._services is None:
            return None
        return tuple(container for container, name in self._services.items() if name == service)

    async def change(
        self, service: str, *, at_most: timedelta = LOOK_AGAIN_AFTER, besides: Collection[str] = ()
    ) -> bool:
        """Return at the service's next event, or after `at_most` without one; whether there was one.

        Events whose action is in `besides` wake nobody.
        """
        changed = self._bells.setdefault(service, _ChangeSignal())
        try:
            async with asyncio.timeout(at_most.total_seconds()):
                while not await changed.received() - set(besides):
                    pass
        except TimeoutError:
            return False
        return True

    def know(self, services: Mapping[str, str]) -> None:
        """From now on events come, and these are the services by container; called on the event loop.

        Everybody is woken: what happened while no events came has told nobody.
        """
        self._services = dict(services)
        for changed in self._bells.values():
            changed.ring("")

    def see(self, event: ContainerEvent) -> None:
        """Something happened; called on the event loop."""
        if self._services is not None:
            if event.action == "create":
                self._services[event.container_id] = event.service
            elif event.action == "destroy":
                self._services.pop(event.container_id, None)
        self._bells.setdefault(event.service, _ChangeSignal()).ring(event.action)

    def forget(self) -> None:
        """Events have stopped to come; called on the event loop."""
        self._services = None


class EventFeed:
    """Every event of a project in the order it came, for one listener, and whether some may be missing."""

    def __init__(self) -> None:
        """Nothing was heard yet, so everything may be missing."""
        self._events: deque[ContainerEvent] = deque()
        self._rung = asyncio.Event()
        self._missed = True

    async def wait(self, at_most: timedelta) -> None:
        """Return as soon as there is something to take, or after `at_most`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most.total_seconds()):
                await self._rung.wait()

    def take(self) -> tuple[list[ContainerEvent], bool]:
        """What came since this was asked last, and whether events were missed, so that one must look."""
        events, missed = list(self._events), self._missed
        self._events.clear()
        self._rung.clear()
        self._missed = False
        return events, missed

    def wake(self) -> None:
        """End a wait although nothing happened to a container; called on the event loop."""
        self._rung.set()

    def know(self, services: Mapping[str, str]) -> None:
        """Events come again, after a time without; called on the event loop."""
        self._missed = True
        self._rung.set()

    def see(self, event: ContainerEvent) -> None:
        """Something happened; called on the event loop."""
        if len(self._events) >= _MOST_RECEIVED:
            self._events.clear()
            self._missed = True
        self._events.append(event)
        self._rung.set()

    def forget(self) -> None:
        """Events have stopped to come; called on the event loop."""


class _Subscriber(Protocol):
    """Who is told of events."""

    def know(self, services: Mapping[str, str]) -> None: ...
    def see(self, event: ContainerEvent) -> None: ...
    def forget(self) -> None: ...


class _ChangeSignal:
    """What happened to one service since somebody last asked."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._actions: set[str] = set()

    def ring(self, action: str) -> None:
        self._actions.add(action)
        self._rung.set()

    async def received(self) -> set[str]:
        await self._rung.wait()
        self._rung.clear()
        actions, self._actions = self._actions, set()
        return actions


@asynccontextmanager
async def watch_project(environment: Environment) -> AsyncIterator[ContainerWatch]:
    """Listen to the engine's events about this project while the body runs, again where they break off.

    Raises:
        EngineError: The engine did not answer.
    """
    watch = ContainerWatch()
    listener = _Listener(environment, watch, asyncio.get_running_loop())
    watch.know(await asyncio.to_thread(listener.connect))
    listener.start()
    try:
        yield watch
    finally:
        await asyncio.to_thread(listener.close)


@asynccontextmanager
async def listen(environment: Environment) -> AsyncIterator[EventFeed]:
    """Listen to the engine's events about this project while the body runs, whether the engine is there or not."""
    feed = EventFeed()
    listener = _Listener(environment, feed, asyncio.get_running_loop())
    listener.start()
    try:
        yield feed
    finally:
        await asyncio.to_thread(listener.close)


class _Listener(threading.Thread):
    """Reads the engine's events, which blocks, and passes them to the event loop."""

    def __init__(self, environment: Environment, subscriber: _Subscriber, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="engine-events", daemon=True)
        self._environment = environment
        self._subscriber = subscriber
        self._loop = loop
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream | None = None

    def connect(self) -> dict[str, str]:
        """Begin to listen, and then list the containers, so that none falls between; the service of each.

        Raises:
            EngineError: The engine did not answer.
        """
        engine, project = engine_of(self._environment), self._environment.project
        stream = engine.events.stream(project, datetime.now(UTC))
        with self._lock:
            self._stream = stream
            if self._closing.is_set():
                stream.close()
        try:
            return engine.containers.services(project)
        except EngineError:
            stream.close()
            raise

    def run(self) -> None:
        """Listen until closed."""
        if self._stream is None:
            self._listen_again()
        while not self._closing.is_set():
            try:
                for event in self._stream or ():
                    self._loop.call_soon_threadsafe(self._subscriber.see, event)
            except EngineError as error:
                # The waits look by themselves every second, so a lost stream costs speed, not truth.
                log.warning("the engine's events stopped: %s", error)
                self._loop.call_soon_threadsafe(self._subscriber.forget)
                self._listen_again()

    def close(self) -> None:
        """Stop listening, and wait until nothing is passed on any more."""
        with self._lock:
            self._closing.set()
            if self._stream is not None:
                self._stream.close()
        self.join()

    def _listen_again(self) -> None:
        seconds = _LISTEN_AGAIN_SECONDS if self._stream is not None else 0.0
        again = self._stream is not None
        while not self._closing.wait(seconds):
            try:
                services = self.connect()
            except EngineError:
                seconds = min(2 * seconds or _LISTEN_AGAIN_SECONDS, _LISTEN_AGAIN_AT_MOST_SECONDS)
                continue
            if again:
                log.warning("the engine's events are back")
            self._loop.call_soon_threadsafe(self._subscriber.know, services)
            return


@retry_read
async def in_hand(environment: str) -> str | None:
    """Who operates on an environment now, and why; None where nobody does."""
    return await who_holds(environment)


@retry_read
async def inspect_environment(environment: Environment) -> tuple[list[ContainerState], str | None]:
    """Every container of an environment, and who operates on it now; one task, since a service is down meanwhile.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    seen = asyncio.to_thread(lambda: engine_of(environment).containers.inspect_project(environment.project))
    container_states, held = await asyncio.gather(seen, who_holds(environment.name))
    return container_states, held


@retry_read
async def is_watched(environment: str, now: datetime) -> bool:
    """Whether a watch of an environment was seen going on a moment ago."""

    def read() -> bool:
        last = open_stores().heartbeats.all().get(f"watch/{environment}")
        return last is not None and now - last < _SILENT_AFTER

    return await asyncio.to_thread(read)
