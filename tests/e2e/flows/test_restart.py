"""A restart rolls through the services, proves each, and asks those that need one of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flows.deployment.restart import restart
from flows.deployment.startup import startup
from models.failures import BadInputError, PausedError, StartFailedError
from models.operations import Operation, OperationStatus
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, make_well, never_well, well
from tests.e2e.flows.test_watch import until
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

SHARED = "\nvolumes: {shared: {}}\n"


def inspect(place: Place, service: str, number: int = 1) -> dict[str, Any]:
    name = f"{place.project}-{service}-{number}"
    reported = docker_command("inspect", name)
    state: dict[str, Any] = json.loads(reported)[0]["State"]
    return state


def started(place: Place, *services: str) -> dict[str, str]:
    return {service: inspect(place, service)["StartedAt"] for service in services}


def last(place: Place) -> Operation:
    with place.stores() as stores:
        return stores.operations.history(environment="test", limit=1)[0]


def dies_at_its_second_start(name: str, **more: str) -> str:
    lines = [
        f"{name}:",
        f"  image: {IMAGE}",
        "  init: true",
        "  command: [sh, -c, 'test -e /tmp/again && exit 4; touch /tmp/again /tmp/well; exec sleep 600']",
        f"  healthcheck: {HEALTH}",
        *(f"  {key}: {value}" for key, value in more.items()),
    ]
    return "\n".join(lines) + "\n"


NEEDS_BASE = "{base: {condition: service_healthy}}"


async def test_each_service_is_restarted_and_proven_after_what_it_needs(place: Place) -> None:
    place.declare(well("base") + well("middle", depends_on=NEEDS_BASE) + well("apart"))
    await startup("test")
    before = started(place, "base", "middle", "apart")

    result = await restart("test")

    assert result.success
    after = started(place, "base", "middle", "apart")
    assert all(after[name] > before[name] for name in before)
    assert after["base"] < after["middle"]
    with place.stores() as stores:
        changes = {change.service: change for change in stores.progress.changes(result.deployment_id)}
        assert {change.new_state for change in changes.values()} == {"healthy"}
        assert all("restart was asked for" in change.reason for change in changes.values())


async def test_a_service_that_does_not_come_back_stops_the_roll(place: Place) -> None:
    place.declare(dies_at_its_second_start("base") + well("middle", depends_on=NEEDS_BASE))
    await startup("test")
    before = started(place, "middle")

    with pytest.raises(StartFailedError, match="base"):
        await restart("test")

    assert started(place, "middle") == before
    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
        assert operation.status is OperationStatus.FAILED
        assert operation.details["left_as_they_were"] == ["middle"]
        (change,) = stores.progress.changes(operation.deployment_id)
        assert (change.service, change.new_state) == ("base", "failed")
        assert "exit code 4" in change.reason
        assert stores.errors.list_unresolved("test")[0].service == "base"


async def test_a_job_and_what_was_stopped_are_not_started_by_a_restart_of_all(place: Place) -> None:
    job = f"job:\n  image: {IMAGE}\n  command: [sh, -c, 'exit 0']\n"
    place.declare(well("base") + well("idle") + job)
    await startup("test")
    docker_command("stop", "-t", "1", place.container("idle"))
    before = started(place, "idle", "job")

    result = await restart("test")

    assert started(place, "idle", "job") == before
    assert [one.service for one in result.services if not one.kept] == ["base"]


@pytest.mark.campaign
async def test_a_dependant_that_gets_over_it_is_asked_and_left_alone(place: Place) -> None:
    place.declare(
        well("base") + well("user", depends_on=NEEDS_BASE),
        services="{user: {probe: {kind: command, command: [test, -e, /tmp/well]}}}",
    )
    await startup("test")
    before = started(place, "user")

    result = await restart("test", services=["base"])

    assert started(place, "user") == before
    with place.stores() as stores:
        assert [change.service for change in stores.progress.changes(result.deployment_id)] == ["base"]
        asked = stores.operations.get(result.deployment_id).details["asked_again"]
        assert "base was restarted; user stays as it is" in asked["user"]


@pytest.mark.campaign
async def test_a_dependant_that_does_not_get_over_it_is_restarted_with_its_cause(place: Place) -> None:
    # `user` mends itself by its own restart only: it makes the file that its probe looks for, and base removes it.
    base = well("base", volumes="['shared:/shared']").replace(
        "touch /tmp/well;", "rm -f /shared/link; touch /tmp/well;"
    )
    user = well("user", volumes="['shared:/shared']", depends_on=NEEDS_BASE).replace(
        "touch /tmp/well;", "touch /shared/link /tmp/well;"
    )
    last = well("last", depends_on="{user: {condition: service_healthy}}")
    place.declare(
        base + user + last,
        services="{user: {probe: {kind: command, command: [test, -e, /shared/link]}}}",
    )
    file = place.folder / "compose.yaml"
    file.write_text(file.read_text() + SHARED)
    await startup("test")
    before = started(place, "user", "last")

    result = await restart("test", services=["base"])

    after = started(place, "user", "last")
    assert after["user"] > before["user"]
    assert after["last"] == before["last"]
    with place.stores() as stores:
        changes = {change.service: change for change in stores.progress.changes(result.deployment_id)}
        assert set(changes) == {"base", "user"}
        assert changes["user"].details["cause"] == ["base"]
        assert "base was restarted, and user did not get over it" in changes["user"].reason
        assert "last" in stores.operations.get(result.deployment_id).details["asked_again"]


@pytest.mark.campaign
async def test_replicas_are_restarted_one_after_the_other(place: Place) -> None:
    place.declare(well("base", deploy="{replicas: 2}"))
    await startup("test")

    result = await restart("test")

    first, second = sorted((inspect(place, "base", number) for number in (1, 2)), key=lambda one: str(one["StartedAt"]))
    assert first["StartedAt"] < second["FinishedAt"] < second["StartedAt"]
    with place.stores() as stores:
        (change,) = stores.progress.changes(result.deployment_id)
        assert change.details["one_after_the_other"] == 2


@pytest.mark.campaign
async def test_a_paused_service_comes_back_without_being_killed(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    docker_command("pause", place.container("base"))

    await restart("test", services=["base"])

    assert inspect(place, "base")["Status"] == "running"


@pytest.mark.campaign
@pytest.mark.parametrize("services", [None, ["base"]], ids=["of all", "of what it needs"])
@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
async def test_a_restart_leaves_what_a_person_paused(place: Place, services: list[str] | None, *, early: bool) -> None:
    def pause() -> None:
        docker_command("pause", place.container("top"))

    place.declare(never_well(well("base")) + well("top", depends_on=NEEDS_BASE))
    ready = asyncio.create_task(asyncio.to_thread(make_well, place.container("base")))
    await startup("test")
    await ready
    before = started(place, "base", "top")
    docker_command("exec", place.container("base"), "rm", "/tmp/well")
    if early:
        pause()
    restarting = asyncio.create_task(restart("test", services=services))
    await until(lambda: started(place, "base") != {"base": before["base"]})
    if not early:
        pause()
    await asyncio.to_thread(make_well, place.container("base"))

    result = await restarting

    assert (inspect(place, "top")["Status"], started(place, "top")["top"]) == ("paused", before["top"])
    assert [one.service for one in result.services if not one.kept] == ["base"]


@pytest.mark.campaign
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_killed_restart_leaves_what_a_person_paused_since(place: Place, moment: str) -> None:
    place.declare(well("base") + well("top", depends_on=NEEDS_BASE))
    await startup("test")
    killed_flow("restart", {"environment": "test"}, moment, "restarted", "base")
    killed = last(place)
    before = started(place, "top")
    docker_command("pause", place.container("top"))

    for deployment_id in (killed.deployment_id, None):
        result = await restart("test", deployment_id=deployment_id)

        assert last(place).status is OperationStatus.SUCCESS
        assert (inspect(place, "top")["Status"], started(place, "top")) == ("paused", before)
        assert "docker unpause" in next(one.reason for one in result.services if one.service == "top")


@pytest.mark.campaign
async def test_a_killed_restart_of_a_service_that_a_person_paused_since_ends_and_says_so(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    killed_flow("restart", {"environment": "test", "services": ["base"]}, "before", "restarted", "base")
    killed, before = last(place), started(place, "base")
    docker_command("pause", place.container("base"))

    with pytest.raises(PausedError, match=f"{place.container('base')} is paused"):
        await restart("test", services=["base"], deployment_id=killed.deployment_id)

    assert last(place).status is OperationStatus.FAILED
    assert (inspect(place, "base")["Status"], started(place, "base")) == ("paused", before)


async def test_an_unknown_service_is_refused_before_anything_is_touched(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    before = started(place, "base")

    with pytest.raises(BadInputError, match="nobody"):
        await restart("test", services=["nobody"])

    assert started(place, "base") == before
