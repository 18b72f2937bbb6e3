"""Pages that are opened, left open and closed all day leave nothing behind in the process of the server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import uvicorn

from flows.common.memory import give_back, spare_memory
from flows.page.live import hub
from models.operations import Operation, OperationStatus, OperationType
from tasks.runtime.stores import open_stores
from tests.integration.page.page_clients import ORIGIN, server, signed_in
from tests.integration.page.prefect_server import PrefectServer

ROUNDS, PAGES = 12, 20
MOST_GROWTH_BYTES = 8 * 2**20
"""Of 260 streams and 36 pages: each stream that stayed would hold some 50 KiB."""

SHOWN = ("/roas/", "/roas/environments/shop", "/roas/operations")


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[int]:
    """The page on a port of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(server(home), log_level="error", lifespan="off"))
        task = asyncio.create_task(running.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        running.should_exit = True
        await task


@dataclass(frozen=True)
class Visitor:
    """A browser that is signed in, by its own connections."""

    port: int
    cookie: str

    async def open(self, path: str, awaited: bytes) -> asyncio.StreamWriter:
        """Ask for a path, and wait for these words; the connection stays open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = (f"GET {path} HTTP/1.1", f"Host: {ORIGIN.removeprefix('http://')}", f"Cookie: {self.cookie}", "", "")
        writer.write("\r\n".join(lines).encode())
        await reader.readuntil(awaited)
        return writer

    async def visit(self, path: str, awaited: bytes) -> None:
        """As `open`, and go away."""
        (await self.open(path, awaited)).close()


@dataclass(frozen=True)
class Usage:
    """What this process holds."""

    tasks: int
    threads: int
    descriptors: int
    memory: int


def usage() -> Usage:
    give_back()
    process = psutil.Process()
    return Usage(
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        descriptors=process.num_fds(),
        memory=process.memory_info().rss,
    )


async def settled(tasks: int) -> None:
    """Wait until the server has noticed that its visitors are gone."""
    async with asyncio.timeout(60):
        while hub().open_pages or hub().is_reading or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def change(number: int) -> None:
    """Let an environment differ from before, so that open pages show it."""
    at = datetime.now(UTC)
    operation = Operation(
        deployment_id=f"shop-{number}",
        operation_type=OperationType.STOP,
        environment="shop",
        status=OperationStatus.SUCCESS,
        started_at=at,
        ended_at=at,
    )
    open_stores().operations.begin(operation)


async def a_day(visitor: Visitor, rounds: int) -> None:
    """Pages get a change; then they are opened, left, and asked for their regions, round after round."""
    notified = [asyncio.create_task(visitor.visit("/roas/live", b"event: change\n")) for _ in range(PAGES)]
    number = len(open_stores().operations.history("shop", limit=1000))
    while not all(task.done() for task in notified):
        # What the first reading finds is what later ones are compared with.
        await asyncio.to_thread(change, number := number + 1)
        await asyncio.wait(notified, timeout=0.5)
    for _ in range(rounds):
        streams = await asyncio.gather(*(visitor.open("/roas/live", b": connected\n\n") for _ in range(PAGES)))
        for path in SHOWN:
            await visitor.visit(path, b"</html>")
        await visitor.visit("/roas/environments/shop/logs/stream", b"event: remark\n")
        for stream in streams:
            stream.close()


@pytest.mark.campaign(seconds=30)
async def test_pages_that_come_and_go_leave_no_task_thread_descriptor_or_memory(
    home: Path, prefect: PrefectServer
) -> None:
    (home.parents[1] / "shop.yaml").unlink()
    async with signed_in(home, prefect) as ann:
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in ann.cookies.jar)
    async with serving(home) as port:
        spare_memory()
        visitor = Visitor(port, cookie)
        await visitor.visit("/roas/", b"</html>")
        idle_tasks = len(asyncio.all_tasks())
        await a_day(visitor, 3)
        await settled(idle_tasks)
        before = usage()

        await a_day(visitor, ROUNDS)
        await settled(idle_tasks)
        after = usage()

    assert after.tasks <= before.tasks
    # Pools make their few threads as they need them; a thread of each stream would be 260 more.
    assert after.threads - before.threads < PAGES
    assert after.descriptors <= before.descriptors
    assert after.memory - before.memory < MOST_GROWTH_BYTES
