"""However many ask at one time, few pages are made at one time: each thread has connections of its own."""

from __future__ import annotations

import asyncio
import threading

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from flows.page import pages


async def test_few_pages_are_made_at_one_time() -> None:
    together, lock = threading.Barrier(pages._AT_ONCE, timeout=60), threading.Lock()
    running = peak = 0

    def view(_: Request) -> Response:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        together.wait()
        with lock:
            running -= 1
        return PlainTextResponse("made")

    answer = pages._answer(view)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""})
    answers = await asyncio.gather(*(answer(request) for _ in range(10 * pages._AT_ONCE)))

    assert [made.status_code for made in answers] == [200] * (10 * pages._AT_ONCE)
    assert peak == pages._AT_ONCE
