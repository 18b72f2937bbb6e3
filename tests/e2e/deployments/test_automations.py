"""The declared automations on a real Prefect server: crashed runs, paused schedules, unhealthy services."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.automations import Automation
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events.actions import RunDeployment
from prefect.events.clients import get_events_client
from prefect.events.schemas.automations import EventTrigger
from prefect.events.schemas.events import Event, Resource
from prefect.workers.process import ProcessWorker

from flows.deployment.startup import startup
from flows.recovery.error_recovery import error_recovery
from flows.server.automations import declare_automations
from models.recovery import RecoveryExecution
from tests.e2e.flows.conftest import Place, place, well
from tests.support.docker_command import docker_command
from tests.support.prefect_server import ask, own_server, server_variables
from tests.support.warm import warm_commands

pytestmark = pytest.mark.campaign

__all__ = ["place"]

ROOT = Path(__file__).parents[3]
TIMEOUT_SECONDS = 300
SILENT_FOR = timedelta(seconds=12)
AGENT = """
import asyncio
from datetime import timedelta
from flows.agent.agent import Agent

asyncio.run(Agent(gone_after=timedelta(seconds=20)).run(asyncio.Event()))
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # With all services, as `roas serve` has it: the server of the other tests has no automations.
    with own_server(tmp_path_factory.mktemp("prefect") / "home", with_ui=True) as url:
        yield url


@flow
async def sleeps(seconds: float) -> None:
    """Nothing, for so long."""
    await asyncio.sleep(seconds)


async def begin(flow: object, parameters: dict[str, object]) -> UUID:
    """Create a run of a deployment that no process executes yet."""
    deployment = await flow.ato_deployment(name="test", parameters=parameters)  # type: ignore[attr-defined]
    deployment_id = await deployment.aapply()
    async with get_client() as client:
        made = await client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
    return UUID(str(made.id))


def execute(run: UUID) -> subprocess.Popen[bytes]:
    """Start a process that executes a run, as a worker does."""
    reported = {"PREFECT__FLOW_RUN_ID": str(run), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    return subprocess.Popen(
        [sys.executable, "-m", "prefect.engine"],
        env=server_variables() | reported,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )


async def state_of(run: UUID) -> State[object]:
    async with get_client() as client:
        state = (await client.read_flow_run(run)).state
    assert state is not None
    return state


async def live(run: UUID) -> None:
    """Execute a run, with a heartbeat all the time, however slow the machine is."""
    running, deadline = execute(run), time.monotonic() + TIMEOUT_SECONDS
    while not ((state := await state_of(run)).is_final() or state.is_paused()):
        assert time.monotonic() < deadline, "the run did not come to rest"
        await beat(run)
        await asyncio.sleep(1)
    # A sign of life that was given while the run came to rest is heard after it.
    await beat(run)
    await asyncio.to_thread(running.wait, TIMEOUT_SECONDS)


async def beat(run: UUID) -> None:
    """Send a heartbeat of a run."""
    async with get_events_client() as client:
        resource = Resource({"prefect.resource.id": f"prefect.flow-run.{run}"})
        await client.emit(Event(occurred=datetime.now(UTC), event="prefect.flow-run.heartbeat", resource=resource))


def wait_until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.3)


def received(api: str, event: str, run: UUID) -> int:
    """Count the events of this kind that the server received about a run."""
    asked = {"filter": {"event": {"name": [event]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}}
    return int(ask(api, server_variables()["PREFECT_API_AUTH_STRING"], "events/filter", asked)["total"])


@pytest.mark.flow
async def test_of_silent_runs_only_one_without_a_process_is_marked_as_crashed(place: Place, api: str) -> None:
    place.declare(well("web"), recovery="{automatic: false}")
    await declare_automations(SILENT_FOR)
    ends = await begin(sleeps, {"seconds": 3})
    asks = await begin(
        error_recovery, {"environment": "test", "text": "ERROR: the zebra has crossed", "service": "web"}
    )
    await asyncio.gather(live(ends), live(asks))
    killed = await begin(sleeps, {"seconds": 3600})
    running = execute(killed)
    wait_until(lambda: received(api, "prefect.flow-run.heartbeat", killed) == 1, "a sign of life")
    running.kill()
    running.wait()
    # As every start of the control plane does.
    await declare_automations(SILENT_FOR)

    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (await state_of(killed)).name == "Running":
        assert time.monotonic() < deadline, "the run was not marked as crashed"
        await asyncio.sleep(0.3)

    assert [(await state_of(run)).name for run in (ends, asks, killed)] == ["Completed", "Suspended", "Crashed"]
    assert "no sign of life" in str((await state_of(killed)).message)
    assert [one.name for one in await deployed_runs("error-recovery")] == [(await run_of(asks)).name]


async def run_of(run: UUID) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(run)


async def deployed_runs(flow: str) -> list[FlowRun]:
    async with get_client() as client:
        return await client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))


