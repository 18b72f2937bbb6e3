"""A stop honours graces, reports killed services, touches nothing that is not its own, and is remembered."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from core.recovery.triage import STOPPED
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from tasks.recovery.stops import stop_of
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, well
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]


def stubborn(name: str, handler: str, grace: str) -> str:
    """A service that does `handler` when it is asked to end."""
    return (
        f"{name}:\n  image: {IMAGE}\n  stop_grace_period: {grace}\n  restart: always\n"
        f"  command: [sh, -c, \"trap '{handler}' TERM; touch /tmp/well; while true; do sleep 0.1; done\"]\n"
        f"  healthcheck: {HEALTH}\n"
    )


def inspect(name: str) -> dict[str, Any]:
    reported = docker_command("inspect", name)
    found: dict[str, Any] = json.loads(reported)[0]
    return found


async def test_a_killed_container_is_reported_and_one_that_ended_in_time_is_not(place: Place) -> None:
    place.declare(stubborn("deaf", ":", "1s") + stubborn("good", "exit 0", "5s"))
    await startup("test")

    result = await stop("test")

    with place.stores() as stores:
        changes = {change.service: change for change in stores.progress.changes(result.deployment_id)}
    assert "was killed (exit code 137)" in changes["deaf"].reason
    assert "grace period of 1 s" in changes["deaf"].reason
    assert "ended with exit code 0" in changes["good"].reason
    assert changes["good"].details["exit_codes"] == {place.container("good"): 0}


@pytest.mark.campaign
async def test_the_declared_grace_counts_also_where_the_container_was_made_with_a_shorter_one(place: Place) -> None:
    place.declare(stubborn("slow", "sleep 2; exit 0", "1s"))
    await startup("test")
    place.declare(stubborn("slow", "sleep 2; exit 0", "20s"))

    await stop("test")

    assert inspect(place.container("slow"))["Config"]["StopTimeout"] == 1
    assert inspect(place.container("slow"))["State"]["ExitCode"] == 0


@pytest.mark.campaign
async def test_a_paused_container_may_end_by_itself(place: Place) -> None:
    place.declare(stubborn("good", "exit 0", "20s"))
    await startup("test")
    docker_command("pause", place.container("good"))

    await stop("test")

    assert inspect(place.container("good"))["State"]["ExitCode"] == 0


@pytest.mark.campaign
async def test_one_off_and_undeclared_containers_are_named_and_go_on(place: Place) -> None:
    place.declare(well("base") + well("old"))
    await startup("test")
    place.declare(well("base"))
    compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml")]
    one_off = subprocess.run([*compose, "run", "-d", "base"], check=True, capture_output=True, text=True).stdout.strip()

    result = await stop("test")

    name = inspect(one_off)["Name"].removeprefix("/")
    with place.stores() as stores:
        alone = stores.operations.get(result.deployment_id).details["left_alone"]
    assert set(alone) == {name, place.container("old")}
    assert inspect(one_off)["State"]["Running"]
    assert inspect(place.container("old"))["State"]["Running"]
    assert not inspect(place.container("base"))["State"]["Running"]
    docker_command("rm", "-f", one_off)


@pytest.mark.campaign
async def test_a_crash_loop_ends_and_a_second_stop_finds_nothing_to_do(place: Place) -> None:
    place.declare(f"loop:\n  image: {IMAGE}\n  command: [sh, -c, 'exit 3']\n  restart: always\n")
    subprocess.run(
        ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "up", "-d"],
        check=True, capture_output=True,
    )  # fmt: skip

    await stop("test")
    again = await stop("test")

    assert inspect(place.container("loop"))["State"]["Status"] == "exited"
    assert [one.kept for one in again.services] == [True]
    with place.stores() as stores:
        assert stores.progress.changes(again.deployment_id) == []


async def test_recovery_leaves_alone_what_was_stopped_here_and_takes_what_crashed_since(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    await stop("test")
    environment = find_environment("test")
    with place.stores() as stores:
        assert stores.progress.last_changes("test")["base"].details["on_request"] is True

    assert await stop_of(Project(environment), "base") == STOPPED
    docker_command("start", place.container("base"))
    docker_command("kill", place.container("base"))
    assert await stop_of(Project(environment), "base") is None
