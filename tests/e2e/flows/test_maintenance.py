"""Maintenance of a host on a real engine: order, what stays stopped, kills at each record, boots, an engine restart."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.deployment.maintain import bring_up, maintain
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from models.maintenance import Maintenance, Stage
from tasks.deployment.maintenance import find_running, keep_maintenance, plan_maintenance, read_maintenance
from tests.e2e.flows.conftest import IMAGE, Place, end, until, well
from tests.e2e.flows.test_needs import data_of, watched, write
from tests.support.docker_command import docker_command
from tests.support.engines import OwnEngine
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.prefect_server import server_variables
from tests.support.projects import remove_project

pytestmark = [pytest.mark.engine, pytest.mark.flow]

HOUR = timedelta(hours=1)


@pytest.fixture
def pair(place: Place) -> Iterator[Place]:
    """`test` needs `data`; both have a service beside it that a person may stop."""
    data = declare(place)
    yield place
    remove_project(place.project)
    remove_project(data.project)


def declare(place: Place, **fields: object) -> Place:
    data = replace(place, project=f"roas-test-{secrets.token_hex(4)}")
    # Nothing says that the keeper is to stay up, so that a restart leaves it.
    keeper = f"keeper: {{image: {IMAGE}, init: true, command: [sleep, infinity]}}\n"
    write(data, "data", well("db") + keeper, "", **fields)
    write(place, "test", well("web") + well("extra"), "", needs="[data/db]", **fields)
    return data


async def planned(**values: object) -> Maintenance:
    found, _ = await find_running()
    return plan_maintenance("kernel", HOUR).model_copy(update={"environments": found} | values)


def kinds(place: Place, name: str) -> list[str]:
    with place.stores() as stores:
        return [operation.kind for operation in reversed(stores.operations.latest_recorded(name))]


def up(pair: Place) -> list[str]:
    return [*data_of(pair).containers(running=True), *pair.containers(running=True)]


async def test_all_stops_in_order_and_what_ran_comes_up_again_and_what_a_person_stopped_does_not(pair: Place) -> None:
    data = data_of(pair)
    await startup("data")
    await startup("test")
    docker_command("stop", pair.container("extra"))
    plan = await planned(command="upgrade")
    assert [(one.name, one.services) for one in plan.environments] == [("test", ("web",)), ("data", ("db", "keeper"))]
    running = "; ".join(f"docker ps -q --filter label=com.docker.compose.project={of.project}" for of in (pair, data))
    ended = await maintain(plan, ["/bin/sh", "-c", f"{running}; echo upgraded"])
    assert (ended.success, ended.output) == (True, ("upgraded",)), ended
    assert [line.partition(", down for")[0] for line in ended.lines] == [
        "the command ended with exit code 0", "test: up", "data: up",
    ]  # fmt: skip
    assert up(pair) == ["db", "keeper", "web"]
    assert (kinds(pair, "data"), kinds(pair, "test")) == (["start", "stop", "restart"],) * 2
    with pair.stores() as stores:
        stopped, started = (
            [stores.operations.get(getattr(one, what)).started_at for one in plan.environments]
            for what in ("after", "start_id")
        )
        assert stopped == sorted(stopped)
        assert started == sorted(started, reverse=True)
        assert stores.operations.get(plan.environments[0].after).user_agent == plan.title.partition(":")[0]
        assert list(stores.pauses.active(datetime.now(UTC))) == []
    assert (read_maintenance(), read_maintenance("last.json")) == (None, ended)


@pytest.mark.campaign(seconds=60)
async def test_what_a_person_did_meanwhile_stays_and_what_cannot_be_stopped_ends_it(pair: Place) -> None:
    data = data_of(pair)
    await startup("data")
    await startup("test")
    waiting = await maintain(await planned(), [])
    assert (waiting.stage, up(pair)) == (Stage.STOPPED, [])
    with pair.stores() as stores:
        assert {pause.reason for pause in stores.pauses.active(datetime.now(UTC))} == {waiting.title}
        stores.pauses.pause("test", None, None, "mine", "ann", datetime.now(UTC))
    await stop("data", confirm="data")
    ended = await bring_up(waiting)
    assert ended.lines[0] == "test: left: ann paused its recovery since"
    assert ended.lines[1].startswith("data: left: stop data-")
    assert (ended.success, up(pair)) == (True, [])

    await startup("data")
    docker_command("start", pair.container("web"))
    plan = await planned(command="upgrade")
    with pair.stores() as stores:
        stores.pauses.resume("test", None)
    compose = pair.folder / "compose" / "data.yaml"
    text = compose.read_text()
    compose.write_text(f"{text}: broken")
    ended = await maintain(plan, ["/bin/sh", "-c", f"touch {pair.folder}/worked"])
    compose.write_text(text)
    assert not ended.success
    assert ended.worked.startswith("nothing was done, since not all could be stopped")
    assert not (pair.folder / "worked").exists()
    assert data.containers(running=True) == ["db", "keeper"]


KILLED = """
import asyncio, os, signal, sys
from flows.deployment import maintain as module
from models.maintenance import Maintenance
keep, left = module.keep_maintenance, [int(sys.argv[1])]
def keep_and_die(maintenance, *more):
    left[0] -= 1
    if left[0] == 0 and sys.argv[2] == "before": os.kill(os.getpid(), signal.SIGKILL)
    kept = keep(maintenance, *more)
    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
    return kept
