"""The health check of the control plane's containers: what it says is what a user of them would meet."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_port
from tests.support.postgresql_server import postgresql

ROOT = Path(__file__).parents[3]
HEALTHY = ROOT / "deployments/images/roas/healthy"


def check(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", HEALTHY, "stores"]
    return subprocess.run(command, env={"ROAS_STORES_URL": url}, capture_output=True, text=True, check=False)


def test_stores_that_do_not_answer_are_not_healthy() -> None:
    with postgresql(address="127.0.0.1") as server:
        answered = check(f"postgresql://roas@127.0.0.1:{server.port}/roas")
    assert (answered.returncode, answered.stdout) == (0, "healthy: stores\n")
    refused = check(f"postgresql://roas@127.0.0.1:{free_port()}/roas")
    assert refused.returncode == 1
    assert refused.stderr.startswith("stores: ")
    assert check("").returncode == 0, "the stores are files"


def test_the_worker_asks_the_stores_where_they_listen() -> None:
    variables = {"ROAS_STORES_BIND": "192.0.2.7", "ROAS_HOSTS_STORES_URL": "postgresql://ops.example.com/roas"}
    command = ["docker", "compose", "--profile", "fleet", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ) | variables, capture_output=True, check=True)
    services = json.loads(done.stdout)["services"]
    [port] = services["stores"]["ports"]
    url = services["worker"]["environment"]["ROAS_STORES_URL"]
    assert url == f"postgresql://roas@{port['host_ip']}:{port['published']}/roas"
    assert "stores" in services["worker"]["healthcheck"]["test"]
