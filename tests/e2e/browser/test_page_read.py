"""The page in a real browser: everybody can read it, it follows what changes, and it works without script."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.page.rendering import BASE
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Metric
from models.operations import Operation, OperationStatus, OperationType
from tasks.runtime.stores import open_stores
from tests.golden.conftest import HERE, STORES
from tests.support.browser import chromium
from tests.support.page import page_app

pytestmark = pytest.mark.campaign(seconds=3)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_SCREENS = ((390, "dark"), (1280, "light"))
"""No rule of the style depends on the width and the scheme of colours at once, so each is looked at once."""

_TIMEOUT_MS = 60_000


class _WithPolicy:
    """The headers that the server adds to every answer of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self._app(scope, receive, sending)


@dataclass(frozen=True)
class Site:
    """Where the page is served, and the addresses of its parts."""

    url: str
    paths: tuple[str, ...]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page on the recorded stores of `shop`, with a status page, figures and a second release."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(HERE / "shop", folder, dirs_exist_ok=True)
    with (folder / "shop.yaml").open("a") as file:
        file.write("status_page: {title: Our shop, services: {web: Website, db: Data}}\n")
    data = folder / "data"
    data.mkdir(mode=0o700)
    for dump in STORES.glob("*.sql"):
        store = sqlite3.connect(data / f"{dump.stem}.db")
        store.executescript(dump.read_text())
        store.close()
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listening:
        patch.setenv("ROAS_DATA_DIR", str(data))
        patch.setenv("ROAS_ENVIRONMENTS_DIR", str(folder))
        _fill()
        server = uvicorn.Server(uvicorn.Config(_WithPolicy(page_app()), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Site(url=f"http://127.0.0.1:{listening.getsockname()[1]}{BASE}", paths=_paths())
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def _fill() -> None:
    stores, now = open_stores(), datetime.now(UTC)
    samples = [
        Metric(environment="shop", service=service, name=name, value=20 + place % 7, sampled_at=at)
        for place in range(120)
        for at in (now - timedelta(minutes=3 * place),)
        for service, name in (("web", "cpu_usage"), ("web", "response_time"), ("db", "memory_usage"), (HOST, "load_1m"))
    ]
    stores.metrics.add(samples)
    down = tuple(ServiceVerdict(service=name, health=ServiceHealth.STOPPED, reason="ended") for name in ("web", "db"))
    stores.health.record(HealthReport(environment="shop", overall=Health.UNHEALTHY, checked_at=now, services=down))


def _paths() -> tuple[str, ...]:
    stores = open_stores()
    shop = "/environments/shop"
    return (
        *("/", "/operations", "/tickets?all", "/fleet", "/status/shop", "/status/none", "/environments/none"),
        *(
            shop,
            *(
                f"{shop}/{part}"
                for part in ("operations", "releases", "snapshots", "logs", "logs?follow", "sizes", "report?days=365")
            ),
        ),
        *(f"/operations/{operation.deployment_id}" for operation in stores.operations.history(limit=3)),
        *(f"/failures/{error.error_id}" for error in stores.errors.latest(limit=2)),
        *(f"/tickets/{ticket.ticket_id}" for ticket in stores.tickets.find()[:2]),
        f"/postmortems/{stores.errors.latest(limit=1)[0].error_id}",
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.mark.campaign(seconds=15)
@pytest.mark.parametrize(("width", "scheme"), _SCREENS)
def test_every_page_can_be_read_by_everybody(browser: Browser, site: Site, width: int, scheme: str) -> None:
    # The checker is a script of its own.
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    problems = []
    for path in site.paths:
        page.goto(f"{site.url}{path}")
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            problems.append((path, "is wider than the screen"))
        for violation in Axe().run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [(node["html"][:150], node["failureSummary"]) for node in violation["nodes"][:3]]
                problems.append((path, f"{violation['id']}: {nodes}"))
    page.close()

    assert problems == []


@pytest.mark.parametrize("width", [390, 360])
def test_the_menu_is_seen_whole_on_a_narrow_phone(browser: Browser, site: Site, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{site.url}/")
    needed, there = page.locator(".top ul").evaluate("menu => [menu.scrollWidth, menu.clientWidth]")
    page.close()

    assert needed <= there


def test_no_page_asks_another_origin_or_breaks_the_policy(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    asked: set[str] = set()
    said: list[str] = []
    page.on("request", lambda request: asked.add(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    for path in site.paths:
        page.goto(f"{site.url}{path}")
        page.locator("main").wait_for()
    page.close()

    assert {url for url in asked if not url.startswith(site.url)} == set()
    assert [words for words in said if "404" not in words] == []


def test_an_open_page_follows_what_changes(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    with page.expect_request(lambda request: request.url.endswith("/live")):
        page.goto(f"{site.url}/")
    page.locator("#q").fill("half a word")

    now = datetime.now(UTC)
    operation = Operation(
        deployment_id="followed-1",
        operation_type=OperationType.START,
        environment="followed",
        status=OperationStatus.RUNNING,
        started_at=now,
    )
    # The first reading is what later ones are compared with.
    row = page.get_by_role("rowheader", name="followed")
    open_stores().operations.begin(operation)
    for place in range(1, 31):
        open_stores().heartbeats.beat(f"collection/shop-{place}", now)
        try:
            expect(row).to_be_visible(timeout=_TIMEOUT_MS / 30)
            break
        except AssertionError:
            health = HealthReport(
                environment="followed",
                overall=Health.HEALTHY,
                checked_at=now + timedelta(milliseconds=place),
                services=(),
            )
            open_stores().health.record(health)
    expect(row).to_be_visible()

    # What a person was typing stays.
    expect(page.locator("#q")).to_have_value("half a word")
    page.close()


def test_the_pages_work_without_script(browser: Browser, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/?q=sho")
    page.get_by_role("link", name="shop", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shop")
    page.get_by_role("link", name="Operations").last.click()
    page.get_by_role("link", name="start", exact=True).first.click()
    expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    context.close()


def test_from_the_overview_two_clicks_lead_to_the_cause(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(f"{site.url}/?q=shop")
    page.get_by_role("row", name="shop").get_by_role("link", name="start").click()

    expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
    page.close()


def test_the_keyboard_reaches_everything_and_reads_a_plot(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(f"{site.url}/environments/shop")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    plot = page.locator("[data-plot]").first
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(plot.locator(".tip")).to_contain_text("%")
    outlined = plot.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outlined == "solid"
    page.close()
