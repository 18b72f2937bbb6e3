"""What a person does on the page alone, by keyboard and where a mouse would do, in a browser with an application."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from adapters.stores import Stores
from models.operations import Operation, OperationStatus
from models.recovery import Ticket, TicketState
from models.settings import Settings
from tests.e2e.browser.serving import Served, browser, eventually, served
from tests.e2e.faults.scenes import HEALTH, IMAGE, Scene, says

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WELL = says("touch /tmp/well; while sleep 0.1; do :; done")
ILL = says('echo "FATAL: no licence"; exit 3')
_MOST_TABS = 80


@dataclass(frozen=True, kw_only=True)
class PageShop(Scene):
    """An application of one service, whose next version a test writes."""

    def write(self, version: str, command: list[str] = WELL, *, volume: str | None = None) -> None:
        """Declare a version of the service, and save the files of a volume at /things where one is named."""
        web = {
            "image": IMAGE,
            "pull_policy": "never",
            "init": True,
            "command": command,
            "healthcheck": HEALTH,
            "environment": {"VERSION": version},
            "volumes": [f"{volume}:/things"] if volume else [],
        }
        data = {"data": {"save": [{"kind": "files", "volume": volume}]}} if volume else {}
        compose = yaml.safe_dump({"services": {"web": web}, "volumes": {volume: {}} if volume else {}})
        rarely = {"stabilisation_seconds": 0.5, "collect_every_seconds": 3600}
        self.declare(compose, services={}, recovery={"automatic": False}, **rarely, **data)

    def version(self) -> str:
        """The version that runs."""
        names = "{{range .Config.Env}}{{println .}}{{end}}"
        lines = self.docker("inspect", "--format", names, self.container("web")).splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("VERSION="))


@dataclass(frozen=True)
class Person:
    """Somebody at a browser, who has a keyboard alone; each target also has to be where a mouse would hit it."""

    page: Page

    def press(self, target: Locator) -> None:
        """Follow a link or press a button."""
        self._reach(target)
        self.page.keyboard.press("Enter")

    def write(self, target: Locator, words: str) -> None:
        """Fill a field."""
        self._reach(target)
        self.page.keyboard.type(words)

    def _reach(self, target: Locator) -> None:
        # On trial, a click waits until it would reach the target, and moves no focus.
        target.click(trial=True)
        for _ in range(_MOST_TABS):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{_MOST_TABS} presses of Tab do not reach {target}")

    def button(self, name: str) -> Locator:
        """A button of the form."""
        return self.page.get_by_role("main").get_by_role("button", name=name, exact=True)

    def link(self, name: str) -> Locator:
        """A link, by its words."""
        return self.page.get_by_role("main").get_by_role("link", name=name, exact=True).first

    def act(self, environment: str, action: str, heading: str) -> None:
        """Go to an environment's page, and ask for an action."""
        self.page.goto(f"{_origin(self.page.url)}/roas/environments/{environment}")
        self.press(self.page.get_by_role("group", name="Actions").get_by_role("link", name=action, exact=True))
        expect(self.page.get_by_role("heading", name=heading)).to_be_visible()

    def see_end(self, words: str) -> None:
        """Wait until the operation that was begun has ended so; its page follows the form by itself."""
        self.page.wait_for_url("**/roas/operations/*")
        expect(self.page.get_by_role("main").get_by_text(words).first).to_be_visible()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageShop]:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    made = PageShop(environments=tmp_path, name="shop")
    made.set_up()
    try:
        made.write("1")
        yield made
    finally:
        made.clean()


def operations() -> list[Operation]:
    with Stores.open(Settings()) as stores:
        return stores.operations.history(environment="shop")


def answered_tickets() -> list[Ticket]:
    with Stores.open(Settings()) as stores:
        return [ticket for ticket in stores.tickets.find() if ticket.state is not TicketState.OPEN]


def address(server: Served, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What `roas open` prints."""
    monkeypatch.setenv("ROAS_SERVER_PORT", str(urlsplit(server.url).port))
    done = subprocess.run(
        [Path(sys.executable).with_name("roas"), "open", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.campaign(seconds=150)
def test_an_application_is_started_updated_undone_and_its_ticket_answered(
    shop: PageShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(shop.environments) as server, browser() as page:
        origins, errors = set[str](), list[str]()
        page.on("request", lambda request: origins.add(_origin(request.url)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        person = Person(page)
        one_time = address(server, monkeypatch, "shop")
        page.goto(one_time)
        expect(page.get_by_role("heading", name="shop")).to_be_visible()

        person.act("shop", "Start", "Start shop")
        expect(page.get_by_role("heading", name="Plan")).to_be_visible()
        person.press(person.button("Start"))
        person.see_end("succeeded")
        assert shop.version() == "1"

        shop.write("2")
        person.act("shop", "Update", "Update shop")
        expect(page.get_by_role("row", name="web recreate")).to_be_visible()
        person.press(person.button("Update"))
        person.see_end("succeeded")
        assert shop.version() == "2"

        shop.write("3", ILL)
        person.act("shop", "Update", "Update shop")
        person.press(person.button("Update"))
        person.see_end("failed")
        expect(page.get_by_role("main").get_by_text("no licence").first).to_be_visible()
        assert shop.version() == "2"

        person.act("shop", "Roll back", "Roll shop back")
        person.press(person.button("Roll back"))
        assert page.locator("#typed:invalid").count() == 1
        person.write(page.get_by_label("Type shop to confirm it"), "shop")
        person.press(person.button("Roll back"))
        person.see_end("succeeded")
        assert shop.version() == "1"

        page.goto(f"{server.url}/roas/tickets")
        person.press(page.get_by_role("main").get_by_role("article").get_by_role("link").first)
        person.press(page.get_by_role("main").locator(".answers").get_by_role("link").last)
        expect(page.get_by_role("heading", name="Answer a ticket of shop")).to_be_visible()
        results = Axe().run(page)
        assert not [found for found in results.response["violations"] if found["impact"] in ("serious", "critical")]
        person.write(page.get_by_label("Why, or what fixed it"), "the licence is back")
        person.press(person.button("Answer"))
        expect(page.get_by_role("status").get_by_text("Done")).to_be_visible()
        # A run that waits for the answer records it.
        answered = eventually(answered_tickets, "the answer")

        # What the page opened with is of no use to anybody else.
        page.context.clear_cookies()
        page.goto(one_time)
        expect(page.get_by_role("alert")).to_contain_text("was used already")

    kinds = [(operation.kind, operation.status, operation.user_agent) for operation in reversed(operations())]
    who = "Prefect UI or API, as root on the page"
    assert [status for _, status, _ in kinds] == [
        OperationStatus.SUCCESS, OperationStatus.SUCCESS, OperationStatus.FAILED, OperationStatus.SUCCESS,
    ]  # fmt: skip
    assert {user for _, _, user in kinds} == {who}
    assert [any("the licence is back" in entry.what for entry in ticket.history) for ticket in answered] == [True]
    assert origins == {server.url}
    assert [text for text in errors if "403" not in text] == []


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
