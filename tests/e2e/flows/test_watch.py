from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from adapters.pattern_files import shipped_set
from core.errors.classify import classify
from core.recovery.tracker import LOOP
from core.recovery.triage import STOPPED
from flows.deployment.restart import restart
from flows.deployment.startup import startup
from flows.recovery.watch import watch
from models.errors import RecordedError
from models.recovery import Ticket
from tasks.monitoring.events import in_hand
from tasks.recovery.stops import stop_of
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import Place, forget_events, until, well
from tests.support.docker_command import docker_command
from tests.support.engines import OwnEngine
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

PAIR = well("base") + well("top", depends_on="{base: {condition: service_healthy}}")


@asynccontextmanager
async def watching(place: Place) -> AsyncIterator[asyncio.Task[object]]:
    """A watch that has swept once."""
    task = asyncio.create_task(watch("test"))
    try:
        with place.stores() as stores:
            await until(lambda: "watch/test" in stores.heartbeats.all())
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_killed_service_is_recovered_at_once(place: Place) -> None:
    place.declare(PAIR)
    await startup("test")
    async with watching(place):
        docker_command("kill", place.container("base"))
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            (error,) = stores.errors.latest("test")

    assert (error.service, error.source) == ("base", "watch")
    assert error.resolved_at is not None
    assert place.containers(running=True) == ["base", "top"]


