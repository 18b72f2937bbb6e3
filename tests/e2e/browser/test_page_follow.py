"""Logs on the page in a real browser: lines appear as they are written, as text, until the page is left."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from flows.page.rendering import BASE
from models.operations import Operation, OperationStatus, OperationType
from tasks.runtime.stores import open_stores
from tests.e2e.browser.serving import eventually
from tests.integration.page.conftest import own_stores  # noqa: F401 - fixture
from tests.integration.page.test_follow import writing  # noqa: F401 - fixture
from tests.support.browser import chromium
from tests.support.page import page_app

pytestmark = [pytest.mark.engine, pytest.mark.campaign(seconds=30)]

_TIMEOUT_MS = 120_000
_MANY = 20


@pytest.fixture
def address(own_stores: Path) -> Iterator[str]:  # noqa: F811
    """Where the page is served."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(page_app(), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}{BASE}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in ("page-logs", "logs")]


def test_lines_appear_as_they_are_written_until_the_page_is_left(address: str, writing: str) -> None:  # noqa: F811
    now = datetime.now(UTC)
    operation = Operation(
        deployment_id="writing-1",
        operation_type=OperationType.START,
        environment=writing,
        status=OperationStatus.SUCCESS,
        started_at=now,
        ended_at=now,
    )
    open_stores().operations.begin(operation)
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(_TIMEOUT_MS)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{address}/environments/{writing}/logs?follow")
        shown = page.locator("[data-follow] span")
        first = shown.count()
        expect(shown.nth(first + _MANY)).to_be_attached(timeout=_TIMEOUT_MS)
        texts = shown.all_inner_texts()
        results = Axe().run(page).response["violations"]
        scripts = page.locator("script").count()
        is_followed = bool(followers())
        page.close()
        eventually(lambda: not followers(), "the end of the follower's threads")

    numbers = [int(match[1]) for text in texts if (match := re.search(r"\| line (\d+) </pre><script>$", text.strip()))]
    assert len(numbers) == len(texts)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert is_followed
    assert scripts == 1
    assert errors == []
    assert not [found for found in results if found["impact"] in ("serious", "critical")]
