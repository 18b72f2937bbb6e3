"""One stream of an engine's events for all environments of it, handed on by project."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from adapters.docker.events import EventStream
from models.containers import ContainerEvent
from models.failures import EngineError, EnginePermissionError
from tasks.monitoring.events import EventFeed, listen
from tasks.runtime.project import Project

log = logging.getLogger("roas")

_AGAIN_SECONDS = 0.25
_AGAIN_AT_MOST_SECONDS = 2.0


class EventHub:
    """The streams of this process, one an engine, begun with the first environment of it and ended with the last."""

    def __init__(self) -> None:
        self._streams: dict[str, _SharedStream] = {}

    @asynccontextmanager
    async def listen(self, project: Project) -> AsyncIterator[EventFeed]:
        """Give the feed of an environment's project while the body runs, whether the engine answers or not.

        An engine that shows only the events of a named project gets a stream for this environment alone.
        """
        environment = project.environment
        shared = self._streams.get(environment.engine)
        if shared is None:
            shared = self._streams[environment.engine] = _SharedStream(project, asyncio.get_running_loop())
            shared.start()
        feed = EventFeed()
        shared.add(environment.project, feed)
        fallback = asyncio.create_task(_listen_alone_where_refused(project, shared, feed))
        try:
            yield feed
        finally:
            fallback.cancel()
            await asyncio.gather(fallback, return_exceptions=True)
            shared.remove(environment.project, feed)
            if not shared.feeds:
                self._streams.pop(environment.engine, None)
                # Its thread may be in a call of an engine that hangs.
                await asyncio.to_thread(shared.close)

    def streams(self) -> int:
        """How many engines are listened to."""
        return len(self._streams)


async def _listen_alone_where_refused(project: Project, shared: _SharedStream, feed: EventFeed) -> None:
    await shared.refused.wait()
    async with listen(project, feed):
        await asyncio.Event().wait()


class _SharedStream(threading.Thread):
    """Thread that reads all events of an engine's Compose projects, and passes each to the feeds of its project."""

    def __init__(self, project: Project, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="engine-events", daemon=True)
        self.feeds: defaultdict[str, list[EventFeed]] = defaultdict(list)
        """By project; touched on the event loop only."""
        self.refused = asyncio.Event()
        """Set where the engine does not show the events of all projects."""
        self._project = project
        self._loop = loop
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream | None = None

    def add(self, project: str, feed: EventFeed) -> None:
        """Pass events of a project to a feed."""
        self.feeds[project].append(feed)

    def remove(self, project: str, feed: EventFeed) -> None:
        """Pass no more events to a feed."""
        self.feeds[project].remove(feed)
        if not self.feeds[project]:
            del self.feeds[project]

    def run(self) -> None:
        """Read events until closed, and connect again where they break off."""
        seconds, was_lost = _AGAIN_SECONDS, False
        while not self._closing.is_set():
            try:
                stream = self._connect()
                self._broadcast(self._note_missed)
                if was_lost:
                    log.warning("the engine's events are back")
                seconds, was_lost = _AGAIN_SECONDS, False
                for event in stream:
                    self._broadcast(self._pass_on, event)
            except EnginePermissionError as error:
                log.info("each environment listens to the engine by itself: %s", error)
                self._broadcast(self.refused.set)
                return
            except EngineError as error:
                if not was_lost and not self._closing.is_set():
                    log.warning("the engine's events stopped: %s", error)
                was_lost = True
            except Exception:
                # All environments of the engine depend on this thread.
                log.exception("reading the engine's events broke off, and is begun again")
                was_lost = True
            self._closing.wait(seconds)
            seconds = min(2 * seconds, _AGAIN_AT_MOST_SECONDS)

    def close(self) -> None:
        """Stop; the thread ends by itself."""
        with self._lock:
            self._closing.set()
            if self._stream is not None:
                self._stream.close()

    def _connect(self) -> EventStream:
        stream = self._project.engine.events.stream(None, datetime.now(UTC))
        with self._lock:
            self._stream = stream
            if self._closing.is_set():
                stream.close()
        return stream

    def _broadcast(self, what: object, *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)  # type: ignore[arg-type]
        except RuntimeError:
            # The event loop has ended, and this process with it.
            self._closing.set()

    def _note_missed(self) -> None:
        for feeds in self.feeds.values():
            for feed in feeds:
                feed.know({})

    def _pass_on(self, event: ContainerEvent) -> None:
        for feed in self.feeds.get(event.project, ()):
            feed.see(event)
