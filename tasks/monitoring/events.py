"""Events of the engine about an application's containers, for waiting tasks and for the watch."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from adapters.docker.events import EventStream
from models.containers import ContainerEvent, ContainerState
from models.failures import EngineError
from tasks.deployment.lease import who_holds
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import make_async, retry_read
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

INSPECT_AGAIN_AFTER = timedelta(seconds=1)
"""The longest wait for an event, which can be lost when the engine is busy or restarts."""

_RECONNECT_SECONDS = 0.25
_RECONNECT_AT_MOST_SECONDS = 2.0
_SILENT_AFTER = timedelta(minutes=3)
"""A watch leaves a heartbeat every minute."""

_MOST_RECEIVED = 1000
"""Limit of the backlog; beyond it the events are dropped, and the watch sweeps instead."""


class _Subscriber:
    """Receives events, on the event loop."""

    def know(self, services: Mapping[str, str]) -> None:
        """Events come from now on, with these services by container; those before were missed."""

    def see(self, event: ContainerEvent) -> None:
        """Take an event."""

    def forget(self) -> None:
        """No events come any more."""


class ContainerWatch(_Subscriber):
    """Wakes the tasks that wait for a service's next event, and knows its containers."""

    def __init__(self) -> None:
        self._actions: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self._renamed: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self._services: dict[str, str] | None = None
        self._died: defaultdict[str, set[str]] = defaultdict(set)

    def forget_deaths(self, service: str) -> None:
        """Forget that containers of the service ended: it is proven now."""
        self._died.pop(service, None)

    def has_died(self, service: str) -> bool:
        """Whether a container of the service, which is still there, ended since that was forgotten."""
        return bool(self._died[service])

    def containers(self, service: str) -> tuple[str, ...] | None:
        """The ids of a service's containers by all events until now; None while no events come.

        An event can be lost, so a caller that was not woken by one asks the engine instead.
        """
        if self._services is None:
            return None
        return tuple(container for container, name in self._services.items() if name == service)

    async def change(
        self, service: str, *, at_most: timedelta = INSPECT_AGAIN_AFTER, besides: Collection[str] = ()
    ) -> bool:
        """Return at the service's next event, or after `at_most` without one; whether there was one.

        Events whose action is in `besides` are ignored.
        """
        actions = self._actions[service]
        try:
            async with asyncio.timeout(at_most.total_seconds()):
                while await actions.get() in besides:
                    pass
        except TimeoutError:
            return False
        while not actions.empty():
            actions.get_nowait()
        return True

    async def wait_for_rename(self, service: str) -> str:
        """Return the id of the service's next container that gets another name: the last of what Compose replaces."""
        return await self._renamed[service].get()

    def know(self, services: Mapping[str, str]) -> None:
        """Begin to know the containers, and wake every waiting task, since events before were missed."""
        self._services = dict(services)
        for actions in self._actions.values():
            actions.put_nowait("")

    def see(self, event: ContainerEvent) -> None:
        """Take an event of a service's own container, and wake the task that waits for it."""
        if event.one_off:
            return
        if self._services is not None:
            if event.action == "create":
                self._services[event.container_id] = event.service
            elif event.action == "destroy":
                self._services.pop(event.container_id, None)
        if event.action == "die":
            self._died[event.service].add(event.container_id)
        elif event.action == "destroy":
            self._died[event.service].discard(event.container_id)
        if event.action == "rename":
            self._renamed[event.service].put_nowait(event.container_id)
        self._actions[event.service].put_nowait(event.action)

    def forget(self) -> None:
        """Know no containers any more."""
        self._services = None


