"""An operation is one trace in a collector: its run, each service with its wait and its proof, a failure's cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.deployment.startup import startup
from flows.deployment.stop import stop
from models.failures import StartFailedError
from tests.e2e.flows.conftest import IMAGE, Place, well
from tests.e2e.flows.test_watch import until, watching
from tests.support.docker_command import docker_command
from tests.support.otlp_receiver import Received, otlp_receiver

pytestmark = [pytest.mark.engine, pytest.mark.flow]

SECRET = "planted-in-an-error"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Received]:
    """One for all tests here: a process keeps the collector that it found first."""
    with otlp_receiver() as running:
        yield running


@pytest.fixture
def received(receiver: Received, monkeypatch: pytest.MonkeyPatch) -> Received:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    receiver.spans.clear()
    receiver.bodies.clear()
    return receiver


async def test_a_start_and_a_stop_are_a_trace_each_with_a_span_for_each_service(
    place: Place, received: Received
) -> None:
    place.declare(well("base") + well("web", depends_on="{base: {condition: service_healthy}}"))
    started = await startup("test")
    await stop("test")

    start, end = received.wait_for("start test"), received.wait_for("stop test")
    assert (start.parent_id, end.parent_id) == ("", "")
    assert start.trace_id != end.trace_id
    with place.stores() as stores:
        [release] = stores.releases.latest("test")
        [_, operation] = stores.operations.history("test")
    assert start.attributes.items() >= {
        "roas.environment": "test", "roas.operation_type": "start", "roas.deployment_id": started.deployment_id,
        "roas.outcome": "success", "roas.release": release.release_id, "prefect.run.type": "flow",
    }.items()  # fmt: skip
    assert (
        operation.details["traceparent"]
        == f"00-{start.trace_id}-{start.span_id}-{operation.details['traceparent'][-2:]}"
    )
    web = received.wait_for("web")
    assert web.attributes.items() >= {
        "roas.environment": "test", "roas.service": "web", "roas.deployment_id": started.deployment_id,
        "roas.outcome": "healthy", "roas.kept": False, "prefect.run.type": "task",
    }.items()  # fmt: skip
    wait, proof = received.named("web waits for its dependencies"), received.named("prove web")
    assert {one.trace_id for one in (web, wait, proof)} == {start.trace_id}
    assert (web.parent_id, wait.parent_id, proof.parent_id) == (start.span_id, start.span_id, web.span_id)
    assert wait.attributes["roas.held_up_by"] == "base"
    assert wait.seconds == pytest.approx(web.attributes["roas.waited_seconds"], abs=0.1)
    assert received.wait_for("stop web").trace_id == end.trace_id


async def test_a_failed_start_names_its_error_and_the_cause_without_any_text(place: Place, received: Received) -> None:
    place.declare(f"web:\n  image: {IMAGE}\n  command: [sh, -c, 'echo FATAL {SECRET}; exit 3']\n")
    with pytest.raises(StartFailedError):
        await startup("test")

    start = received.wait_for("start test")
    assert start.failed
    assert (start.attributes["roas.outcome"], start.attributes["roas.error"]) == ("failed", "StartFailedError")
    diagnosis = received.named("diagnose")
    assert diagnosis.trace_id == start.trace_id
    assert diagnosis.attributes["roas.error_id"] == start.attributes["roas.error_id"]
    assert diagnosis.attributes["roas.category"]
    web = received.named("web")
    assert (web.failed, web.attributes["roas.outcome"], web.message) == (True, "failed", "")
    assert SECRET.encode() not in b"".join(received.bodies)


@pytest.mark.campaign
async def test_a_recovery_of_the_watch_is_a_trace_of_its_own_linked_to_the_operation(
    place: Place, received: Received
) -> None:
    place.declare(well("web"))
    await startup("test")
    async with watching(place):
        docker_command("kill", place.container("web"))
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")))
            (error,) = stores.errors.latest("test")

    start, recovery = received.wait_for("start test"), received.wait_for("recover web")
    assert recovery.parent_id == ""
    assert recovery.links == ((start.trace_id, start.span_id, {"roas.link": "operation"}),)
    assert recovery.attributes.items() >= {
        "roas.environment": "test", "roas.service": "web", "roas.error_id": error.error_id, "roas.outcome": "success",
        "roas.category": str(error.verdict.category), "roas.strategy": "restart_service",
    }.items()  # fmt: skip
    steps = {one.name for one in received.spans if one.parent_id == recovery.span_id and one.scope == "roas"}
    assert {"restart web", "verify web"} <= steps
