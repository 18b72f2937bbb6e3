"""The engine goes away in the middle of a start: killed as by a crash, on an engine of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from flows.deployment.startup import startup
from models.failures import StartFailedError
from models.health import Health
from models.operations import OperationStatus
from models.results import OperationResult
from tasks.monitoring.events import watch_project
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, until, well
from tests.support.engines import OwnEngine

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]

# It becomes well only when the test says so.
LATER = f"""
base:
  image: {IMAGE}
  init: true
  restart: always
  command: [sleep, '600']
  healthcheck: {HEALTH.replace("start_period: 10s", "start_period: 60s")}
"""


def runs(engine: OwnEngine, container: str) -> bool:
    return engine.docker("ps", "--filter", f"name={container}", "--filter", "status=running", "--quiet") != ""


async def test_a_start_goes_on_when_the_engine_comes_back(place: Place, own_engine: OwnEngine) -> None:
    place.declare(
        LATER + well("top", restart="always", depends_on="{base: {condition: service_healthy}}"),
        engine=own_engine.address,
    )
    starting = asyncio.create_task(startup("test"))
    await until(lambda: runs(own_engine, place.container("base")))

    await asyncio.to_thread(own_engine.kill)
    await asyncio.to_thread(own_engine.start)
    await until(lambda: runs(own_engine, place.container("base")))
    own_engine.docker("exec", place.container("base"), "touch", "/tmp/well")
    result = await starting

    assert isinstance(result, OperationResult)
    assert result.success
    assert result.health is not None
    assert result.health.overall is Health.HEALTHY


async def test_a_start_whose_engine_stays_away_says_so_in_time(place: Place, own_engine: OwnEngine) -> None:
    place.declare(LATER, engine=own_engine.address, services="{base: {start_timeout_seconds: 2}}")
    starting = asyncio.create_task(startup("test"))
    await until(lambda: runs(own_engine, place.container("base")))

    await asyncio.to_thread(own_engine.kill)

    with pytest.raises(StartFailedError, match="base could not be proven, because the engine went away"):
        await starting
    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
        assert operation.status is OperationStatus.FAILED
        assert "engine went away" in str(operation.details["reason"])


async def test_a_container_that_went_with_the_engine_fails_the_start(place: Place, own_engine: OwnEngine) -> None:
    place.declare(LATER.replace("restart: always", "restart: 'no'"), engine=own_engine.address)
    starting = asyncio.create_task(startup("test"))
    await until(lambda: runs(own_engine, place.container("base")))

    await asyncio.to_thread(own_engine.kill)
    await asyncio.to_thread(own_engine.start)

    with pytest.raises(StartFailedError, match="the engine went away meanwhile"):
        await starting


async def test_a_watch_hears_events_again_after_the_engine_was_killed(place: Place, own_engine: OwnEngine) -> None:
    place.declare(LATER, engine=own_engine.address)
    environment = find_environment("test")
    label = "com.docker.compose"
    labels = ("--label", f"{label}.project={place.project}", "--label", f"{label}.service=base")
    async with watch_project(Project(environment)) as watch:
        await asyncio.to_thread(own_engine.kill)
        await until(lambda: watch.containers("base") is None)
        await asyncio.to_thread(own_engine.start)
        await until(lambda: watch.containers("base") is not None)

        made = own_engine.docker("create", *labels, IMAGE, "true").strip()

        await until(lambda: watch.containers("base") == (made,))
        own_engine.docker("rm", made)
        await until(lambda: watch.containers("base") == ())
    assert [seen.container_id for seen in Project(environment).engine.containers.inspect_all([made])] == []
