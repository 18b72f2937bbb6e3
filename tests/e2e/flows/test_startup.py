from __future__ import annotations

import asyncio
import socket
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from adapters.host.processes import this_user
from flows.deployment.restart import restart
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.monitoring.health_check import health_check
from models.compose import PlannedAction
from models.failures import StartFailedError
from models.health import Health, ServiceHealth
from models.operations import OperationStatus
from models.recovery import TicketState
from models.results import OperationResult
from tasks.deployment.services import read_plan
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import IMAGE, Place, well
from tests.integration.stores.values import ERROR

pytestmark = [pytest.mark.engine, pytest.mark.flow]

JOB = f"""
job:
  image: {IMAGE}
  command: [sh, -c, 'exit 0']
  depends_on: {{base: {{condition: service_healthy}}}}
"""


async def failed_start(place: Place) -> tuple[OperationResult | BaseException, str]:
    """The failed start's data, and the recorded reason."""
    state = await startup("test", return_state=True)
    assert state.is_failed()
    data = state.data if isinstance(state.data, OperationResult) else await state.result(raise_on_failure=False)
    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
        assert operation.status is OperationStatus.FAILED
        assert operation.ended_at is not None
        assert stores.errors.list_unresolved("test")
        return data, str(operation.details["reason"])


async def test_a_start_as_before_proves_sooner_until_the_service_fails(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.environments._STABILISATION", timedelta(seconds=1.5))
    monkeypatch.setattr("core.deployment.hold.SHORTENED", timedelta(seconds=1))
    place.declare(well("web"), stabilisation_seconds="null")

    async def started() -> tuple[str, float]:
        result = await startup("test")
        with place.stores() as stores:
            [serving] = [step for step in stores.progress.steps(result.deployment_id) if step.step == "serving"]
            operation = stores.operations.get(result.deployment_id)
        assert operation.ended_at is not None
        return serving.detail, (operation.ended_at - serving.finished_at).total_seconds()

    detail, held = await started()
    assert detail == "it has to stay so for 1.5 s: its container, its files or its data are new"
    assert held >= 1.4
    await stop("test")
    assert (await started())[0] == "it has to stay so for 1.0 s: it was proven before, and has not failed since"
    await stop("test")
    with place.stores() as stores:
        now = datetime.now(UTC)
        stores.errors.record(replace(ERROR, environment="test", service="web", first_seen=now, last_seen=now))
    detail, held = await started()
    assert detail == f"it has to stay so for 1.5 s: it failed at {now:%Y-%m-%d %H:%M} UTC"
    assert held >= 1.4


async def test_starts_in_order_proves_each_service_and_records_it(place: Place) -> None:
    place.declare(
        well("base")
        + JOB
        + well(
            "top",
            depends_on="{base: {condition: service_healthy}, job: {condition: service_completed_successfully}}",
        )
    )

    result = await startup("test", asked_by="a test")

    assert isinstance(result, OperationResult)
    assert result.success
    assert result.health is not None
    assert result.health.overall is Health.HEALTHY
    with place.stores() as stores:
        operation = stores.operations.get(result.deployment_id)
        assert operation.status is OperationStatus.SUCCESS
        assert operation.user_agent == f"person: {this_user().user} (a test)"
        assert operation.actor == this_user()
        runner = operation.record.runner
        assert runner is not None
        changes = {change.service: change for change in stores.progress.changes(result.deployment_id)}
        assert {name: change.new_state for name, change in changes.items()} == {
            "base": "healthy",
            "job": "completed",
            "top": "healthy",
        }
        assert changes["base"].changed_at <= changes["top"].changed_at
        assert stores.progress.validations(result.deployment_id)[0].passed
        assert stores.health.history(deployment_id=result.deployment_id)[0].overall is Health.HEALTHY
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(runner.flow_run_id)]))
    steps: set[str] = set()
    async with get_client() as client, asyncio.timeout(300):
        # The server writes task runs down in batches, seconds after they have ended.
        while not {"base", "job", "top", "create containers"} <= steps:
            found = await client.read_task_runs(flow_run_filter=of_this_run)
            steps = {one.name.rpartition("-")[0] or one.name for one in found}


