"""Reports and post-mortems in a real browser: everybody can read them, on a narrow screen, a wide one and on paper."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from adapters.stores import Stores
from models.settings import Settings
from tests.golden.conftest import HERE, STORES
from tests.integration.stores.year import Year, fill
from tests.support.agents import ROOT
from tests.support.browser import chromium

pytestmark = pytest.mark.campaign(seconds=2)

_LONG = "x" * 300
_PAGES = {
    "report": ("report", "prod", "--days", "120"),
    "empty report": ("report", "shop", "--days", "1"),
    "post-mortem": ("postmortem", "shop-20261126-093728-394c"),
    "post-mortem of a ticket": ("postmortem", "T-261126-5de9"),
}
_SCREENS = ((400, "light"), (1300, "dark"))
"""No rule of the style depends on the width and the scheme of colours at once, so each is looked at once."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages that the commands write, by name: of four months made up, and of a recorded failure."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(HERE / "shop", folder, dirs_exist_ok=True)
    made, recorded = folder / "made", folder / "recorded"
    with Stores.open(Settings(data_dir=made)) as stores:
        fill(stores, Year(now=datetime.now(UTC), days=120, services=3, minutes=360))
    recorded.mkdir(mode=0o700)
    for dump in STORES.glob("*.sql"):
        with sqlite3.connect(recorded / f"{dump.stem}.db") as store:
            store.executescript(dump.read_text())
        store.close()
    with sqlite3.connect(recorded / "errors.db") as store:
        # One word of a log that no line breaks.
        store.execute("UPDATE deployment_errors SET text = text || ' ' || ?", (_LONG,))
    written = {}
    for name, words in _PAGES.items():
        written[name] = folder / f"{name.replace(' ', '-')}.html"
        folders = {
            "ROAS_DATA_DIR": str(made if "prod" in words else recorded),
            "ROAS_ENVIRONMENTS_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
        }
        start = [sys.executable, "-P", "-c", "from cli.main import main; main()"]
        subprocess.run([*start, *words, "--html", str(written[name])], check=True, env=os.environ | folders, cwd=folder)
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest, pages: dict[str, Path]) -> Iterator[Page]:
    """One of the pages, in a window of some width and scheme of colours."""
    name, width, scheme = request.param
    # The page allows itself no script; the checker is one.
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page.goto(pages[name].as_uri())
    yield page
    page.close()


_EACH = [
    pytest.param((name, width, scheme), id=f"{name}, {width}, {scheme}")
    for name in _PAGES
    for width, scheme in _SCREENS
]


@pytest.mark.parametrize("opened", _EACH, indirect=True)
def test_a_page_can_be_read_by_everybody(opened: Page) -> None:
    opened.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")

    width = opened.viewport_size["width"] if opened.viewport_size else 0
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    serious = [one for one in Axe().run(opened).response["violations"] if one["impact"] in ("serious", "critical")]
    shown = [
        (one["id"], [(node["html"][:150], node["failureSummary"]) for node in one["nodes"][:4]]) for one in serious
    ]
    assert shown == []


@pytest.mark.parametrize("opened", [param for param in _EACH if "400, light" in str(param.id)], indirect=True)
def test_a_page_names_itself_and_its_parts(opened: Page) -> None:
    assert opened.title() == opened.locator("h1").inner_text()
    links = opened.locator("nav a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    headings = opened.locator("h2").evaluate_all("all => all.map(one => '#' + one.id)")
    assert links == headings
    for plot in opened.locator("svg").all():
        named = (plot.get_attribute("aria-labelledby") or "").split()
        assert named
        assert all(opened.locator(f"#{one}").text_content() for one in named)


@pytest.mark.parametrize("opened", [param for param in _EACH if "1300, dark" in str(param.id)], indirect=True)
def test_a_page_prints_within_its_paper_in_dark_letters(opened: Page, tmp_path: Path) -> None:
    printed = opened.pdf(path=tmp_path / "page.pdf", format="A4", margin={"left": "15mm", "right": "15mm"})
    assert printed.startswith(b"%PDF")

    opened.emulate_media(media="print")
    # The width of the paper between its margins, in CSS pixels.
    opened.set_viewport_size({"width": 680, "height": 960})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 680
    cut = opened.locator(".scroll").evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth).length")
    assert cut == 0
    assert not opened.locator("nav").is_visible()
    colours = opened.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
