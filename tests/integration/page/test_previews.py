"""What an action would do, found out by a run on the environment's host: waited for, shown, and then done as shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.page.page_clients import FORM, form_of, hidden, signed_in
from tests.integration.page.prefect_server import RUN, PrefectServer

PREVIEW_RUN = "0f4a9a4e-7a3f-4d5e-8a51-1d9f0c7f6a11"
WAITING = f"/roas/do/update/shop?preview={PREVIEW_RUN}"
PLAN = {
    "plan_id": "1a2b3c4d",
    "fetches": [],
    "services": [
        {
            "service": "web<script>",
            "wave": 0,
            "action": "recreate",
            "because": "its image is another",
            "interruption": "short",
            "interruption_seconds": 2.0,
            "start_first": False,
            "stop_first_because": "",
            "other_volumes": [],
            "note": "",
        }
    ],
    "hooks": [],
    "release_notes": [],
    "orphans": [],
}
ROLLBACK = {"release_id": "r-1", "proven_at": "2026-11-01T10:00:00Z", "later_releases": ["r-2"], "data": None}


class FleetServer(PrefectServer):
    """A control plane: deployments in the work pool of a host, and the run that finds out what would be done."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.deployments = {f"{flow}/shop": f"d-{flow}" for flow in ("preview", "update", "rollback", "startup")}
        self.state: dict[str, Any] = {"type": "SCHEDULED", "name": "Scheduled"}
        self.created, self.pool_status, self.answer = datetime.now(UTC), "READY", {"document": PLAN}
        self.cancelled = False

    @property
    def previews(self) -> list[dict[str, Any]]:
        """The runs that were asked to find it out, one for each key."""
        return [run for run in self.runs if run["deployment"] == "d-preview"]

    @property
    def done(self) -> list[dict[str, Any]]:
        """The runs that change something."""
        return [run for run in self.runs if run["deployment"] != "d-preview"]

    def answers(self, **answer: Any) -> None:
        """Let the run have ended with this."""
        self.answer, self.state = answer, {"type": "COMPLETED", "name": "Completed"}

    async def _answer(self, path: str, body: dict[str, Any]) -> tuple[Any, int]:
        if path.startswith("/deployments/name/"):
            answer, status = await super()._answer(path, body)
            return answer | {"work_pool_name": "host-alpha"}, status
        if path == "/deployments/d-preview/create_flow_run":
            _, status = await super()._answer(path, body)
            return {"id": PREVIEW_RUN}, status
        if path == f"/flow_runs/{PREVIEW_RUN}":
            parameters = self.previews[-1]["parameters"]
            run = {"id": PREVIEW_RUN, "deployment_id": "d-preview", "parameters": parameters, "state": self.state}
            return run | {"created": self.created.isoformat()}, 200
        if path == f"/flow_runs/{RUN}":
            answer, status = await super()._answer(path, body)
            moment = {"created": self.created.isoformat(), "state": {"message": None} | self.state}
            return answer | moment | {"work_pool_name": "host-alpha"}, status
        if path == f"/flow_runs/{PREVIEW_RUN}/set_state":
            self.cancelled = body["state"]["type"] == "CANCELLED"
            return {}, 201
        if path == "/artifacts/filter":
            assert body["artifacts"]["flow_run_id"]["any_"] == [PREVIEW_RUN]
            return [{"data": json.dumps(self.answer)}], 200
        if path == "/work_pools/host-alpha":
            return {"status": self.pool_status}, 200
        return await super()._answer(path, body)


@pytest.fixture
def fleet(tmp_path: Path) -> FleetServer:
    return FleetServer(tmp_path / "runs")


async def begun(ann: httpx.AsyncClient, path: str = "/roas/do/update/shop") -> str:
    """The address that waits for what a page asked the host."""
    asked = await ann.get(path)
    assert asked.status_code == 303
    return str(asked.headers["location"])


