"""A runner that is killed with SIGKILL: nothing stays running, and what it had finished is not done again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Running

from adapters.host.processes import this_process
from flows.deployment.startup import startup
from models.failures import EnvironmentBusyError
from models.operations import Operation, OperationStatus, OperationType
from models.results import OperationResult
from tasks.deployment.lease import holder_of
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import IMAGE, Place, make_well, never_well, well
from tests.support.killed_flow import killed_flow
from tests.support.prefect_server import server_variables
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ROAS = Path(sys.executable).with_name("roas")
NAMES = ("base", "job", "top", "last")
TIMEOUT_SECONDS = 300

Moment = Callable[[Operation, set[tuple[str, str | None]]], bool]

MOMENTS = {
    "while it creates": ("after", "found"),
    "after the second service is proven": ("after", "proven", "job"),
}


def declare(place: Place, *, ends: bool = True) -> None:
    """A chain of four: a server, a job that leaves a line wherever it runs, and two more servers, or one never well."""
    (place.folder / "out").mkdir(exist_ok=True)
    job = f"""
job:
  image: {IMAGE}
  init: true
  command: [sh, -c, 'echo ran >> /out/lines']
  volumes: ['{place.folder}/out:/out']
  depends_on: {{base: {{condition: service_healthy}}}}