async def test_commands_that_a_person_runs_beside_a_service_are_no_crash_loop_of_it(place: Place) -> None:
    place.declare(well("base", restart="always"))
    await startup("test")
    run = ("compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "run", "--rm", "base")
    async with watching(place):
        for _ in range(LOOP):
            await asyncio.to_thread(docker_command, *run, "true")
        docker_command("kill", place.container("base"))
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            (error,) = stores.errors.latest("test")

    assert "crash loop" not in error.verdict.reason + error.text
    assert error.count == 1


@pytest.mark.campaign
async def test_a_slow_receiver_of_notifications_delays_no_recovery(place: Place) -> None:
    place.declare(PAIR, notify="[custom-webhook/slow]")
    await startup("test")
    now = datetime.now(UTC)
    reported = RecordedError(
        error_id="err-slow", environment="test", text="top is slow", source="person",
        verdict=classify("it timed out", shipped_set()),
        first_seen=now, last_seen=now, service="top",
    )  # fmt: skip
    with place.stores() as stores:
        stores.errors.record(reported)
        stores.tickets.open(
            Ticket(ticket_id="tic-slow", error_id="err-slow", environment="test", title="top", opened_at=now)
        )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        await CustomWebhookNotificationBlock(name="slow", url=url, timeout=60).save("slow", overwrite=True)
        async with watching(place):
            # The first sweep reported the ticket, and it has no answer.
            connection, _ = await asyncio.to_thread(silent.accept)
            killed_at = datetime.now(UTC)
            docker_command("kill", place.container("base"))
            with place.stores() as stores:
                await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
                (recovery,) = stores.recoveries.find(environment="test")
            connection.close()
            silent.close()

    assert recovery.detected_at is not None
    assert recovery.detected_at - killed_at < timedelta(seconds=10)


@pytest.mark.campaign
async def test_what_a_start_of_the_engine_left_down_is_brought_up_causes_first(
    place: Place, own_engine: OwnEngine
) -> None:
    names = ["base", "other", "third"]
    services = [well(name) for name in names] + [well("top", depends_on="{base: {condition: service_healthy}}")]
    place.declare("".join(services), engine=own_engine.address)
    await startup("test")
    await asyncio.to_thread(own_engine.kill)
    await asyncio.to_thread(own_engine.start)
    assert own_engine.docker("ps", "--format", "{{.Names}}") == ""

    async with watching(place):
        with place.stores() as stores:
            await until(lambda: len(own_engine.docker("ps", "--quiet").split()) == 4, seconds=300)
            tickets = stores.tickets.find(environment="test")
            steps = [step for one in stores.recoveries.find(environment="test") for step in one.steps]

    assert tickets == []
    began = {step.target: step.started_at for step in steps if step.name == "restart"}
    assert began["base"] < began["top"]


async def test_a_service_that_turns_unhealthy_is_restarted(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    async with watching(place):
        docker_command("exec", place.container("base"), "rm", "/tmp/well")
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            (error,) = stores.errors.latest("test")

    assert error.verdict.category == "healthcheck_failed"
    assert "own health check fails" in error.text


async def test_a_service_that_a_person_stops_stays_stopped_and_is_no_error(place: Place) -> None:
    place.declare(well("base") + well("other"))
    await startup("test")
    async with watching(place):
        docker_command("stop", "-t", "5", place.container("base"))
        docker_command("kill", place.container("other"))
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            errors = stores.errors.latest("test")

    assert [error.service for error in errors] == ["other"]
    assert place.containers(running=True) == ["other"]


@pytest.mark.campaign
async def test_what_an_operation_ends_is_no_error(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    async with watching(place):
        await restart("test")
        place.declare(well("base", environment="{VERSION: '2'}"))
        await startup("test")
        docker_command("kill", place.container("base"))
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            (error,) = stores.errors.latest("test")

    assert "137" in error.text, "the kill alone was one"


@pytest.mark.campaign(seconds=12)
async def test_a_stop_is_recorded_before_the_engine_forgets_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.declare(well("base") + well("other"))
    await startup("test")
    for interval in ("watch.SWEEP", "watch.SETTLE", "watched_recoveries.SETTLE"):
        # No sweep follows the first one, which would find the stop, too.
        monkeypatch.setattr(f"flows.recovery.{interval}", timedelta(hours=1))
    async with watching(place):
        with place.stores() as stores:
            # The first sweep is over where an event is acted on.
            docker_command("kill", place.container("other"))
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            # Its attempt holds the environment for a moment longer; what ends meanwhile is looked at again later.
            await until(lambda: asyncio.run(in_hand("test")) is None)
            swept_at = stores.heartbeats.all()["watch/test"]
            docker_command("stop", "-t", "5", place.container("base"))
            await until(lambda: stores.progress.last_changes("test")["base"].details.get("on_request") is True)
            assert stores.heartbeats.all()["watch/test"] == swept_at, "it was the event that showed it"
    forget_events()
    # Another watch knows of it by the record alone.
    async with watching(place):
        docker_command("kill", place.container("other"))
        with place.stores() as stores:
            await until(lambda: [one.success for one in stores.recoveries.find(environment="test")] == [True] * 2)
            errors = stores.errors.latest("test")

    assert {error.service for error in errors} == {"other"}
    assert place.containers(running=True) == ["other"]


@pytest.mark.campaign
async def test_a_service_that_got_a_stop_signal_is_left_until_the_engine_reports_its_stop(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    # So far a stop looks the same.
    docker_command("kill", "--signal", "TERM", place.container("base"))
    docker_command("wait", place.container("base"))

    assert await stop_of(open_project("test"), "base") == STOPPED
    with place.stores() as stores:
        assert not stores.progress.last_changes("test")["base"].details.get("on_request")


@pytest.mark.campaign
async def test_a_one_off_container_that_a_person_stops_is_not_its_service(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    one_off = f"{place.project}-one-off"
    compose = ["compose", "-p", place.project, "-f", str(place.folder / "compose.yaml")]
    docker_command(*compose, "run", "--detach", "--name", one_off, "base")
    docker_command("stop", "-t", "5", one_off)

    assert await stop_of(open_project("test"), "base") is None


async def test_while_recovery_is_paused_a_failure_is_recorded_and_left(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    with place.stores() as stores:
        stores.pauses.pause("test", None, None, "a test", "ann")
        async with watching(place):
            docker_command("kill", place.container("base"))
            await until(lambda: bool(stores.errors.list_unresolved("test")))

        assert stores.recoveries.find(environment="test") == []
    assert place.containers(running=True) == []


@pytest.mark.campaign
async def test_three_that_fail_at_once_are_one_question_to_a_person(place: Place) -> None:
    names = ["one", "two", "three"]
    place.declare("".join(well(name) for name in names))
    await startup("test")
    async with watching(place):
        docker_command("kill", *(place.container(name) for name in names))
        with place.stores() as stores:
            await until(lambda: bool(stores.tickets.find(environment="test")))
            (ticket,) = stores.tickets.find(environment="test")
            assert stores.recoveries.find(environment="test") == []

    assert ticket.service is None
    assert "3 services fail at once" in ticket.title
    assert place.containers(running=True) == []


@pytest.mark.campaign(seconds=20)
async def test_the_third_that_is_killed_within_a_minute_is_recovered_like_the_others(place: Place) -> None:
    names = ["one", "two", "three"]
    place.declare("".join(well(name) for name in names))
    await startup("test")
    async with watching(place):
        with place.stores() as stores:

            def healed() -> int:
                return sum(bool(one.success) for one in stores.recoveries.find(environment="test"))

            for number, name in enumerate(names, start=1):
                docker_command("kill", place.container(name))
                # Longer than this it was left alone, since the others had ended shortly before.
                await until(lambda number=number: healed() == number)  # type: ignore[misc]
            assert stores.tickets.find(environment="test") == []

    assert sorted(place.containers(running=True)) == sorted(names)


@pytest.mark.campaign
async def test_a_failure_before_the_watch_began_is_found(place: Place) -> None:
    place.declare(PAIR)
    await startup("test")
    docker_command("kill", place.container("base"))
    async with watching(place):
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))

    assert place.containers(running=True) == ["base", "top"]


@pytest.mark.campaign
async def test_a_watch_outlives_its_engine(place: Place, own_engine: OwnEngine) -> None:
    place.declare(well("base", restart="always"), engine=own_engine.address)
    await startup("test")
    async with watching(place):
        await asyncio.to_thread(own_engine.kill)
        await asyncio.to_thread(own_engine.start)
        await until(lambda: "running" in own_engine.docker("ps", "--format", "{{.State}}"))
        own_engine.docker("kill", place.container("base"))
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))

    assert own_engine.docker("ps", "--format", "{{.Names}}").split() == [place.container("base")]


@pytest.mark.campaign
async def test_what_a_killed_engine_ends_when_it_comes_back_is_recovered(place: Place, own_engine: OwnEngine) -> None:
    place.declare(well("base", restart="unless-stopped"), engine=own_engine.address)
    await startup("test")
    async with watching(place):
        await asyncio.to_thread(own_engine.kill)
        await asyncio.to_thread(own_engine.start)
        # The engine reports a stop of it, as if a person had asked for that.
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))

    assert own_engine.docker("ps", "--format", "{{.Names}}").split() == [place.container("base")]
