"""Tell open pages of changes by server-sent events: one reader a process, and a bounded queue a page."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from flows.page.changes import ChangeReader
from models.failures import StoreError

log = logging.getLogger("roas")

_READ_EVERY_SECONDS = 2.0
_SHARED_STORES_EVERY_SECONDS = 5.0
_SIGN_OF_LIFE_SECONDS = 15.0
_ENDS_AFTER_SECONDS = 600.0
"""A browser connects again by itself; then its sign-in is checked again."""

_MOST_PAGES = 200
"""Open at one time; further ones are as good as without script."""

_KEPT_NAMES = 1000
"""So many changed environments wait for a page that reads slowly; with more, all count as changed."""

EVERYTHING = "*"
"""Stands for all environments."""


class Subscriber:
    """An open page. What changes while it reads slowly is put together, so that nothing grows."""

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._news = asyncio.Event()

    def put(self, names: frozenset[str]) -> None:
        """Add changed environments to those that wait."""
        self._changed |= names
        if len(self._changed) > _KEPT_NAMES:
            self._changed = {EVERYTHING}
        self._news.set()

    async def take(self, within: float) -> list[str]:
        """What changed since the last call, as soon as anything did; empty after so many seconds without."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), within)
        names, self._changed = sorted(self._changed), set()
        self._news.clear()
        return names


class ChangeHub:
    """Reads the stores while a page is open, and tells every open page what changed."""

    def __init__(self, read: Callable[[], frozenset[str]], every: float) -> None:
        self._read = read
        self._every = every
        self._subscribers: set[Subscriber] = set()
        self._reading: asyncio.Task[None] | None = None

    @property
    def open_pages(self) -> int:
        """How many pages are open."""
        return len(self._subscribers)

    @property
    def is_reading(self) -> bool:
        """Whether the stores are read now and then, which is so while a page is open."""
        return self._reading is not None and not self._reading.done()

    async def follow(self, most_seconds: float = _ENDS_AFTER_SECONDS) -> AsyncGenerator[list[str], None]:
        """The environments that changed, again and again; an empty list is a sign of life."""
        subscriber, loop = Subscriber(), asyncio.get_running_loop()
        self._subscribers.add(subscriber)
        try:
            if not self.is_reading:
                self._reading = asyncio.create_task(self._read_on())
            end = loop.time() + most_seconds
            while (remaining := end - loop.time()) > 0:
                yield await subscriber.take(min(_SIGN_OF_LIFE_SECONDS, remaining))
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers and self._reading is not None:
                self._reading.cancel()

    async def _read_on(self) -> None:
        is_away = False
        while True:
            try:
                changed = await asyncio.to_thread(self._read)
            except StoreError as error:
                # Every page says so once it is read again.
                changed = frozenset() if is_away else frozenset({EVERYTHING})
                if not is_away:
                    log.warning("the stores are away, so that open pages do not follow changes: %s", error)
                is_away = True
            else:
                changed = changed | {EVERYTHING} if is_away else changed
                is_away = False
            if changed:
                for subscriber in self._subscribers:
                    subscriber.put(changed)
            await asyncio.sleep(self._every)


_hubs: dict[int, ChangeHub] = {}


def hub() -> ChangeHub:
    """The hub of the running event loop, made at the first use; a process has one."""
    loop = asyncio.get_running_loop()
    if id(loop) not in _hubs:
        from tasks.runtime.hosts import has_other_hosts

        _hubs.clear()
        every = _SHARED_STORES_EVERY_SECONDS if has_other_hosts() else _READ_EVERY_SECONDS
        _hubs[id(loop)] = ChangeHub(ChangeReader().read, every)
    return _hubs[id(loop)]


async def live(request: Request) -> Response:
    """A stream of events `change`, each with the names of environments as JSON."""
    if hub().open_pages >= _MOST_PAGES:
        return PlainTextResponse(f"{_MOST_PAGES} pages are open already; reload to see changes.\n", status_code=503)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(hub()), media_type="text/event-stream", headers=headers)


async def _events(of: ChangeHub) -> AsyncIterator[str]:
    # Without a first word a proxy may hold the answer back, and a browser does not know that it is connected.
    yield ": connected\n\n"
    follow = of.follow()
    try:
        async for names in follow:
            yield f"event: change\ndata: {json.dumps(names)}\n\n" if names else ": nothing changed\n\n"
    finally:
        await follow.aclose()
