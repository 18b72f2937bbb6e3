"""The built site in a real browser: it loads nothing from elsewhere, is found by search, and everybody can read it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from deployments.docs.build import build
from tests.support.browser import chromium, open_until_shown

pytestmark = pytest.mark.campaign(seconds=6)

_PAGES = ("index.html", "tutorial.html", "reference/commands.html", "reference/environment.html")
_SCREENS = ((400, "dark"), (1300, "light"))
"""No rule of the style depends on the width and the scheme of colours at once, so each is looked at once."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print no line for each request."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    assert build(folder) == 0
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize(("width", "scheme"), _SCREENS)
@pytest.mark.parametrize("name", _PAGES)
def test_a_page_can_be_read_by_everybody(browser: Browser, address: str, name: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    try:
        _open(page, f"{address}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        serious = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        shown = [
            (one["id"], [(node["html"][:150], node["failureSummary"]) for node in one["nodes"][:4]]) for one in serious
        ]
        assert shown == []
    finally:
        page.close()


def test_nothing_is_loaded_from_elsewhere_and_search_finds_a_heading(browser: Browser, address: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        _open(page, f"{address}/index.html")
        page.keyboard.press("/")
        page.keyboard.type("rollback failed")
        found = page.locator(".md-search-result__link", has_text="A rollback failed").first
        found.wait_for()
        assert "runbook.html" in (found.get_attribute("href") or "")
        for name in _PAGES[1:]:
            _open(page, f"{address}/{name}")
    finally:
        page.close()
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))] == []
    assert len(asked) > len(_PAGES)


def _open(page: Page, url: str) -> None:
    open_until_shown(page, url, page.locator("h1").first)
