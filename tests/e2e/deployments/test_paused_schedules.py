"""Schedules that an agent pauses on a real Prefect server: they come back without it, and a person decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect import Flow, get_client
from prefect.events.schemas.events import Event, Resource

from flows.agent.schedules import keep_schedules_paused, pause_schedules
from flows.deployment.drift import drift
from flows.monitoring.collection import collection
from flows.monitoring.health_check import health_check
from flows.server.automations import CARRIED, PAUSED_SCHEDULES, RELEASED, declare, resume_paused_schedules
from tests.support.prefect_server import ask, own_server, server_variables

pytestmark = [pytest.mark.campaign, pytest.mark.flow]

TIMEOUT_SECONDS = 300
GONE_AFTER = timedelta(seconds=16)
NEVER = timedelta(days=1)
AT_ONCE = timedelta(0)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # With all services, as `roas serve` has it: the server of the other tests has no automations.
    with own_server(tmp_path_factory.mktemp("prefect") / "home", with_ui=True) as url:
        yield url


async def scheduled(flow: Flow[..., object], name: str) -> UUID:
    deployment = await flow.ato_deployment(name=name, interval=timedelta(hours=1))
    return UUID(str(await deployment.aapply()))


async def is_paused(deployment: UUID) -> bool:
    async with get_client() as client:
        return (await client.read_deployment(deployment)).paused


async def pause(deployment: UUID, *, resume: bool = False) -> None:
    """As the switch in the UI does."""
    async with get_client() as client:
        await (client.resume_deployment if resume else client.pause_deployment)(deployment)


async def until(reached: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not await reached():
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.3)


def count(api: str, event: str, deployment: UUID) -> int:
    """How many events of this kind the server has of a deployment."""
    asked = {
        "event": {"name": [event]},
        "any_resource": {"id": [f"prefect.deployment.{deployment}"]},
        "occurred": {"until": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    }
    answer = ask(api, server_variables()["PREFECT_API_AUTH_STRING"], "events/filter", {"filter": asked})
    return int(answer["total"])


async def look(api: str, deployment: UUID, name: str, event: str) -> None:
    """Let an agent look once, and wait until the server shows the event that it sends of a deployment."""
    before = count(api, event, deployment)
    await pause_schedules([name], NEVER, AT_ONCE)

    async def is_shown() -> bool:
        return count(api, event, deployment) > before

    await until(is_shown, event)


async def tell(deployment: UUID, event: str, occurred: datetime, **payload: bool) -> None:
    """Send the server an event of a deployment, as an agent or the server's own automation does."""
    resource = {"prefect.resource.id": f"prefect.deployment.{deployment}", "prefect.resource.name": PAUSED_SCHEDULES}
    sent = Event(occurred=occurred, event=event, resource=Resource(resource), payload=payload)
    async with get_client() as client:
        await client.request("POST", "/events", json=[sent.model_dump(mode="json")])


async def until_shown(api: str, event: str, deployment: UUID) -> None:
    async def is_shown() -> bool:
        return count(api, event, deployment) > 0

    await until(is_shown, event)


async def until_resumed(deployment: UUID) -> None:
    async def is_resumed() -> bool:
        return not await is_paused(deployment)

    await until(is_resumed, "the schedule")


async def test_an_agent_pauses_what_it_does_and_nothing_else_and_says_so_where_it_is_seen(api: str) -> None:
    carried = [await scheduled(flow, "one") for flow in (collection, health_check)]
    others = [await scheduled(drift, "one"), await scheduled(collection, "one-elsewhere")]

    await pause_schedules(["one"], NEVER)

    assert [await is_paused(deployment) for deployment in carried + others] == [True, True, False, False]
    async with get_client() as client:
        descriptions = [(await client.read_deployment(deployment)).description or "" for deployment in carried]
    assert all("Paused while an agent carries the environment" in text for text in descriptions)


async def test_an_environment_that_comes_later_is_paused_and_one_that_is_not_carried_comes_back(api: str) -> None:
    first, later, names = await scheduled(collection, "two"), await scheduled(collection, "two-later"), ["two"]
    agent = asyncio.create_task(keep_schedules_paused(lambda: names, GONE_AFTER))
    try:
        await until(lambda: is_paused(first), "the first pause")
        names[:] = ["two-later"]
        await until(lambda: is_paused(later), "the later pause")
        await until_resumed(first)
        await until(lambda: is_paused(later), "the pause that the agent keeps")
    finally:
        agent.cancel()
    await until_resumed(later)


