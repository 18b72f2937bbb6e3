"""Send what services write to an open page, by server-sent events: redacted, bounded, and no longer than it is open."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from adapters.host.own_call import call_iterator
from core.common.safe_text import printable
from flows.page.logs import as_text, chosen_lines, has_words
from flows.page.releases import operated
from models.failures import RoasError
from models.logs import LogLine, LogQuery

_MOST_FOLLOWERS = 10
"""At one time: each has a thread for each container."""

_ENDS_AFTER_SECONDS = 600.0
"""A browser connects again by itself; then its sign-in is checked again."""

_WAITING_BATCHES = 8
"""So many wait for a page that reads slowly; then the engine waits, too."""

_MOST_LINES = 500
"""Of one event; of more, the newest."""

_SLOT_SECONDS = 0.5

_FOLLOW = "tasks.reporting.follow_logs:follow_logs_of"
Batch = list[LogLine] | str


class LogFollower:
    """Follows the logs of an environment in a thread, for one page. `batches` ends it."""

    def __init__(self, environment: str, query: LogQuery) -> None:
        self._environment, self._query = environment, query
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._slots, self._is_over = threading.BoundedSemaphore(_WAITING_BATCHES), threading.Event()
        self.thread = threading.Thread(target=self._follow, name="page-logs", daemon=True)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What is written, as it is; an empty batch is a sign of life, and a sentence is a remark."""
        self.thread.start()
        end = self._loop.time() + _ENDS_AFTER_SECONDS
        try:
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        batch = await self._batches.get()
                except TimeoutError:
                    return
                if batch is None:
                    return
                self._slots.release()
                yield batch
        finally:
            self._is_over.set()

    def _follow(self) -> None:
        try:
            # It imports the clients of the engine and Compose, which other pages do not need.
            with closing(call_iterator(_FOLLOW, self._environment, self._query)) as batches:
                for batch in batches:
                    if not self._put(batch):
                        return
        except RoasError as error:
            self._put(str(error))
        finally:
            self._hand_over(None)

    def _put(self, batch: Batch) -> bool:
        """Hand a batch over once there is room for it; whether somebody still reads."""
        while not self._slots.acquire(timeout=_SLOT_SECONDS):
            if self._is_over.is_set():
                return False
        self._hand_over(batch)
        return not self._is_over.is_set()

    def _hand_over(self, batch: Batch | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._batches.put_nowait, batch)


_followers: set[LogFollower] = set()


async def follow(request: Request) -> Response:
    """A stream of events: `begin`, then `lines` as JSON lists, and `remark` as a JSON text."""
    try:
        name = await run_in_threadpool(operated, request.path_params["environment"])
    except RoasError as error:
        return PlainTextResponse(f"{error}\n", status_code=404)
    if len(_followers) >= _MOST_FOLLOWERS:
        return PlainTextResponse(f"{_MOST_FOLLOWERS} pages follow logs already; reload to see more.\n", status_code=503)
    service, words, lines = chosen_lines(request)
    follower = LogFollower(name, LogQuery(services=(service,) if service else (), lines=lines))
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(follower, words), media_type="text/event-stream", headers=headers)


async def _events(follower: LogFollower, words: str) -> AsyncIterator[str]:
    _followers.add(follower)
    batches = follower.batches()
    try:
        yield "event: begin\ndata: {}\n\n"
        async for batch in batches:
            if isinstance(batch, str):
                yield f"event: remark\ndata: {json.dumps(printable(batch))}\n\n"
                continue
            chosen = [line for line in batch if has_words(line.line, words)]
            if len(chosen) > _MOST_LINES:
                remark = f"{len(chosen) - _MOST_LINES:,} lines that came at once are not shown."
                yield f"event: remark\ndata: {json.dumps(remark)}\n\n"
            shown = [as_text(line) for line in chosen[-_MOST_LINES:]]
            yield f"event: lines\ndata: {json.dumps(shown)}\n\n" if shown else ": nothing new\n\n"
    finally:
        _followers.discard(follower)
        await batches.aclose()
