"""What the page is asked to do: who may, what is confirmed, and that it is done once."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from adapters.host.own_command import begin_own_command
from adapters.server.page_accounts import add_account
from core.runtime.page_actions import ACTIONS
from flows.page.action_runs import ActionRequest, PageCommand
from flows.page.actions import operation_of_command
from models.audit import Actor
from models.operations import Operation, OperationStatus, OperationType
from models.page_access import Viewer
from models.recovery import Pause
from tasks.runtime.stores import open_stores
from tests.integration.page.conftest import HOSTILE
from tests.integration.page.page_clients import FORM, PASSWORD, form_of, hidden, signed_in
from tests.integration.page.prefect_server import RUN, PrefectServer

ANN = Viewer(name="ann", may_write=True)


async def ended(browser: httpx.AsyncClient, begun: httpx.Response) -> httpx.Response:
    """The page of a command that was begun, once that has ended."""
    async with asyncio.timeout(120):
        while "refresh" in (page := await browser.get(begun.headers["location"])).headers:
            pass
    return page


def pauses() -> list[Pause]:
    return open_stores().pauses.active(datetime.now(UTC))


async def test_a_run_of_the_deployment_is_asked_for_once_by_the_name_of_the_viewer(
    home: Path, prefect: PrefectServer
) -> None:
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get("/roas/do/snapshot/shop"))

        first = await ann.post("/roas/do/snapshot/shop", data=form, headers=FORM)
        second = await ann.post("/roas/do/snapshot/shop", data=form, headers=FORM)
        again = await ann.post("/roas/do/snapshot/shop", data=form | {"environment": "other"}, headers=FORM)

    assert [answer.status_code for answer in (first, second, again)] == [303, 303, 303]
    assert {answer.headers["location"] for answer in (first, second, again)} == {f"/roas/runs/{RUN}"}
    (run,) = prefect.runs
    assert run["deployment"] == "d-snapshot"
    assert run["parameters"] == {"environment": "shop", "asked_by": "ann on the page"}
    assert run["idempotency_key"] == form["key"]


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_read_only_account_sees_and_does_nothing_of_any_action(
    home: Path, prefect: PrefectServer, action: str
) -> None:
    add_account(home, "vera", PASSWORD, may_write=False)
    async with signed_in(home, prefect, "vera") as vera:
        csrf = hidden(await vera.get("/roas/me"), "csrf")

        shown = await vera.get(f"/roas/do/{action}/shop")
        done = await vera.post(f"/roas/do/{action}/shop", data={"csrf": csrf, "typed": "shop"}, headers=FORM)

    assert (shown.status_code, done.status_code) == (403, 403)
    assert "read only" in done.text
    assert prefect.runs == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("origin", ["http://attacker.example", "null"])
async def test_no_page_of_another_origin_does_anything(
    home: Path, prefect: PrefectServer, action: str, origin: str
) -> None:
    async with signed_in(home, prefect) as ann:
        csrf = hidden(await ann.get("/roas/me"), "csrf")
        sent = await ann.post(f"/roas/do/{action}/shop", data={"csrf": csrf}, headers={"origin": origin})

    assert sent.status_code == 403
    assert prefect.runs == []


async def test_a_form_is_of_one_session_one_action_and_one_environment(home: Path, prefect: PrefectServer) -> None:
    async with signed_in(home, prefect) as ann, signed_in(home, prefect) as bob:
        of_snapshot = form_of(await ann.get("/roas/do/snapshot/shop"))
        csrf_of_bob = hidden(await bob.get("/roas/me"), "csrf")

        stolen = await bob.post("/roas/do/snapshot/shop", data=of_snapshot, headers=FORM)
        as_bob = await bob.post("/roas/do/snapshot/shop", data=of_snapshot | {"csrf": csrf_of_bob}, headers=FORM)
        other = await ann.post("/roas/do/stop/shop", data=of_snapshot, headers=FORM)
        forged = await ann.post("/roas/do/snapshot/shop", data=of_snapshot | {"key": "a.9999999999.b"}, headers=FORM)

    assert [answer.status_code for answer in (stolen, as_bob, other, forged)] == [403, 409, 409, 409]
    assert prefect.runs == []


async def test_a_command_of_a_moment_is_done_once_and_its_words_are_shown(home: Path, prefect: PrefectServer) -> None:
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get("/roas/do/pause/shop")) | {"reason": f"maintenance {HOSTILE}", "length": "1h"}
        refused = await ann.post("/roas/do/pause/shop", data=form, headers=FORM)
        form["reason"] = "<script>alert(1)</script>"
        form["key"] = hidden(await ann.get("/roas/do/pause/shop"), "key")

        first = await ann.post("/roas/do/pause/shop", data=form, headers=FORM)
        second = await ann.post("/roas/do/pause/shop", data=form, headers=FORM)
        shown = await ended(ann, first)

    # A line of text holds no escape sequence.
    assert refused.status_code == 400
    assert first.headers["location"] == second.headers["location"]
    assert "is off until" in shown.text
    assert "<script>alert" not in shown.text
    paused = [pause for pause in pauses() if pause.reason == "<script>alert(1)</script>"]
    assert [(pause.environment, pause.service) for pause in paused] == [("shop", None)]


async def test_a_word_of_a_form_is_no_option_of_a_command(home: Path, prefect: PrefectServer) -> None:
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get("/roas/do/pause/shop")) | {"reason": "--help", "service": "--env=other"}
        await ended(ann, await ann.post("/roas/do/pause/shop", data=form, headers=FORM))

    assert ("shop", "--env=other", "--help") in [(pause.environment, pause.service, pause.reason) for pause in pauses()]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/roas/do/explode/shop", 404),
        ("/roas/do/stop/nothing-of-this-name", 404),
        ("/roas/do/stop/..%2f..%2fetc", 404),
        ("/roas/do/stop/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 404),
        ("/roas/do/answer/shop", 400),
        ("/roas/do/acknowledge/shop", 400),
        ("/roas/do/answer/shop?ticket=" + "x" * 600, 400),
        ("/roas/do/pause/shop?length=forever", 400),
        ("/roas/commands/guess", 404),
        ("/roas/nothing", 404),
    ],
)
async def test_what_is_not_there_is_refused_in_words(
    home: Path, prefect: PrefectServer, path: str, status: int
) -> None:
    async with signed_in(home, prefect) as ann:
        answer = await ann.get(path)

    assert answer.status_code == status
    assert "<script>alert" not in answer.text
    assert "<h1>" in answer.text


async def test_a_ticket_of_another_environment_is_not_answered(home: Path, prefect: PrefectServer) -> None:
    ticket = open_stores().tickets.find(environment="shop")[0]
    async with signed_in(home, prefect) as ann:
        own = await ann.get("/roas/do/answer/shop", params={"ticket": ticket.ticket_id})
        made = await ann.get("/roas/do/answer/shop", params={"ticket": "T-20200101-000000-aaaa"})

    assert ticket.title.split()[0] in own.text
    assert "Nothing can be done" in made.text
    assert "<button" not in made.text.partition("<main")[2]


async def test_a_run_that_waits_is_shown_until_its_operation_is_recorded(home: Path, prefect: PrefectServer) -> None:
    async with signed_in(home, prefect) as ann:
        shown = await ann.get(f"/roas/runs/{RUN}")

    assert "stop shop" in shown.text
    assert "Late" in shown.text
    assert "<script>alert" not in shown.text
    assert shown.headers["refresh"] == "1"
    assert sys.executable not in shown.text


def test_a_command_leads_to_the_operation_that_its_viewer_asked_for_since_it_began(home: Path) -> None:
    asked = ActionRequest(action=ACTIONS["stop"], environment="shop", fields={}, plan="", viewer=ANN, key="key")
    command = PageCommand(
        request=asked, command=begin_own_command(["--version"], variables=dict(os.environ), folder=None)
    )
    before, after = command.began_at - timedelta(seconds=1), command.began_at + timedelta(seconds=1)
    record = open_stores().operations.begin
    record(stop_of("earlier", before, "ann on the page"))
    record(stop_of("of-bob", after, "bob on the page"))
    assert operation_of_command(command) == ""

    record(stop_of("own", after, "ann on the page"))
    record(stop_of("next", after + timedelta(seconds=1), "ann on the page"))

    assert operation_of_command(command) == "own"
    command.command.wait(60)
    assert command.command.code == 0
    assert command.lines[0].startswith("roas ")


def stop_of(operation_id: str, at: datetime, claimed: str) -> Operation:
    return Operation(
        deployment_id=operation_id,
        operation_type=OperationType.STOP,
        environment="shop",
        status=OperationStatus.RUNNING,
        started_at=at,
        user_agent=f"person: root (roas stop, asked by {claimed})",
        actor=Actor(uid=0, user="root", claimed=claimed),
    )


async def test_a_stop_of_what_is_not_recorded_is_offered_all_the_same(home: Path, prefect: PrefectServer) -> None:
    (home.parents[1] / "new.yaml").write_text("name: new\ncompose_files: [compose.yaml]\nproject: new\n")
    async with signed_in(home, prefect) as ann:
        shown = await ann.get("/roas/do/stop/new")

    assert shown.status_code == 200
    assert ">Stop</button>" in shown.text


async def test_the_name_of_a_locked_environment_has_to_be_typed(home: Path, prefect: PrefectServer) -> None:
    open_stores().pauses.lock("shop", f"sale {HOSTILE}", "ann", datetime.now(UTC))
    async with signed_in(home, prefect) as ann:
        shown = await ann.get("/roas/do/stop/shop")
        form = form_of(shown) | {"typed": ""}
        refused = [
            await ann.post("/roas/do/stop/shop", data=form | {"typed": typed}, headers=FORM) for typed in ("", "sho")
        ]
        form["typed"] = "shop"
        begun = await ann.post("/roas/do/stop/shop", data=form, headers=FORM)
        start = await ann.get("/roas/do/start/shop")

    assert "it is locked by ann since" in shown.text
    assert HOSTILE not in shown.text
    assert 'name="typed"' in shown.text
    assert 'name="typed"' not in start.text
    assert [answer.status_code for answer in refused] == [409, 409]
    assert begun.status_code == 303
    (run,) = prefect.runs
    assert run["parameters"] == {"environment": "shop", "confirm": "shop", "asked_by": "ann on the page"}