module.keep_maintenance = keep_and_die
plan = Maintenance.model_validate_json(sys.stdin.read())
asyncio.run(module.maintain(plan, ["/bin/sh", "-c", f"echo . >> {sys.argv[3]}"]))
"""
RECORDS = 9
"""Of two environments: the plan, each stop, stopped, working, worked, starting, each start."""


@pytest.mark.campaign(seconds=400)
async def test_killed_before_or_after_any_record_all_comes_up_once_and_the_work_is_never_repeated(pair: Place) -> None:
    await startup("data")
    await startup("test")
    for number in range(1, RECORDS + 1):
        for when in ("before", "after"):
            worked = pair.folder / f"{number}-{when}"
            plan = await planned(command="upgrade")
            words = [sys.executable, "-c", KILLED, str(number), when, str(worked)]
            killed = subprocess.run(
                words, input=plan.model_dump_json().encode(), env=os.environ | server_variables(), check=False,
                capture_output=True,
            )  # fmt: skip
            assert killed.returncode == -signal.SIGKILL, (number, when, killed.stderr)
            if (left := read_maintenance()) is not None:
                if left.stage is Stage.STOPPING and when == "after":
                    await maintain(left, ["/bin/sh", "-c", f"echo . >> {worked}"])
                else:
                    await bring_up(left)
            assert up(pair) == ["db", "keeper", "extra", "web"], (number, when)
            assert read_maintenance() is None
            assert not worked.exists() or worked.read_text() == ".\n", (number, when)
            with pair.stores() as stores:
                assert list(stores.pauses.active(datetime.now(UTC))) == []
                assert not stores.tickets.find()


@pytest.mark.campaign(seconds=90)
async def test_the_agent_brings_up_after_a_reboot_and_after_an_unannounced_boot(pair: Place) -> None:
    await startup("data")
    await startup("test")
    docker_command("stop", pair.container("extra"))
    waiting = await maintain(await planned(reboot=True), [])
    keep_maintenance(waiting.model_copy(update={"stage": Stage.WORKING, "boot": "before the boot"}))
    async with watched():
        await until(lambda: read_maintenance() is None)
        assert up(pair) == ["db", "keeper", "web"]
        docker_command("start", pair.container("extra"))
        await until(lambda: pair.health("extra") == "healthy")
        docker_command("stop", pair.container("extra"))
        with pair.stores() as stores:
            # Of a stop that nobody saw the engine forgets; the agent has noted this one.
            await until(lambda: "extra" in stores.progress.last_changes("test"))
            await until(lambda: bool(stores.progress.last_changes("test")["extra"].details.get("on_request")))
    ended = read_maintenance("last.json")
    assert ended is not None
    assert (ended.success, ended.worked) == (True, "the machine booted")

    for gone, service in ((data_of(pair), "db"), (pair, "web")):
        end(gone, service)
    (pair.folder / "data" / "maintenance" / "boot").write_text("before the boot")
    async with watched():
        await until(lambda: read_maintenance() is None)
    assert up(pair) == ["db", "keeper", "web"]
    ended = read_maintenance("last.json")
    assert ended is not None
    assert ended.reason == "the machine booted unannounced"
    assert ended.lines == ("test: up", "data: up")
    with pair.stores() as stores:
        assert list(stores.recoveries.find()) == []
        assert list(stores.pauses.active(datetime.now(UTC))) == []


@pytest.mark.campaign(seconds=60)
async def test_all_comes_up_after_a_real_restart_of_the_engine(place: Place, own_engine: OwnEngine) -> None:
    declare(place, engine=own_engine.address)
    await startup("data")
    await startup("test")
    begun, restarted = place.folder / "begun", place.folder / "restarted"
    work = f"touch {begun}; until test -e {restarted}; do sleep 0.1; done"
    maintaining = asyncio.create_task(maintain(await planned(command="restart"), ["/bin/sh", "-c", work]))
    await until(begun.exists)
    assert own_engine.docker("ps", "-q") == ""
    await asyncio.to_thread(own_engine.stop)
    await asyncio.to_thread(own_engine.start)
    restarted.touch()
    ended = await maintaining
    assert ended.success, ended.lines
    assert len(own_engine.docker("ps", "-q").split()) == 4
