"""What is done by the clock, on a real engine: jobs and operations, their failures, kills and what a person stopped."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest
from prefect import flow

from flows.common.requester import SCHEDULE
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.deployment.update import update
from flows.recovery.answer import decide
from flows.schedules.judge import judge_schedules
from flows.schedules.scheduled import scheduled
from flows.server.deployments import deployments_of
from models.audit import SYSTEM
from models.failures import BadInputError, NotFoundError
from models.recovery import Choice, TicketState
from models.scheduled_runs import ScheduledRun, ScheduledState
from tasks.runtime.clients import find_environment
from tests.e2e.flows.conftest import Place, until, well
from tests.e2e.flows.test_interruption import roas

WEB = well("web", pull_policy="never")

pytestmark = [pytest.mark.engine, pytest.mark.flow]

TIDY = "tidy:\n  image: debian:trixie-slim\n  profiles: [jobs]\n  command: [sh, -c, 'echo removed 3 files']\n"


async def begun(place: Place, **schedules: dict[str, Any]) -> None:
    place.declare(
        WEB + TIDY,
        schedules=json.dumps({name: {"at": "every day 03:00", **one} for name, one in schedules.items()}),
    )
    await startup("test")


def inside(command: str) -> dict[str, Any]:
    return {"exec": {"service": "web", "command": ["sh", "-c", command]}}


async def run(name: str) -> ScheduledRun:
    """Run a schedule as a person does; how it ended, as it is recorded."""
    state: Any = await scheduled("test", name, return_state=True)
    with _stores() as stores:
        (ended,) = [
            one
            for one in stores.scheduled_runs.latest("test", name, 9)
            if one.flow_run_id == str(state.state_details.flow_run_id)
        ]
    assert state.is_failed() == ended.state.is_bad
    return ended


def _stores() -> Any:
    from adapters.stores import Stores
    from models.settings import Settings

    return Stores.open(Settings())


def open_tickets(place: Place) -> list[str]:
    with place.stores() as stores:
        return [ticket.title for ticket in stores.tickets.find(TicketState.OPEN)]


def containers_of_jobs(place: Place) -> list[str]:
    command = ["docker", "ps", "-a", "--filter", f"name={place.project}-job-", "--format", "{{.Names}} {{.State}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


async def test_jobs_run_as_containers_inside_of_services_and_on_this_machine(place: Place) -> None:
    await begun(
        place,
        tidy={"run": {"service": "tidy"}},
        look={"run": inside("echo up; hostname >/dev/null")},
        here={"run": {"command": ["echo", "on this machine"]}},
    )
    ended = {name: await run(name) for name in ("tidy", "look", "here")}
    assert {name: (one.state, one.text) for name, one in ended.items()} == {
        "tidy": (ScheduledState.SUCCEEDED, "removed 3 files"),
        "look": (ScheduledState.SUCCEEDED, "up"),
        "here": (ScheduledState.SUCCEEDED, "on this machine"),
    }
    assert containers_of_jobs(place) == []
    with place.stores() as stores:
        bundles = {one.bundle_id: one for one in stores.evidence.find(environment="test")}
    assert "removed 3 files" in bundles[ended["tidy"].evidence].logs[0].lines[-1]


async def test_a_failure_is_tried_again_then_a_ticket_with_the_decisive_line_that_the_next_success_ends(
    place: Place,
) -> None:
    command = "echo begun; [ -e /tmp/room ] || { echo 'write: No space left on device'; echo bye; exit 3; }"
    await begun(place, copy={"run": inside(command), "retries": 2, "retry_after_seconds": 0})
    failed = await run("copy")
    assert (failed.state, failed.attempts) == (ScheduledState.FAILED, 3)
    assert failed.text == 'it ended with exit code 3; it said "write: No space left on device"'
    (title,) = open_tickets(place)
    assert title.endswith(failed.text)
    with place.stores() as stores:
        (error,) = stores.errors.list_unresolved("test")
        (ticket,) = stores.tickets.find(TicketState.OPEN)
    assert (str(error.verdict.category), error.source) == ("disk_full", "schedule")
    assert ticket.evidence == (failed.evidence,)
    assert ticket.steps[0].startswith("roas schedule run test copy")

    with pytest.raises(BadInputError, match="roas schedule run test copy"):
        await decide(ticket, Choice.RETRY, "again", "ann", SYSTEM)
    subprocess.run(["docker", "exec", place.container("web"), "touch", "/tmp/room"], check=True)
    assert (await run("copy")).text == "begun"
    assert open_tickets(place) == []


async def test_a_job_ends_at_its_limit_and_its_secret_is_nowhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "cr4zy-s3cret-of-a-job")
    place.declare(
        WEB + TIDY.replace("echo removed 3 files", "echo my $$TOKEN; sleep 60") + "  environment: [TOKEN]\n",
        secrets="[{name: TOKEN}]",
        schedules=json.dumps({"long": {"run": {"service": "tidy"}, "at": "every hour", "limit_minutes": 0.05}}),
    )
    await startup("test")
    ended = await run("long")
    assert ended.text.startswith("it did not end within 3 s, and was stopped")
    assert containers_of_jobs(place) == []
    for store in place.settings.data_dir.glob("*.db*"):
        assert b"cr4zy-s3cret-of-a-job" not in store.read_bytes()


async def test_while_the_last_run_goes_on_the_next_is_left_out_or_waits(place: Place) -> None:
    wait = "until [ -e /tmp/go ]; do sleep 0.1; done; echo done"
    await begun(place, alone={"run": inside(wait)}, queued={"run": inside(wait), "overlap": "wait"})
    first = [asyncio.create_task(run(name)) for name in ("alone", "queued")]
    with place.stores() as stores:
        await until(lambda: all(stores.scheduled_runs.latest("test", name, 1) for name in ("alone", "queued")))
    left_out = await run("alone")
    assert left_out.state is ScheduledState.SKIPPED
    assert "still went on" in left_out.text
    second = asyncio.create_task(run("queued"))
    subprocess.run(["docker", "exec", place.container("web"), "touch", "/tmp/go"], check=True)
    ended = [await one for one in (*first, second)]
    assert [one.state for one in ended] == [ScheduledState.SUCCEEDED] * 3
    assert ended[1].ended_at
    assert ended[2].ended_at
    assert ended[1].ended_at < ended[2].ended_at
    assert open_tickets(place) == []


async def test_what_a_person_stopped_stays_so(place: Place) -> None:
    await begun(
        place,
        renew={"run": "update"},
        tidy={"run": {"service": "tidy"}},
        look={"run": inside("true")},
        here={"run": {"command": ["true"]}},
    )
    await stop("test")
    for name in ("renew", "tidy", "look"):
        idle = await run(name)
        assert (idle.state, idle.text) == (ScheduledState.IDLE, "test was stopped on request, so nothing was done")
    assert (await run("here")).state is ScheduledState.SUCCEEDED
    assert place.containers(running=True) == []
    assert open_tickets(place) == []

    @flow
    async def of_a_schedule() -> Any:
        return await update("test", asked_by=SCHEDULE, return_state=True)

    left_alone: Any = await of_a_schedule()
    assert left_alone.message == "test was stopped on request. Nothing was updated."
    with place.stores() as stores:
        assert stores.operations.history(environment="test")[0].kind == "stop"


async def test_an_update_by_the_clock_is_an_operation_with_its_own_ticket(place: Place) -> None:
    await begun(place, renew={"run": "update"})
    assert (await run("renew")).state is ScheduledState.SUCCEEDED
    place.declare(
        WEB.replace("touch /tmp/well; exec sleep 600", "echo no licence; exit 3"),
        schedules=json.dumps({"renew": {"run": "update", "at": "every hour"}}),
    )
    failed = await run("renew")
    assert failed.state is ScheduledState.FAILED
    with place.stores() as stores:
        assert [error.source for error in stores.errors.list_unresolved("test")] == ["start"], (
            "one cause is reported once"
        )
        assert stores.operations.history(environment="test")[0].user_agent == "schedule"


@pytest.mark.campaign(seconds=30)
async def test_an_update_that_fails_where_it_is_rehearsed_does_not_begin(place: Place) -> None:
    await begun(place, renew={"run": "update", "rehearse": True})
    assert (await run("renew")).state is ScheduledState.SUCCEEDED
    place.declare(
        WEB.replace("touch /tmp/well; exec sleep 600", "echo ERROR no licence; exit 3"),
        schedules=json.dumps({"renew": {"run": "update", "at": "every hour", "rehearse": True}}),
    )
    failed = await run("renew")
    assert failed.state is ScheduledState.FAILED
    assert "It would fail: web did not start" in failed.text
    assert "no licence" in failed.text
    (title,) = open_tickets(place)
    assert "renew" in title
    assert place.containers(running=True) == ["web"]
    with place.stores() as stores:
        assert [one.kind for one in stores.operations.history(environment="test")][:2] == ["rehearsal", "update"]


async def test_a_run_that_was_killed_is_reported_by_the_agent_and_its_container_is_gone_before_the_next(
    place: Place,
) -> None:
    place.declare(
        WEB + TIDY.replace("echo removed 3 files", "[ -e /tmp/x ] || sleep 30"),
        schedules=json.dumps({"long": {"run": {"service": "tidy"}, "at": "every hour"}}),
    )
    await startup("test")
    child = roas("schedule", "run", "test", "long")
    await until(lambda: [one for one in containers_of_jobs(place) if one.endswith("running")] != [])
    with place.stores() as stores:
        (going_on,) = stores.scheduled_runs.latest("test", "long", 1)
    assert going_on.runner is not None
    subprocess.run(["kill", "-9", str(going_on.runner.pid)], check=True)
    child.communicate()
    assert await judge_schedules(find_environment("test")) != []
    (title,) = open_tickets(place)
    assert title.endswith("its process was ended before it was done")
    (left,) = containers_of_jobs(place)
    again = asyncio.create_task(run("long"))
    left_name = left.split()[0]

    def running_anew() -> list[str]:
        names = [one.removesuffix(" running") for one in containers_of_jobs(place) if one.endswith(" running")]
        return [name for name in names if name != left_name]

    await until(lambda: bool(running_anew()))
    assert left_name not in [one.split()[0] for one in containers_of_jobs(place)]
    subprocess.run(["docker", "kill", running_anew()[0]], check=True, capture_output=True)
    assert (await again).state is ScheduledState.FAILED


async def test_a_name_that_the_file_does_not_have_is_refused_with_those_it_has(place: Place) -> None:
    place.declare(WEB, schedules=json.dumps({"tidy": {"run": "drift", "at": "every hour"}}))
    with pytest.raises(NotFoundError, match="no schedule 'nope'; its file has tidy"):
        await scheduled("test", "nope")


def test_deployments_carry_the_schedules_of_the_file(place: Place) -> None:
    place.declare(
        WEB,
        schedules=json.dumps({"look": {"run": "drift", "at": "every day 03:00 Europe/Berlin"}}),
    )
    (deployment,) = [one for one in deployments_of("test") if one.flow_name == "scheduled"]
    (schedule,) = deployment.schedules
    assert (schedule.slug, schedule.parameters) == ("look", {"schedule": "look"})
    assert schedule.schedule.model_dump(include={"cron", "timezone"}) == {
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
    }