"""
    top = well("top", depends_on="{job: {condition: service_completed_successfully}}")
    last = well("last", depends_on="{top: {condition: service_healthy}}")
    place.declare(well("base") + job + (top if ends else never_well(top)) + last)


def times_the_job_ran(place: Place) -> int:
    lines = place.folder / "out" / "lines"
    return len(lines.read_text().splitlines()) if lines.exists() else 0


def roas(*words: str) -> subprocess.Popen[str]:
    context_of_step = server_variables() | warm_commands()
    # A shell gives its background jobs an ignored SIGINT, and these tests may run in one.
    return subprocess.Popen(
        ["env", "--default-signal=INT", ROAS, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=context_of_step,
    )


def finished_steps(deployment_id: str) -> set[tuple[str, str | None]]:
    return {(step.step, step.service) for step in open_stores().progress.steps(deployment_id)}


def started_at(place: Place) -> dict[str, str]:
    """When each container was started last, by its service."""
    found = {}
    for name in place.containers():
        reported = subprocess.run(
            ["docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container(name)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[name] = reported.stdout.strip()
    return found


def kill_at(flow: str, *moment: str, when: Callable[[], bool] | None = None) -> str:
    """Run a flow on the environment that is killed at the moment, or once `when` is true; the id of its operation."""
    killed_flow(flow, {"environment": "test"}, *moment, when=when)
    [operation] = open_stores().operations.list_running("test")
    return operation.deployment_id


async def signal_at(process: subprocess.Popen[str], moment: Moment, how: signal.Signals) -> str:
    """Send a command a signal that it can answer at the moment, wait for its end, and tell the id of its operation."""
    stores = open_stores()
    with process:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (
            (begun := stores.operations.list_running("test"))
            and holder_of("test") is not None
            and moment(begun[0], finished_steps(begun[0].deployment_id))
        ):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        process.send_signal(how)
        # What it says from now on has no reader, as where a terminal was closed.
    return begun[0].deployment_id


def flow_run_of(deployment_id: str) -> UUID:
    return UUID(str(open_stores().operations.get(deployment_id).details["flow_run_id"]))


@pytest.mark.campaign
async def test_the_next_start_ends_the_interrupted_one_and_succeeds(place: Place) -> None:
    declare(place)
    killed = kill_at("startup", *MOMENTS["while it creates"])
    run = flow_run_of(killed)
    async with get_client() as client:
        stuck = (await client.read_flow_run(run)).state
        assert stuck is not None
        assert stuck.is_running()

        result = await startup("test")

        crashed = (await client.read_flow_run(run)).state
    assert isinstance(result, OperationResult)
    assert result.success
    operation = open_stores().operations.get(killed)
    assert operation.status is OperationStatus.FAILED
    assert str(operation.details["interrupted"]).startswith("interrupted ")
    assert "its runner (pid " in str(operation.details["interrupted"])
    assert crashed is not None
    assert crashed.is_crashed()
    assert crashed.message == operation.details["interrupted"]
    assert open_stores().operations.list_running() == []


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.campaign(seconds=15)
async def test_a_resumed_start_does_no_finished_step_again(place: Place, moment: str) -> None:
    declare(place)
    killed = kill_at("startup", *MOMENTS[moment])
    finished = {service for step, service in finished_steps(killed) if step == "proven"}
    before, ran = started_at(place), times_the_job_ran(place)

    with roas("resume", killed) as resumed:
        said, _ = resumed.communicate(timeout=TIMEOUT_SECONDS)

    assert resumed.returncode == 0, said
    operation = open_stores().operations.get(killed)
    assert operation.status is OperationStatus.SUCCESS
    assert len(operation.details["resumed"]) == 1
    after = started_at(place)
    assert {name: after[name] for name in finished if name} == {name: before[name] for name in finished if name}
    if "job" in finished:
        assert times_the_job_ran(place) == ran == 1
    assert place.containers(running=True) == ["base", "last", "top"]
    assert finished_steps(killed) >= {("proven", name) for name in NAMES}
    with roas("resume", killed) as again:
        said, _ = again.communicate(timeout=TIMEOUT_SECONDS)
    assert again.returncode == 2
    assert "was not interrupted" in said


async def run_again(retried: FlowRun) -> object:
    """As a runner does: with the parameters that the server keeps."""
    running = run_flow(startup, flow_run=retried)
    assert isinstance(running, Awaitable)
    return await running


async def test_a_retried_run_continues_where_it_was_killed(place: Place) -> None:
    declare(place)
    killed = kill_at("startup", *MOMENTS["after the second service is proven"])
    before = started_at(place)
    async with get_client() as client:
        # What the UI does at a click on Retry; the run was thought to be running.
        await client.set_flow_run_state(flow_run_of(killed), AwaitingRetry(), force=True)
        retried = await client.read_flow_run(flow_run_of(killed))

    result = await run_again(retried)

    assert isinstance(result, OperationResult)
    assert result.deployment_id == killed
    assert times_the_job_ran(place) == 1
    after = started_at(place)
    assert (after["base"], after["job"]) == (before["base"], before["job"])
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run_of(killed))).state
    assert state is not None
    assert state.is_completed()


@pytest.mark.campaign
async def test_a_run_that_is_retried_after_it_failed_by_itself_is_a_new_operation(place: Place) -> None:
    place.declare("base:\n  image: roas-test/never-built:1\n")
    await startup("test", return_state=True)
    first = open_stores().operations.history(environment="test")[0]
    place.declare(well("base"))
    run = UUID(str(first.details["flow_run_id"]))
    async with get_client() as client:
        await client.set_flow_run_state(run, AwaitingRetry(), force=True)
        retried = await client.read_flow_run(run)

    retried = retried.model_copy(update={"parameters": {"environment": "test", "deployment_id": first.deployment_id}})
    result = await run_again(retried)

    assert isinstance(result, OperationResult)
    assert result.success
    assert result.deployment_id != first.deployment_id
    assert open_stores().operations.get(first.deployment_id).status is OperationStatus.FAILED


async def test_of_two_starts_at_once_one_is_refused_and_reported_who_has_it(place: Place) -> None:
    # It is well only once the other was refused, however long that takes.
    place.declare(never_well(well("base")))
    starts = [asyncio.ensure_future(startup("test", return_state=True)) for _ in range(2)]

    [first], [second] = await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.to_thread(make_well, place.container("base"))

    refused = await (await first).result(raise_on_failure=False)
    won = await (await second).result()
    assert isinstance(refused, EnvironmentBusyError)
    assert won.success
    assert f"held by {won.deployment_id} (start by" in refused.what


@pytest.mark.campaign
async def test_of_two_starts_at_once_one_that_waits_follows(place: Place) -> None:
    place.declare(well("base"))

    results = await asyncio.gather(startup("test", wait_seconds=60), startup("test", wait_seconds=60))

    assert all(isinstance(result, OperationResult) and result.success for result in results)
    ends = sorted(open_stores().operations.history(environment="test"), key=lambda one: one.ended_at or one.started_at)
    assert [one.status for one in ends] == [OperationStatus.SUCCESS] * 2
    assert ends[1].details["kept"] == ["base"]


async def test_a_run_whose_runner_is_alive_is_left_running(place: Place) -> None:
    place.declare(well("base"))
    async with get_client() as client:
        run = await client.create_flow_run(startup, parameters={"environment": "test"}, state=Running())
        open_stores().operations.begin(
            Operation(
                deployment_id="test-alive",
                operation_type=OperationType.STOP,
                environment="test",
                status=OperationStatus.RUNNING,
                started_at=datetime.now(UTC) - timedelta(hours=1),
                details={"runner": asdict(this_process(str(run.id))), "flow_run_id": str(run.id)},
            )
        )

        await startup("test")

        state = (await client.read_flow_run(run.id)).state
    assert state is not None
    assert state.is_running()
    assert open_stores().operations.get("test-alive").status is OperationStatus.RUNNING


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.campaign
async def test_a_terminated_start_is_rolled_back_first(place: Place, how: signal.Signals) -> None:
    declare(place, ends=False)
    asked = await signal_at(roas("start", "test"), lambda _operation, done: ("proven", "job") in done, how)

    operation = open_stores().operations.get(asked)
    assert operation.status is OperationStatus.FAILED
    assert "before it had ended" in operation.details["reason"]
    assert "removed base, job" in operation.details["undone"]
    assert place.containers() == []