class EventFeed(_Subscriber):
    """Every event of a project in order, for one reader, and whether some may be missing."""

    def __init__(self) -> None:
        self._events: deque[ContainerEvent] = deque()
        self._woken = asyncio.Event()
        # No event came yet, so all may be missing.
        self._missed = True

    async def wait(self, at_most: timedelta) -> None:
        """Return when there is an event to take, or after `at_most`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most.total_seconds()):
                await self._woken.wait()

    def take(self) -> tuple[list[ContainerEvent], bool]:
        """Return the events since the last call, and whether some were missed, so that a sweep is needed."""
        events, missed = list(self._events), self._missed
        self._events.clear()
        self._woken.clear()
        self._missed = False
        return events, missed

    def wake(self) -> None:
        """End a wait without an event."""
        self._woken.set()

    def know(self, services: Mapping[str, str]) -> None:
        """Note that events may have been missed."""
        self._missed = True
        self._woken.set()

    def see(self, event: ContainerEvent) -> None:
        """Take an event of a service's own container; drop the backlog where it is too long."""
        if event.one_off:
            return
        if len(self._events) >= _MOST_RECEIVED:
            self._events.clear()
            self._missed = True
        self._events.append(event)
        self._woken.set()


@asynccontextmanager
async def watch_project(project: Project) -> AsyncIterator[ContainerWatch]:
    """Read the engine's events about this project while the body runs; reconnect where they break off.

    Raises:
        EngineError: The engine did not answer.
    """
    watch = ContainerWatch()
    listener = EventListener(project, watch, asyncio.get_running_loop())
    watch.know(await asyncio.to_thread(listener.connect))
    listener.start()
    try:
        yield watch
    finally:
        await asyncio.to_thread(listener.close)


@asynccontextmanager
async def listen(project: Project, feed: EventFeed | None = None) -> AsyncIterator[EventFeed]:
    """Read the engine's events about this project while the body runs, whether the engine answers or not.

    They go to `feed`, or to a new one.
    """
    feed = feed or EventFeed()
    listener = EventListener(project, feed, asyncio.get_running_loop())
    listener.start()
    try:
        yield feed
    finally:
        await asyncio.to_thread(listener.close)


class EventListener(threading.Thread):
    """Thread that reads the engine's events and passes them to the event loop."""

    def __init__(self, project: Project, subscriber: _Subscriber, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="engine-events", daemon=True)
        self._project = project
        self._subscriber = subscriber
        self._loop = loop
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream | None = None

    def connect(self) -> dict[str, str]:
        """Connect to the events before listing the containers, so that none is missed; return their services.

        Raises:
            EngineError: The engine did not answer.
        """
        engine, project = self._project.engine, self._project.environment.project
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
        """Read events until closed."""
        if self._stream is None:
            self._reconnect()
        while not self._closing.is_set():
            try:
                for event in self._stream or ():
                    self._loop.call_soon_threadsafe(self._subscriber.see, event)
            except EngineError as error:
                # Waiting tasks inspect the engine every second, so a lost stream costs time only.
                log.warning("the engine's events stopped: %s", error)
                self._loop.call_soon_threadsafe(self._subscriber.forget)
                self._reconnect()

    def close(self) -> None:
        """Stop, and wait until no event is passed on any more."""
        with self._lock:
            self._closing.set()
            if self._stream is not None:
                self._stream.close()
        self.join()

    def _reconnect(self) -> None:
        seconds = _RECONNECT_SECONDS if self._stream is not None else 0.0
        again = self._stream is not None
        while not self._closing.wait(seconds):
            try:
                services = self.connect()
            except EngineError:
                seconds = min(2 * seconds or _RECONNECT_SECONDS, _RECONNECT_AT_MOST_SECONDS)
                continue
            if again:
                log.warning("the engine's events are back")
            self._loop.call_soon_threadsafe(self._subscriber.know, services)
            return


in_hand = retry_read(who_holds)
"""Returns which operation holds an environment, and why; None without one."""


@retry_read
async def inspect_environment(project: Project) -> tuple[list[ContainerState], str | None]:
    """Return every container of an environment, and the operation that holds it.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    inspection = asyncio.to_thread(lambda: project.inspect_containers())
    container_states, holder = await asyncio.gather(inspection, who_holds(project.environment.name))
    return container_states, holder


@retry_read
@make_async
def engine_started_at(project: Project) -> datetime | None:
    """Return when an environment's engine started last, by this machine's clock; None where it cannot be told.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    return project.engine.start_time()


@retry_read
@make_async
def is_watched(environment: str, now: datetime) -> bool:
    """Whether a watch of an environment left a heartbeat lately."""
    last = open_stores().heartbeats.last_beat(f"watch/{environment}")
    return last is not None and now - last < _SILENT_AFTER