async def test_the_host_is_asked_once_for_a_plan_and_exactly_that_is_done(home: Path, fleet: FleetServer) -> None:
    async with signed_in(home, fleet) as ann:
        waiting = await begun(ann)
        waits = await ann.get(waiting)
        fleet.state = {"type": "RUNNING", "name": "Running"}
        works = await ann.get(waiting)
        fleet.answers(document=PLAN)
        shown = await ann.get(waiting)
        form = form_of(shown) | {"preview": hidden(shown, "preview"), "now": "on"}
        done = await ann.post("/roas/do/update/shop", data=form, headers=FORM)

    assert waiting == WAITING
    assert "Host alpha was asked." in waits.text
    assert "<form" not in waits.text.partition("<main")[2]
    assert "finds out" in works.text
    assert (waits.headers["refresh"], works.headers["refresh"]) == ("1", "1")
    assert "refresh" not in shown.headers
    assert "Plan 1a2b3c4d" in shown.text
    assert "<script>" not in shown.text.partition("<main")[2]
    (asked,) = fleet.previews
    assert asked["parameters"] == {"environment": "shop", "action": "update"}
    assert done.headers["location"] == f"/roas/runs/{RUN}"
    (run,) = fleet.done
    assert run["deployment"] == "d-update"
    assert run["parameters"] == {"environment": "shop", "plan": "1a2b3c4d", "now": True, "asked_by": "ann on the page"}


async def test_a_rollback_names_the_release_that_the_host_chose_and_no_other(home: Path, fleet: FleetServer) -> None:
    async with signed_in(home, fleet) as ann:
        waiting = await begun(ann, "/roas/do/rollback/shop")
        fleet.answers(document=ROLLBACK)
        shown = await ann.get(waiting)
        form = form_of(shown) | {name: hidden(shown, name) for name in ("preview", "release")} | {"typed": "shop"}
        other = await ann.post("/roas/do/rollback/shop", data=form | {"release": "r-9"}, headers=FORM)
        done = await ann.post("/roas/do/rollback/shop", data=form, headers=FORM)

    assert "r-2" in shown.text
    assert other.status_code == 409
    assert done.status_code == 303
    assert [run["parameters"]["release"] for run in fleet.done] == ["r-1"]


async def test_a_host_that_is_away_is_named_and_waited_for_two_minutes(home: Path, fleet: FleetServer) -> None:
    fleet.pool_status = "NOT_READY"
    async with signed_in(home, fleet) as ann:
        waiting = await begun(ann)
        waits = await ann.get(waiting)
        fleet.created -= timedelta(seconds=121)
        ended = await ann.get(waiting)

    words = "no worker of work pool host-alpha is in contact. Start <code>roas worker</code> there."
    assert f"Host alpha takes no runs: {words}" in waits.text
    assert waits.headers["refresh"] == "1"
    assert f"Nothing can be done: There is no answer after 120 s. Host alpha takes no runs: {words}" in ended.text
    assert 'href="/roas/do/update/shop"' in ended.text
    assert "<button" not in ended.text.partition("<main")[2]
    assert "refresh" not in ended.headers
    assert fleet.cancelled


async def test_a_run_that_waits_for_its_host_says_so_until_it_runs(home: Path, fleet: FleetServer) -> None:
    fleet.created -= timedelta(seconds=70)
    async with signed_in(home, fleet) as ann:
        waits = await ann.get(f"/roas/runs/{RUN}")
        fleet.state = {"type": "RUNNING", "name": "Running"}
        runs = await ann.get(f"/roas/runs/{RUN}")

    assert "Host alpha was asked 1 min ago and has not begun." in waits.text
    assert "you can cancel it on its page in Prefect" in waits.text
    assert "It runs, and records its operation in a moment." in runs.text
    assert "cancel it" not in runs.text


