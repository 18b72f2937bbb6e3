"""Ten operations are in progress while the Prefect server is replaced, then the agent: each comes to its end once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from adapters.stores import Stores
from adapters.stores.migrate import HEADS, STORES
from models.operations import Operation, OperationStatus
from models.settings import Settings
from tests.e2e.fleet.conftest import Host
from tests.e2e.fleet.test_server_away import answers
from tests.support.ports import free_port
from tests.support.postgresql_server import PostgresqlForTests, postgresql

pytestmark = pytest.mark.engine

SLOW = """
web:
  image: debian:trixie-slim
  pull_policy: never
  init: true
  network_mode: none
  stop_grace_period: 30s
  environment: {{RELEASE: "{release}"}}
  # It takes long to become healthy, and to end.
  command: [sh, -c, 'trap "sleep 12; exit 0" TERM; sleep 12; touch /tmp/well; sleep 3600 & wait']
  healthcheck:
    {{test: [CMD, test, -e, /tmp/well], interval: 60s, timeout: 5s, retries: 2, start_period: 60s, start_interval: 2s}}
"""
DEPLOY = """
import asyncio, json, sys
from flows.runtime.deployments import deployments_of
from flows.runtime.enrolled import _JOB
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate

async def deploy(flows):
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="host-a", type="process"))
    for name, flow in flows.items():
        for one in await asyncio.to_thread(deployments_of, name):
            if one.flow_name == flow:
                one.job_variables = dict(_JOB)
                await one.aapply(work_pool_name="host-a")

asyncio.run(deploy(json.loads(sys.argv[1])))
"""


class Fleet:
    """A Prefect server and one host; both have their records in PostgreSQL."""

    def __init__(self, host: Host, server: PostgresqlForTests, url: str) -> None:
        self.host = host
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.variables = {
            "PREFECT_API_URL": self.api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "ROAS_STORES_URL": url,
        }
        self.settings = Settings(data_dir=host.folder / "reading", stores_url=url)
        self.database = f"postgresql+asyncpg://roas@/prefect?host={server.folder}"

    @contextmanager
    def prefect(self) -> Iterator[None]:
        """A Prefect server, which answers within the block."""
        variables = {
            "PREFECT_HOME": str(self.host.folder / "server"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_UI_ENABLED": "false",
            "PREFECT_PROFILES_PATH": os.devnull,
        }
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(self.port)]
        with (self.host.folder / "server.log").open("ab") as log:
            server = subprocess.Popen(
                command, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.host.until(lambda: answers(self.api), seconds=240)
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def declare(self) -> str:
        return self.host.declare(SLOW.format(release=1))

    def deploy(self, flows: dict[str, str]) -> None:
        """Deploy one flow for each environment."""
        done = subprocess.run(
            [sys.executable, "-c", DEPLOY, json.dumps(flows)],
            env=os.environ | self.host.variables | self.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def begin(self, flow: str, name: str) -> str:
        made = self._ask("GET", f"/deployments/name/{flow}/{name}")["id"]
        return str(self._ask("POST", f"/deployments/{made}/create_flow_run")["id"])

    def state(self, run: str) -> str:
        return str(self._ask("GET", f"/flow_runs/{run}")["state_name"])

    def _ask(self, method: str, path: str) -> Any:
        body = {} if method == "POST" else None
        answer = httpx.request(method, self.api + path, json=body, timeout=60, trust_env=False)
        return answer.raise_for_status().json()

    def operations(self, name: str) -> list[Operation]:
        with Stores.open(self.settings) as stores:
            return stores.operations.latest_recorded(name)

    def latest(self, name: str) -> OperationStatus | None:
        found = self.operations(name)
        return found[0].status if found else None


@pytest.fixture
def fleet(host: Host) -> Iterator[Fleet]:
    with postgresql() as server, server.database() as url:
        server.run("CREATE DATABASE prefect")
        yield Fleet(host, server, url)


@pytest.mark.timeout(580)
def test_ten_operations_outlive_the_replacement_of_the_server_and_of_the_agent(fleet: Fleet) -> None:
    host = fleet.host
    started, updated, stopped = ([fleet.declare() for _ in range(count)] for count in (4, 3, 3))
    names = [*started, *updated, *stopped]
    flows = dict.fromkeys(started, "startup") | dict.fromkeys(updated, "update") | dict.fromkeys(stopped, "stop")
    with ExitStack() as server, ThreadPoolExecutor() as beside:
        list(beside.map(host.up, [*updated, *stopped]))
        for name in updated:
            host.compose(name, SLOW.format(release="2"))
        server.enter_context(fleet.prefect())
        fleet.deploy(flows)
        agent = host.begin("--pool", "host-a", **fleet.variables)
        runs = {name: fleet.begin(flow, name) for name, flow in flows.items()}
        host.until(lambda: all(fleet.operations(name) for name in names), seconds=240)
        # The server is replaced.
        server.close()
        server.enter_context(fleet.prefect())
        # Then the agent.
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=20) == 0
        host.begin("--pool", "host-a", **fleet.variables)
        host.until(lambda: all(fleet.latest(name) is OperationStatus.SUCCESS for name in names), seconds=240)
        host.until(lambda: all(fleet.state(run) == "Completed" for run in runs.values()))
    assert {name: len(fleet.operations(name)) for name in names} == dict.fromkeys(names, 1)
    assert {name: host.runs(name) for name in names} == dict.fromkeys(names, True) | dict.fromkeys(stopped, False)


def test_an_agent_that_is_older_than_the_stores_says_so_and_goes_on_healing(host: Host) -> None:
    with postgresql() as server, server.database() as url:
        name = host.declare()
        host.variables["ROAS_STORES_URL"] = url
        settings = Settings(data_dir=host.folder / "reading", stores_url=url)
        database = url.partition("?")[0].rpartition("/")[2]
        host.up(name)
        agent = host.begin()
        host.watched(name)
        host.until(lambda: (host.folder / "data" / "known" / f"{name}.json").exists())
        for store in STORES:
            server.run(f"UPDATE {store}.alembic_version SET version_num = 'r9999'", database)
        # What runs already goes on with what it has opened.
        host.kill(name)
        host.until(lambda: host.text().count("web healthy again") == 1)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=20) == 0
        host.begin()
        host.watched(name, times=2)
        host.kill(name)
        host.until(lambda: host.text().count("web healthy again") == 2)
        assert "is newer than this program" in host.text()
        assert "is newer than this program" in host.roas("history", name)
        # The later version of the program has no other way to its records than this one here.
        for store in STORES:
            server.run(f"UPDATE {store}.alembic_version SET version_num = '{HEADS[store]}'", database)
        with Stores.open(settings) as stores:
            host.until(lambda: [one.success for one in stores.recoveries.find(environment=name)] == [True, True])
