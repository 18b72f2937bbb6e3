"""What is done once Prefect's server has started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.testclient import TestClient

from flows.server.server_process import call_once_started


def test_is_done_after_the_start_and_once() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def living(_app: Starlette) -> AsyncIterator[None]:
        seen.append("its database is upgraded")
        yield

    with TestClient(call_once_started(Starlette(lifespan=living), lambda: seen.append("then"))) as client:
        assert client.get("/").status_code == 404

    assert seen == ["its database is upgraded", "then"]