@pytest.mark.parametrize("words", ["", "the data was saved while release r-1 ran"])
async def test_a_restore_names_another_release_before_it_is_confirmed(
    home: Path, fleet: FleetServer, words: str
) -> None:
    document = {
        "snapshot_id": "s-1",
        "proof": "not rehearsed",
        "loss": "All is lost.",
        "changes": {"things": "2 files"},
    }
    async with signed_in(home, fleet) as ann:
        waiting = await begun(ann, "/roas/do/restore/shop?snapshot=s-1")
        # An agent of an earlier version does not say it.
        fleet.answers(document=document | ({"other_release": words} if words else {}))
        shown = await ann.get(waiting)

    assert "All is lost." in shown.text
    assert ("Another release runs" in shown.text) == bool(words)
    assert words in shown.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"problem": "The registry refused <b>the password</b>."}, "The registry refused &lt;b&gt;the password"),
        ({"document": {"plan_id": "1a2b3c4d"}}, "is ROAS Ops there of another version?"),
        ({"document": ["no plan"]}, "is ROAS Ops there of another version?"),
    ],
)
async def test_why_a_host_has_no_answer_is_shown_without_a_button(
    home: Path, fleet: FleetServer, answer: dict[str, Any], words: str
) -> None:
    async with signed_in(home, fleet) as ann:
        waiting = await begun(ann)
        fleet.answers(**answer)
        shown = await ann.get(waiting)

    assert shown.status_code == 200
    assert words in shown.text
    assert "<button" not in shown.text.partition("<main")[2]


async def test_a_run_that_crashed_says_so(home: Path, fleet: FleetServer) -> None:
    async with signed_in(home, fleet) as ann:
        waiting = await begun(ann)
        fleet.state = {"type": "CRASHED", "name": "Crashed", "message": "out of memory"}
        shown = await ann.get(waiting)

    assert "ended as Crashed: out of memory" in shown.text


async def test_a_preview_is_of_its_action_and_its_fields_alone(home: Path, fleet: FleetServer) -> None:
    async with signed_in(home, fleet) as ann:
        await begun(ann, "/roas/do/rollback/shop?release=r-1")
        fleet.answers(document=ROLLBACK)
        own = await ann.get(f"/roas/do/rollback/shop?release=r-1&preview={PREVIEW_RUN}")
        others = [
            await ann.get(f"/roas/do/rollback/shop?release=r-2&preview={PREVIEW_RUN}"),
            await ann.get(f"/roas/do/rollback/shop?release=r-1&with_data=on&preview={PREVIEW_RUN}"),
            await ann.get(f"/roas/do/update/shop?preview={PREVIEW_RUN}"),
            await ann.get("/roas/do/rollback/shop?preview=..%2fdeployments"),
        ]

    assert "Release r-1" in own.text
    assert ["Nothing can be done" in page.text for page in others] == [True] * 4


async def test_reloading_the_address_of_an_action_asks_the_host_no_second_time(home: Path, fleet: FleetServer) -> None:
    async with signed_in(home, fleet) as ann:
        places = {await begun(ann) for _ in range(5)}

    assert places == {WAITING}
    # On a machine that is busy they may take more than the ten seconds in which a question has one run.
    assert len(fleet.previews) < 5


async def test_what_is_read_from_the_records_alone_is_shown_at_once(home: Path, fleet: FleetServer) -> None:
    async with signed_in(home, fleet) as ann:
        shown = await ann.get("/roas/do/stop/shop")

    assert shown.status_code == 200
    assert "What you confirm begins" not in shown.text
    assert fleet.previews == []


async def test_what_a_host_that_is_away_would_do_later_is_said_before_it_is_confirmed(
    home: Path, fleet: FleetServer
) -> None:
    fleet.deployments["stop/shop"] = "d-stop"
    async with signed_in(home, fleet) as ann:
        there = await ann.get("/roas/do/stop/shop")
        fleet.pool_status = "NOT_READY"
        away = await ann.get("/roas/do/stop/shop")
        command = await ann.get("/roas/do/pause/shop")

    assert "Host alpha takes no runs" in away.text
    assert "What you confirm begins once it takes runs again." in away.text
    assert "<button" in away.text.partition("<main")[2]
    assert "takes no runs" not in there.text + command.text