@pytest.mark.flow
async def test_what_an_earlier_version_began_again_is_removed(api: str) -> None:
    @flow(name="watch")
    async def watch() -> None:
        """As it was called."""

    ours = await watch.ato_deployment(name="dev")
    ours.entrypoint = "flows.recovery.watch.watch"
    await ours.aapply()
    await begin(watch, {})
    name = "roas: a watch or monitoring that failed is begun again"
    again = Automation(
        name=name,
        trigger=EventTrigger(expect={"never"}, within=timedelta(0)),
        actions=[RunDeployment(source="inferred")],
    )
    await again.acreate()

    await declare_automations(SILENT_FOR)

    assert [one.name for one in await deployments_of_flow("watch")] == ["test"], "a flow of somebody else's"
    async with get_client() as client:
        assert await client.read_automations_by_name(name) == []


@asynccontextmanager
async def worker(folder: Path, scheduled: Sequence[str] = ()) -> AsyncIterator[None]:
    """Deploy all of prefect.yaml and run a worker.

    Of the schedules only those of the flows `scheduled` are kept, every 5 s.
    """
    programs = Path(sys.executable).parent
    environment = server_variables() | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    prefect = str(programs / "prefect")
    async with get_client() as client:
        template = ProcessWorker.get_default_base_job_template()
        await client.create_work_pool(
            WorkPoolCreate(name="roas", type="process", base_job_template=template), overwrite=True
        )
        deploy = [prefect, "--no-prompt", "deploy", "--all"]
        done = await asyncio.to_thread(
            subprocess.run, deploy, capture_output=True, text=True, env=environment, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        kept = {one.id for flow in scheduled for one in await deployments_of_flow(flow) if one.name == "dev"}
        # What comes by schedule would look after the service as well.
        for deployment in await client.read_deployments():
            for schedule in deployment.schedules:
                often = IntervalSchedule(interval=timedelta(seconds=5)) if deployment.id in kept else None
                await client.update_deployment_schedule(
                    deployment.id, schedule.id, active=deployment.id in kept, schedule=often
                )
    with (folder / "worker.log").open("wb") as log:
        working = subprocess.Popen(
            [prefect, "worker", "start", "--pool", "roas"], env=environment, cwd=ROOT, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        # With all that it began, which it would wait for.
        os.killpg(working.pid, signal.SIGKILL)
        working.wait()


@pytest.mark.engine
@pytest.mark.flow
async def test_a_failure_that_a_health_check_reports_is_recovered_without_a_watch(place: Place, api: str) -> None:
    place.declare(well("web", restart="'no'"))
    (place.folder / "dev.yaml").write_text((place.folder / "test.yaml").read_text().replace("name: test", "name: dev"))
    await startup("dev")
    docker_command("kill", place.container("web"))

    async with worker(place.folder):
        # It looks, and does nothing itself. In a process of its own: this one may talk to another server already.
        roas = Path(sys.executable).with_name("roas")
        looked = subprocess.run([roas, "health", "dev"], capture_output=True, text=True, check=False, cwd=ROOT,
                                env=server_variables() | warm_commands())  # fmt: skip
        assert "web" in looked.stdout, looked.stderr
        wait_until(lambda: any(one.ended_at for one in recoveries(place)), "a recovery")

        (run,) = runs_of(api, "error-recovery")
        wait_until(lambda: runs_of(api, "error-recovery")[0]["state"]["name"] == "Completed", "its end")

    (recovery,) = recoveries(place)
    assert (recovery.service, recovery.success) == ("web", True)
    assert place.containers(running=True) == ["web"]
    assert run["deployment_id"] is not None
    reported = run["parameters"]
    assert (reported["environment"], reported["service"], reported["source"]) == ("dev", "web", "event")
    assert reported["text"].startswith("service web is ")


async def deployments_of_flow(flow: str) -> list[DeploymentResponse]:
    async with get_client() as client:
        return await client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))


async def until_paused(flow: str, expected: bool) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while [one.paused for one in await deployments_of_flow(flow) if one.name == "dev"] != [expected]:
        assert time.monotonic() < deadline, f"the schedule of {flow} is as it was"
        await asyncio.sleep(0.3)


@pytest.mark.engine
@pytest.mark.flow
async def test_a_plain_worker_monitors_until_an_agent_does_and_again_when_that_is_gone(place: Place, api: str) -> None:
    place.declare(well("web"))
    (place.folder / "dev.yaml").write_text((place.folder / "test.yaml").read_text().replace("name: test", "name: dev"))

    async with worker(place.folder, scheduled=["collection"]):
        with place.stores() as stores:
            wait_until(lambda: "collection/dev" in stores.heartbeats.all(), "a collection")
        agent = subprocess.Popen([sys.executable, "-c", AGENT], env=server_variables(), cwd=ROOT)
        try:
            await until_paused("collection", True)
        finally:
            agent.kill()
            agent.wait()
        await until_paused("collection", False)
        gone_at = datetime.now(UTC)
        with place.stores() as stores:
            wait_until(lambda: stores.heartbeats.all()["collection/dev"] > gone_at, "a collection without the agent")


def recoveries(place: Place) -> list[RecoveryExecution]:
    with place.stores() as stores:
        return list(stores.recoveries.find())


def runs_of(api: str, flow: str) -> list[dict[str, Any]]:
    """The runs of a flow's deployment for `dev`."""
    asked = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": ["dev"]}}}
    return list(ask(api, server_variables()["PREFECT_API_AUTH_STRING"], "flow_runs/filter", asked))
