"""Pings of this process to an outside service while stores and server answer, and one that says that they do not."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx

from adapters.http_client import ask
from adapters.notifications.ping import read_ping_address, send_ping
from core.runtime.pings import PingState, next_ping
from models.failures import RoasError
from models.settings import current_settings
from tasks.runtime.hosts import this_host
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

_ASK_WITHIN_SECONDS = 10.0
EVERY = timedelta(minutes=1)


async def keep_pinging(every: timedelta = EVERY, ask: Callable[[], Awaitable[list[str]]] | None = None) -> None:
    """Ping until this is cancelled; nothing where no address is set. What cannot be sent is logged once."""
    file, state, last_trouble = current_settings().ping_url_file, PingState(), ""
    if file is None:
        return
    after = timedelta(minutes=current_settings().away_minutes)
    while True:
        try:
            address = await asyncio.to_thread(read_ping_address, file)
            pings, state = next_ping(state, await (ask or troubles)(), time.monotonic(), after=after)
            failures = [failure.text for ping in pings if (failure := await send_ping(address, ping)) is not None]
            trouble = f"the ping address was not reached: {failures[0]}" if failures else ""
        except RoasError as error:
            trouble = str(error)
        if trouble and trouble != last_trouble:
            log.warning("%s", trouble)
        last_trouble = trouble
        await asyncio.sleep(every.total_seconds())


async def troubles() -> list[str]:
    """What does not answer, in words that name no address: stores, or the Prefect server where one is set."""
    host = this_host().name
    stores, server = await asyncio.gather(_stores_answer(), _server_answers())
    problems = [] if stores else [f"host {host} does not reach the stores"]
    return problems if server else [*problems, f"host {host} does not reach the Prefect server"]


async def _stores_answer() -> bool:
    try:
        async with asyncio.timeout(_ASK_WITHIN_SECONDS):
            await asyncio.to_thread(lambda: open_stores().hosts.now())
    except (RoasError, TimeoutError):
        return False
    return True


async def _server_answers() -> bool:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return True
    try:
        async with httpx.AsyncClient(timeout=_ASK_WITHIN_SECONDS) as client:
            # Whether it lets this process in is another question.
            return not (await ask(client, "GET", f"{url.rstrip('/')}/health")).is_server_error
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
        return False
