"""The Prefect server is killed and comes back: the agent heals all the while, and then takes flow runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.e2e.fleet.conftest import LocalHost
from tests.support.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.campaign]


@contextmanager
def prefect(host: LocalHost, port: int) -> Iterator[subprocess.Popen[bytes]]:
    variables = {
        "PREFECT_HOME": str(host.folder / "server"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
        "PREFECT_PROFILES_PATH": os.devnull,
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (host.folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command, env=os.environ | variables, stdout=log, stderr=log, cwd=host.folder, start_new_session=True
        )
    try:
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def last_heartbeat(url: str, pool: str) -> str:
    """When a worker of the pool showed last that it is online; empty where none is."""
    try:
        answer = httpx.post(f"{url}/work_pools/{pool}/workers/filter", json={}, timeout=5, trust_env=False)
        workers = answer.raise_for_status().json()
    except httpx.HTTPError:
        return ""
    return next((str(one["last_heartbeat_time"]) for one in workers if one["status"] == "ONLINE"), "")


PATH = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if ".venv" not in one)
RUN = """
import asyncio, sys
from prefect import get_client
from prefect.types.entrypoint import EntrypointType
from flows.monitoring.health_check import health_check

async def run(name):
    # As prefect.yaml declares it; `python` is none of the test's own path.
    job = {"command": "python -P -m cli.entry prefect.engine"}
    made = await health_check.ato_deployment(
        name=name, parameters={"environment": name}, entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name="host-a", job_variables=job,
    )
    deployment = await made.aapply()
    async with get_client() as client:
        begun = await client.create_flow_run_from_deployment(deployment)
        async with asyncio.timeout(300):
            while not (now := (await client.read_flow_run(begun.id)).state).is_final():
                await asyncio.sleep(0.5)
    print(now.type.value)

asyncio.run(run(sys.argv[1]))
"""


def run_of(host: LocalHost, name: str, url: str) -> str:
    """How a run of a deployment ends that the host's pool gets."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, name],
        env=os.environ | host.variables | {"PREFECT_API_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr


def test_healing_needs_no_server_and_runs_are_taken_again_when_it_is_back(host: LocalHost) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    name = host.declare()
    host.up(name)
    variables = {"PREFECT_API_URL": url, "PREFECT_WORKER_HEARTBEAT_SECONDS": "2", "PATH": PATH}
    # It is away when the agent starts.
    agent = host.begin("--pool", "host-a", **variables)
    host.watched(name)
    host.kill(name)
    host.until(lambda: host.text().count("web healthy again") == 1)
    with prefect(host, port):
        host.until(lambda: answers(url), seconds=300)
        host.until(lambda: last_heartbeat(url, "host-a") != "", seconds=300)
        before = last_heartbeat(url, "host-a")
    host.kill(name)
    host.until(lambda: host.text().count("web healthy again") == 2)
    with prefect(host, port):
        host.until(lambda: last_heartbeat(url, "host-a") > before, seconds=300)
        assert run_of(host, name, url) == "COMPLETED"
        assert agent.poll() is None
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=300) == 0
