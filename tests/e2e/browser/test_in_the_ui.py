"""What a person does about a failure in the Prefect UI alone, in a real browser: answer a question, retry a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.recovery import RecoveryExecution, Ticket, TicketState
from models.settings import Settings
from tests.e2e.browser.serving import RunPage, Served, browser, eventually, served, sign_in
from tests.e2e.faults.scenes import HEALTH, IMAGE, Scene, says

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WEB = says('touch /tmp/well; while [ ! -e /list/broken ]; do sleep 0.1; done; echo "FATAL: a price is broken"; exit 1')
ILL = says("while sleep 0.1; do if [ -e /list/broken ]; then rm -f /tmp/well; else touch /tmp/well; fi; done")
# Attempts of our own would only take time here.
ASKED: dict[str, object] = {"automatic": False}
ONE_ATTEMPT: dict[str, object] = {"attempts_per_error": 1, "verify_timeout_seconds": 3}


@dataclass(frozen=True, kw_only=True)
class UiShop(Scene):
    """A service that ends where its list of prices is broken, or is ill, and that nothing but a person can mend."""

    command: Sequence[str] = tuple(WEB)
    recovery: Mapping[str, object]

    def open(self) -> None:
        """Let it run, well."""
        self.prices.mkdir()
        web = {
            "image": IMAGE,
            "init": True,
            "command": [*self.command],
            "healthcheck": HEALTH | {"interval": "5s"},
            "volumes": [f"{self.prices}:/list"],
        }
        rarely = {"stabilisation_seconds": 0.5, "collect_every_seconds": 3600}
        self.declare({"web": web}, services={}, recovery=self.recovery, **rarely)
        self.docker("compose", "-p", self.project, "-f", str(self.compose_file), "up", "--detach", "--wait")

    @property
    def prices(self) -> Path:
        return self.folder / "prices"

    def break_the_list(self) -> None:
        (self.prices / "broken").touch()

    def mend_the_list(self) -> None:
        (self.prices / "broken").unlink()

    def started_at(self) -> str:
        return self.docker("inspect", "--format", "{{.State.StartedAt}}", self.container("web"))

    def is_well(self) -> bool:
        return self.state().containers["web"][-1] == "healthy"


@pytest.fixture(params=[{"recovery": ASKED}])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UiShop]:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    # Started by somebody else, a server may have been named to this process.
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    made = UiShop(environments=tmp_path, name="shop", **request.param)
    made.set_up()
    try:
        made.open()
        yield made
    finally:
        made.clean()


def the_ticket() -> Ticket:
    with Stores.open(Settings()) as stores:
        (ticket,) = stores.tickets.find()
    return ticket


def asked_by(server: Served, *, besides: str = "") -> str:
    """The run that waits for the answer to the ticket, once it does."""

    def run() -> str | None:
        with Stores.open(Settings()) as stores:
            waiting = [one.flow_run_id for one in stores.tickets.find() if one.state is TicketState.OPEN]
        return next((one for one in waiting if one and one != besides), None)

    found = str(eventually(run, "a run that asks"))
    server.wait_until(found, "Suspended")
    return found


def last_attempt() -> RecoveryExecution:
    with Stores.open(Settings()) as stores:
        return stores.recoveries.find(the_ticket().error_id)[-1]


@pytest.mark.campaign(seconds=130)
def test_a_question_is_answered_and_a_failed_step_retried_in_the_browser(shop: UiShop) -> None:
    with served(shop.environments) as server, browser() as page:
        # First: the list is mended before the question is answered.
        shop.break_the_list()
        first = RunPage(page, server, asked_by(server))
        ticket = the_ticket()
        sign_in(page, server)
        page.goto(f"{server.url}/runs")
        page.get_by_role("link", name=f"ticket {ticket.ticket_id}: web of shop").first.click()
        first.shows("Suspended")
        shop.mend_the_list()

        question = first.answer("retry", "mended the list of prices", "ann")

        first.shows("Completed")
        assert "FATAL: a price is broken" in question
        assert "What was answered before" not in question
        assert shop.is_well()
        ticket = the_ticket()
        assert ticket.state is TicketState.RESOLVED
        assert next((one.by, one.what) for one in ticket.history) == (
            "Prefect UI or API, as ann",
            "retry: mended the list of prices",
        )

        # Again: this time it is retried too early, and given up.
        shop.break_the_list()
        second = RunPage(page, server, asked_by(server, besides=first.run_id))
        second.open()
        before = server.wait_until(second.run_id, "Suspended")
        question = second.answer("retry", "it will do", "bob")
        assert "ann answered: retry: mended the list of prices" in question
        server.wait_until(second.run_id, "Suspended", besides=before)
        second.open()
        second.answer("give up", "the list comes tomorrow", "bob")
        second.shows("Failed")
        failed = last_attempt()
        assert [(step.name, step.ok) for step in failed.steps] == [("restart", True), ("verify", False)]

        # Tomorrow: it is mended and started by hand. A watch would see that, and close the ticket by itself.
        server.end_watch()
        shop.mend_the_list()
        shop.docker("start", shop.container("web"))
        eventually(shop.is_well, "health")
        started = shop.started_at()

        second.retry()

        second.shows("Completed")
        mended = last_attempt()
        assert mended.attempt_id == failed.attempt_id
        assert mended.steps[0] == failed.steps[0]
        assert [(step.name, step.ok) for step in mended.steps] == [("restart", True), ("verify", True)]
        assert shop.started_at() == started
        assert the_ticket().state is TicketState.RESOLVED
        # The server learns of task runs a little later than of their run.
        eventually(lambda: server.begun(second.run_id).count("verify web") == 2, "the second proof")
        assert server.begun(second.run_id).count("restart web") == 1


@pytest.mark.campaign(seconds=90)
@pytest.mark.parametrize("shop", [{"command": ILL, "recovery": ONE_ATTEMPT}], indirect=True)
def test_what_the_agent_could_not_mend_is_retried_in_the_browser(shop: UiShop) -> None:
    with served(shop.environments) as server, browser() as page:
        shop.break_the_list()
        asking = asked_by(server)
        failed = last_attempt()
        assert [(step.name, step.ok) for step in failed.steps] == [("restart", True), ("verify", False)]
        sign_in(page, server)
        page.goto(f"{server.url}/runs")
        page.get_by_role("link", name="recover web of shop").first.click()
        page.wait_for_url("**/flow-run/*")
        left = RunPage(page, server, page.url.rpartition("/")[2].partition("?")[0])
        left.shows("Failed")
        before = left.steps(2)
        assert before == [("restart web", "Completed"), ("verify web", "Failed")]
        # The agent would see that it is mended, and close the ticket by itself.
        server.end_watch()
        shop.mend_the_list()
        eventually(shop.is_well, "health")
        started = shop.started_at()

        left.retry()

        left.shows("Completed")
        assert left.steps(3) == [*before, ("verify web", "Completed")]
        mended = last_attempt()
        assert (mended.attempt_id, mended.steps[0]) == (failed.attempt_id, failed.steps[0])
        assert [(step.name, step.ok) for step in mended.steps] == [("restart", True), ("verify", True)]
        assert shop.started_at() == started
        assert the_ticket().state is TicketState.RESOLVED
        assert server.run(asking)["state"]["name"] == "Completed"