async def test_a_second_start_keeps_what_runs(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    first = subprocess.run(
        ["docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container("base")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    again = await startup("test")

    assert isinstance(again, OperationResult)
    assert [service.kept for service in again.services] == [True]
    second = subprocess.run(
        ["docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container("base")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert first == second


async def test_a_service_without_check_and_probe_is_unproven_never_healthy(place: Place) -> None:
    place.declare(f"quiet:\n  image: {IMAGE}\n  init: true\n  command: [sleep, '600']\n")

    result = await startup("test")

    assert isinstance(result, OperationResult)
    assert result.health is not None
    assert result.health.services[0].health is ServiceHealth.UNPROVEN
    assert (result.health.overall, result.health.summary) == (Health.HEALTHY, "running (not proven)")
    assert result.reason == "0 services proven, 1 without health check or probe"


async def test_a_broken_compose_file_is_a_recorded_failure(place: Place) -> None:
    place.declare(well("base"))
    (place.folder / "compose.yaml").write_text("services: [this is not a mapping\n")

    data, reason = await failed_start(place)

    assert isinstance(data, OperationResult)
    assert "compose.yaml" in reason
    assert place.containers() == []


async def test_a_missing_variable_stops_before_anything_is_touched(place: Place) -> None:
    place.declare(well("base", environment="{TOKEN: '${APP_TEST_TOKEN:?needed}'}"), variables="[APP_TEST_TOKEN]")

    data, reason = await failed_start(place)

    assert isinstance(data, OperationResult)
    assert "APP_TEST_TOKEN" in reason
    assert place.containers() == []


async def test_a_port_in_use_stops_before_anything_is_touched(place: Place) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        place.declare(well("base", ports=f"['127.0.0.1:{port}:80']"))

        data, reason = await failed_start(place)

    assert isinstance(data, OperationResult)
    assert str(port) in reason
    assert place.containers() == []


async def test_an_engine_that_does_not_answer_is_a_recorded_failure(place: Place) -> None:
    place.declare(well("base"), engine=f"unix://{place.folder}/no.sock")

    data, reason = await failed_start(place)

    assert isinstance(data, OperationResult)
    assert "did not answer" in reason


async def test_an_image_that_cannot_be_had_leaves_nothing_behind(place: Place) -> None:
    place.declare("base:\n  image: roas-test/never-built:1\n")

    _, reason = await failed_start(place)

    assert "roas-test/never-built" in reason
    assert place.containers() == []


async def test_a_proven_start_answers_what_earlier_ones_failed_of(place: Place) -> None:
    place.declare(well("base"), engine=f"unix://{place.folder}/no.sock")
    await startup("test", return_state=True)
    place.declare(well("base"))

    await startup("test")

    with place.stores() as stores:
        assert stores.errors.list_unresolved("test") == []
        assert [ticket.state for ticket in stores.tickets.find(environment="test")] == [TicketState.RESOLVED]


async def test_a_service_that_ends_at_once_fails_the_start_and_is_named(place: Place) -> None:
    place.declare(f"base:\n  image: {IMAGE}\n  command: [sh, -c, 'echo no config; exit 3']\n  restart: on-failure\n")

    with pytest.raises(StartFailedError, match="base"):
        await startup("test")

    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
        assert operation.status is OperationStatus.FAILED
        error = stores.errors.list_unresolved("test")[0]
        assert error.service == "base"
        assert error.deployment_id == operation.deployment_id


async def test_stop_goes_in_reverse_and_a_health_check_then_tells_the_truth(place: Place) -> None:
    place.declare(well("base") + well("top", depends_on="{base: {condition: service_healthy}}"))
    await startup("test")

    stopped = await stop("test")
    checked = await health_check("test")

    assert place.containers(running=True) == []
    assert place.containers() == ["base", "top"]
    with place.stores() as stores:
        changes = stores.progress.changes(stopped.deployment_id)
        assert [change.service for change in sorted(changes, key=lambda c: c.changed_at)] == ["top", "base"]
    assert checked.health is not None
    assert checked.health.overall is Health.UNHEALTHY


async def test_restart_brings_back_the_named_service_alone(place: Place) -> None:
    place.declare(well("base") + well("other"))
    await startup("test")

    result = await restart("test", services=["base"])

    assert result.success
    assert [service.service for service in result.services] == ["base"]
    assert result.health is not None
    assert result.health.overall is Health.HEALTHY


async def test_a_plan_says_what_a_start_would_do_and_touches_nothing(place: Place) -> None:
    place.declare(well("base") + well("top", depends_on="{base: {condition: service_healthy}}"))
    await startup("test")
    kept = read_plan(open_project("test"))
    place.declare(well("base") + well("top", depends_on="{base: {condition: service_healthy}}", hostname="other"))

    changed = read_plan(open_project("test"))

    assert {one.service: one.action for one in kept.services} == {
        "base": PlannedAction.KEEP,
        "top": PlannedAction.KEEP,
    }
    assert changed.service("base").action is PlannedAction.KEEP
    assert changed.service("top").action is PlannedAction.RECREATE
    assert "configuration changed" in changed.service("top").because
    assert read_plan(open_project("test")) == changed
