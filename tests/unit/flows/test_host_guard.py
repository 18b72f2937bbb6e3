"""What a client sends reaches the control plane's log on one line, and may neither be endless nor take for ever."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from adapters.server.host_keys import HostKeys
from flows.fleet.host_guard import HostGuard
from flows.fleet.stores_of_hosts import StoresOfHosts

_BODY_SECONDS = 0.1


async def _app(*_: Any) -> None:
    raise AssertionError("the request was passed on")


def _guard(home: Path) -> HostGuard:
    return HostGuard(_app, HostKeys(home), "admin:password", StoresOfHosts(), _BODY_SECONDS)


async def _asked(
    guard: HostGuard, path: str, headers: dict[str, str], body: AsyncIterator[bytes] | None = None
) -> tuple[int, str]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"" if body is None else await anext(body), "more_body": bool(body)}

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with asyncio.timeout(20):
        await guard({"type": "http", "method": "POST", "path": path, "headers": given}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"]


async def _dripping() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0)
        yield b" "


def _enrolled(home: Path) -> dict[str, str]:
    keys = HostKeys(home)
    now = datetime.now(UTC)
    made = keys.enrol(keys.invite("alpha", now, timedelta(days=1)).token, "identity", now)
    assert made is not None
    host, key = made
    return {"authorization": "Basic " + base64.b64encode(f"{host.pool}:{key}".encode()).decode()}


async def test_a_path_writes_one_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "roas"):
        path = "/api/x\nWARNING | host beta left\x1b[2J\r"
        status, _ = await _asked(_guard(tmp_path), path, _enrolled(tmp_path))
    assert status == 403
    (record,) = caplog.records
    assert record.getMessage().isprintable()


async def test_a_body_that_drips_is_ended(tmp_path: Path) -> None:
    guard = _guard(tmp_path)
    status, said = await _asked(guard, "/api/logs/", _enrolled(tmp_path), _dripping())
    assert (status, said) == (408, "The body of the request did not arrive in time.")


async def test_without_a_credential_a_body_is_small(tmp_path: Path) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1024
            yield b"x" * 1024

    status, _ = await _asked(_guard(tmp_path), "/roas/enrol", {}, endless())
    assert status == 400
    assert read < 10_000
