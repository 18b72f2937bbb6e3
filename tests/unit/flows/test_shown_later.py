"""What is shown while an operation goes on: it is waited for at the end, and lets nothing fail."""

from __future__ import annotations

import asyncio

import pytest

from tasks.runtime.shown_later import all_shown, show_later


async def test_all_is_shown_at_the_end() -> None:
    shown, go = [], asyncio.Event()

    async def show() -> None:
        await go.wait()
        shown.append("page")

    show_later("the page", show())
    await asyncio.sleep(0)
    assert not shown
    go.set()
    await all_shown()

    assert shown == ["page"]


async def test_what_cannot_be_shown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise OSError("the server is gone")

    show_later("the page", fail())
    await all_shown()

    assert "the UI does not show the page: the server is gone" in caplog.text


async def test_with_nothing_to_show_there_is_no_wait() -> None:
    await all_shown()
