"""Who stopped a service: a person, for as long as it stays stopped, or an engine that was killed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from adapters.pattern_files import shipped_set
from core.errors.classify import classify
from core.recovery.triage import STOPPED, perhaps_stopped
from flows.deployment.startup import startup
from flows.recovery.error_recovery import error_recovery
from flows.recovery.watch import watch
from models.environments import Environment
from models.errors import RecordedError
from models.recovery import RecoveryMethod
from tasks.recovery.stops import stop_of
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project
from tests.e2e.flows.conftest import Place, forget_events, well
from tests.support.engines import OwnEngine
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

HOUR = timedelta(hours=1)


def tells_of_a_stop(environment: Environment) -> bool:
    now = datetime.now(UTC)
    with Project(environment).engine.events.stream(environment.project, now - timedelta(hours=1), now) as events:
        return any(event.action == "stop" for event in events)


@pytest.mark.campaign
async def test_that_a_person_stopped_it_is_known_when_the_engine_has_forgotten(
    place: Place, own_engine: OwnEngine
) -> None:
    place.declare(well("base"), engine=own_engine.address)
    await startup("test")
    environment = find_environment("test")
    own_engine.docker("stop", "--time", "1", place.container("base"))
    assert await stop_of(Project(environment), "base") == STOPPED

    forget_events(own_engine.address)
    assert not tells_of_a_stop(environment)
    assert await stop_of(Project(environment), "base") == STOPPED

    own_engine.docker("start", place.container("base"))
    own_engine.docker("kill", place.container("base"))
    assert await stop_of(Project(environment), "base") is None, "that was a life before"


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
    assert await stop_of(Project(environment), "base") is None


async def test_what_was_down_before_it_was_watched_is_reported_and_not_started_where_nobody_operated_it(
    place: Place, own_engine: OwnEngine, caplog: pytest.LogCaptureFixture
) -> None:
    place.declare(well("base"), engine=own_engine.address)
    environment, container = find_environment("test"), place.container("base")
    own_engine.docker("compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "up", "-d", "--wait")
    own_engine.docker("kill", container)
    assert await stop_of(Project(environment), "base") is None, "the engine shows that nobody stopped it"
    forget_events(own_engine.address)

    ended = datetime.now(UTC)
    container_id = own_engine.docker("inspect", "-f", "{{.Id}}", container).strip()
    assert await stop_of(Project(environment), "base", {container_id: ended}) is None, "the caller saw its end"
    assert await stop_of(Project(environment), "base", {container_id: ended - HOUR}) == perhaps_stopped("test")
    assert await stop_of(Project(environment), "base") == perhaps_stopped("test")
    caplog.set_level("INFO", "roas")
    watching = asyncio.create_task(watch("test"))
    try:
        async with asyncio.timeout(300):
            while "base is not recovered: it was down before" not in caplog.text:  # noqa: ASYNC110 - a log sends no event
                await asyncio.sleep(0.05)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    for source in ("collection", "person"):
        left = await error_recovery("test", "base exited with code 137", service="base", source=source)
        assert left.method is RecoveryMethod.NONE_NEEDED
        assert "roas start test" in left.reason
    assert own_engine.docker("inspect", "-f", "{{.State.Status}}", container).split() == ["exited"]
    with place.stores() as stores:
        assert stores.recoveries.find(environment="test") == []

    with place.stores() as stores:
        for error in stores.errors.list_unresolved("test"):
            stores.errors.resolve(error.error_id, datetime.now(UTC), "another one is seen")
        seen = RecordedError(
            error_id="err-seen", environment="test", text="base exited", service="base", source="watch",
            verdict=classify("base exited with code 137", shipped_set()), first_seen=ended, last_seen=ended,
        )  # fmt: skip
        stores.errors.record(seen)
    assert await stop_of(Project(environment), "base") is None, "a watch saw its end, and recorded it"

    await startup("test")
    own_engine.docker("kill", container)
    forget_events(own_engine.address)
    assert await stop_of(Project(environment), "base") is None, "it was started here, so it is meant to run"
