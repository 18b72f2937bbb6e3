"""Debian's Chromium, as tests of pages start it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_OPENED_WITHIN_SECONDS = 300
_LOOKED_EVERY_MILLISECONDS = 200
_OPENED_AGAIN_AFTER_SECONDS = 30
_LEFT = "net::ERR_ABORTED"
"""What still loads as its page is left for the next one."""


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """A browser with a profile of its own, until the end of the block."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None, "there is no chromium: make test-setup installs it"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=[*_OPTIONS, *options])
        try:
            yield running
        finally:
            running.close()


def open_until_shown(page: Page, url: str, shown: Locator) -> None:
    """Open a page, again and again, until it shows something.

    Chromium drops what it loads whenever the engine makes or removes a network, as other tests do all the time.
    """
    failed: list[str] = []
    page.on(
        "requestfailed", lambda request: request.failure == _LEFT or failed.append(f"{request.url}: {request.failure}")
    )
    deadline = time.monotonic() + _OPENED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        known, again = len(failed), time.monotonic() + _OPENED_AGAIN_AFTER_SECONDS
        try:
            page.goto(url)
            while len(failed) == known and time.monotonic() < again:
                if shown.is_visible():
                    return
                page.wait_for_timeout(_LOOKED_EVERY_MILLISECONDS)
        except PlaywrightError as error:
            failed.append(str(error))
    raise AssertionError(f"{url} did not show {shown}; what failed: {failed}; it shows: {page.inner_text('body')}")