async def test_what_a_person_paused_before_the_agent_came_stays_paused_when_it_is_gone(api: str) -> None:
    his, ours = await scheduled(collection, "three"), await scheduled(health_check, "three")
    await pause(his)
    agent = asyncio.create_task(keep_schedules_paused(lambda: ["three"], GONE_AFTER))
    await until(lambda: is_paused(ours), "our pause")
    agent.cancel()

    await until_resumed(ours)

    assert await is_paused(his)
    assert count(api, CARRIED, his) == 0


async def test_what_a_person_resumes_beside_an_agent_stays_his_also_for_the_next_agent(api: str) -> None:
    his = await scheduled(collection, "four")
    await look(api, his, "four", CARRIED)
    await look(api, his, "four", CARRIED)
    await pause(his, resume=True)

    await look(api, his, "four", RELEASED)
    await look(api, his, "four", RELEASED)

    assert not await is_paused(his)
    await pause(his)
    await look(api, his, "four", RELEASED)
    assert await is_paused(his)


async def test_what_a_person_paused_after_the_server_resumed_it_is_not_resumed_for_the_next_agent(api: str) -> None:
    his = await scheduled(collection, "five")
    await pause_schedules(["five"], GONE_AFTER)
    await until_resumed(his)

    async def is_known() -> bool:
        return count(api, "prefect.automation.action.executed", his) == 1

    await until(is_known, "the event of the automation")
    await pause(his)
    carried = count(api, CARRIED, his)

    await pause_schedules(["five"], GONE_AFTER)

    assert await is_paused(his)
    assert count(api, CARRIED, his) == carried
    await pause(his, resume=True)
    await look(api, his, "five", CARRIED)
    assert await is_paused(his), "the next agent pauses what the server resumed"


async def test_the_next_agent_pauses_what_one_announced_that_was_killed_before_it_paused(api: str) -> None:
    schedule = await scheduled(collection, "seven")
    await tell(schedule, CARRIED, datetime.now(UTC), paused=False)
    await until_shown(api, CARRIED, schedule)

    await look(api, schedule, "seven", CARRIED)

    assert await is_paused(schedule)


async def test_an_agent_whose_clock_is_behind_the_servers_pauses_all_the_same(api: str) -> None:
    schedule = await scheduled(collection, "eight")
    await tell(schedule, "prefect.automation.action.executed", datetime.now(UTC) + timedelta(minutes=10))
    await until_shown(api, "prefect.automation.action.executed", schedule)

    await look(api, schedule, "eight", CARRIED)

    assert await is_paused(schedule)
    await look(api, schedule, "eight", CARRIED)
    await pause(schedule, resume=True)
    await look(api, schedule, "eight", RELEASED)
    assert not await is_paused(schedule), "what an agent sent counts as newer than what the server had"


async def test_an_automation_that_a_person_disabled_stays_disabled(api: str) -> None:
    async with get_client() as client:
        await declare(client, resume_paused_schedules(GONE_AFTER))
        (automation,) = await client.read_automations_by_name(PAUSED_SCHEDULES)
        await client.pause_automation(automation.id)

        await declare(client, resume_paused_schedules(NEVER))

        (declared,) = await client.read_automations_by_name(PAUSED_SCHEDULES)
        await client.resume_automation(automation.id)
    assert (declared.enabled, declared.trigger.within) == (False, NEVER)


async def test_an_agent_declares_what_resumes_the_schedules_before_it_pauses_one(api: str) -> None:
    async with get_client() as client:
        for automation in await client.read_automations_by_name(PAUSED_SCHEDULES):
            await client.delete_automation(automation.id)
        await pause_schedules(["six"], NEVER)
        assert await client.read_automations_by_name(PAUSED_SCHEDULES) == [], "nothing is scheduled there"

        await scheduled(collection, "six")
        await pause_schedules(["six"], NEVER)

        assert len(await client.read_automations_by_name(PAUSED_SCHEDULES)) == 1
