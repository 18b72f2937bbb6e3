"""A server that is killed, or whose answer is lost, at a step of an action does it once, and says what it knows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from adapters.server.page_sessions import PageSessions
from core.runtime.page_forms import FormRequest, make_form_key
from tasks.runtime.stores import open_stores
from tests.integration.page.page_clients import FORM, ORIGIN, form_of, hidden, one_time_path, signed_in
from tests.integration.page.prefect_server import RUN, PrefectServer
from tests.support.agents import ROOT

SNAPSHOT = "/roas/do/snapshot/shop"
RUN_PLACE = f"/roas/runs/{RUN}"


@dataclass(frozen=True)
class KillableServer:
    home: Path
    runs: Path
    kill_file: Path
    listener: socket.socket

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server, in a process of its own; a connection that comes before it is up waits for it."""
        descriptor = self.listener.fileno()
        words = [str(word) for word in (self.home, self.runs, self.kill_file, descriptor)]
        program = [sys.executable, "-P", "-m", "tests.integration.page.killed_server", *words]
        process = subprocess.Popen(program, pass_fds=[descriptor], cwd=ROOT, env=_variables())
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx.AsyncClient]:
        port = self.listener.getsockname()[1]
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"host": ORIGIN.removeprefix("http://")}, timeout=120
        ) as made:
            yield made


def _variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def killable(home: Path, tmp_path: Path) -> Iterator[KillableServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield KillableServer(home, tmp_path / "runs", tmp_path / "kill_at", listener)


@pytest.mark.parametrize(
    "point",
    [
        "make run",
        "answer",
        *(pytest.param(point, marks=pytest.mark.campaign) for point in ("find run", "find deployment", "made run")),
    ],
)
async def test_a_server_that_is_killed_at_a_step_of_an_action_has_begun_it_once_when_it_is_asked_again(
    killable: KillableServer, point: str
) -> None:
    async with killable.browser() as ann:
        with killable.running() as server:
            await ann.get(await one_time_path(ann, "ann"))
            form = form_of(await ann.get(SNAPSHOT))
            killable.kill_file.write_text(point)
            with pytest.raises(httpx.TransportError):
                await ann.post(SNAPSHOT, data=form, headers=FORM)
            server.wait(60)
        made_before = PrefectServer(killable.runs).runs
        with killable.running():
            again = await ann.post(SNAPSHOT, data=form, headers=FORM)
            once_more = await ann.post(SNAPSHOT, data=form, headers=FORM)
            shown = await ann.get(RUN_PLACE)

    assert len(made_before) == (point in ("made run", "answer"))
    assert [answer.headers.get("location") for answer in (again, once_more)] == [RUN_PLACE, RUN_PLACE]
    (run,) = PrefectServer(killable.runs).runs
    assert run["idempotency_key"] == form["key"]
    assert "stop shop" in shown.text


async def test_a_command_whose_answer_was_lost_is_not_begun_again_and_the_page_says_so(
    killable: KillableServer,
) -> None:
    async with killable.browser() as ann:
        with killable.running() as server:
            await ann.get(await one_time_path(ann, "ann"))
            form = form_of(await ann.get("/roas/do/pause/shop")) | {"reason": "once", "length": "1h"}
            killable.kill_file.write_text("answer")
            with pytest.raises(httpx.TransportError):
                await ann.post("/roas/do/pause/shop", data=form, headers=FORM)
            server.wait(60)
        _wait_until_paused("once")
        with killable.running():
            again = await ann.post("/roas/do/pause/shop", data=form, headers=FORM)
            shown = await ann.get(again.headers["location"])

    assert again.status_code == 303
    assert shown.status_code == 404
    assert "does not know that command" in shown.text
    assert 'href="/roas/environments/shop"' in shown.text
    assert [pause.reason for pause in open_stores().pauses.active(datetime.now(UTC))].count("once") == 1


def _wait_until_paused(reason: str) -> None:
    """The command outlives its server."""
    deadline = time.monotonic() + 60
    while reason not in [pause.reason for pause in open_stores().pauses.active(datetime.now(UTC))]:
        assert time.monotonic() < deadline


async def test_a_command_that_was_noted_and_never_begun_is_shown_as_not_known(
    home: Path, prefect: PrefectServer
) -> None:
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get("/roas/do/pause/shop")) | {"reason": "never", "length": "1h"}
        PageSessions(home).note_result(form["key"], "/roas/commands/killed?environment=shop")

        again = await ann.post("/roas/do/pause/shop", data=form, headers=FORM)
        shown = await ann.get(again.headers["location"])

    assert "ask for it anew" in shown.text
    assert "never" not in [pause.reason for pause in open_stores().pauses.active(datetime.now(UTC))]


class FailingPrefectServer(PrefectServer):
    """Fails at a point with status 503 as long as it names one."""

    point = ""

    async def reach(self, point: str) -> int:
        """See the base."""
        return 503 if point == self.point else 0


@pytest.mark.parametrize(("point", "made"), [("made run", 1), ("find run", 0)])
async def test_where_the_answer_says_nothing_the_page_asks_again_with_the_same_key(
    home: Path, tmp_path: Path, point: str, made: int
) -> None:
    prefect = FailingPrefectServer(tmp_path / "runs")
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get(SNAPSHOT))
        prefect.point = point

        asked = await ann.post(SNAPSHOT, data=form, headers=FORM)
        runs_of_asked = prefect.runs
        prefect.point = ""
        again = await ann.post(SNAPSHOT, data={name: hidden(asked, name) for name in form}, headers=FORM)

    assert asked.status_code == 503
    assert "not known whether this was begun" in asked.text
    assert len(runs_of_asked) == made
    assert again.headers["location"] == RUN_PLACE
    assert len(prefect.runs) == 1


async def test_what_surely_was_not_begun_is_shown_again_with_its_key(home: Path, tmp_path: Path) -> None:
    prefect = FailingPrefectServer(tmp_path / "runs")
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get(SNAPSHOT))
        prefect.point = "find deployment"

        failed = await ann.post(SNAPSHOT, data=form, headers=FORM)

    assert failed.status_code == 409
    assert "status 503" in failed.text
    assert hidden(failed, "key") == form["key"]
    assert prefect.runs == []


async def test_a_form_that_is_too_old_leads_to_what_it_began_and_begins_nothing(
    home: Path, prefect: PrefectServer
) -> None:
    async with signed_in(home, prefect) as ann:
        form = form_of(await ann.get(SNAPSHOT))
        request = FormRequest(csrf=form["csrf"], action="snapshot", environment="shop")
        old = form | {"key": make_form_key(request, "nonce", time.time() - 1)}

        too_old = await ann.post(SNAPSHOT, data=old, headers=FORM)
        runs_of_old = prefect.runs
        await ann.post(SNAPSHOT, data=form, headers=FORM)
        PageSessions(home).note_result(old["key"], RUN_PLACE)
        begun = await ann.post(SNAPSHOT, data=old, headers=FORM)

    assert too_old.status_code == 409
    assert "too old" in too_old.text
    assert hidden(too_old, "key") != old["key"]
    assert runs_of_old == []
    assert begun.headers["location"] == RUN_PLACE
    assert len(prefect.runs) == 1
