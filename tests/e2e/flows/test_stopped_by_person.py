"""Who stopped a service: a person, for as long as it stays stopped, or an engine that was killed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from flows.deployment.startup import startup
from models.environments import Environment
from tasks.recovery.records import stopped_by_person
from tasks.runtime.clients import engine_of, find_environment
from tests.e2e.flows.conftest import Place, forget_events, well
from tests.support.engines import OwnEngine

pytestmark = [pytest.mark.engine, pytest.mark.flow]


def tells_of_a_stop(environment: Environment) -> bool:
    now = datetime.now(UTC)
    with engine_of(environment).events.stream(environment.project, now - timedelta(hours=1), now) as events:
        return any(event.action == "stop" for event in events)


@pytest.mark.campaign
async def test_that_a_person_stopped_it_is_known_when_the_engine_has_forgotten(
    place: Place, own_engine: OwnEngine
) -> None:
    place.declare(well("base"), engine=own_engine.address)
    await startup("test")
    environment = find_environment("test")
    own_engine.docker("stop", "--time", "1", place.container("base"))
    assert await stopped_by_person(environment, "base")

    forget_events(own_engine.address)
    assert not tells_of_a_stop(environment)
    assert await stopped_by_person(environment, "base")

    own_engine.docker("start", place.container("base"))
    own_engine.docker("kill", place.container("base"))
    assert not await stopped_by_person(environment, "base"), "that was a life before"


async def test_what_an_engine_ends_when_it_comes_back_was_stopped_by_nobody(
    place: Place, own_engine: OwnEngine
) -> None:
    place.declare(well("base", restart="unless-stopped"), engine=own_engine.address)
    await startup("test")
    environment = find_environment("test")
    await asyncio.to_thread(own_engine.kill)
    await asyncio.to_thread(own_engine.start)

    assert own_engine.docker("ps", "--all", "--format", "{{.State}}").split() == ["exited"]
    assert tells_of_a_stop(environment), "it looks as if a person had asked for it"
    assert not await stopped_by_person(environment, "base")
