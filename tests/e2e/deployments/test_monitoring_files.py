from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.deployments.events import await_event

ROOT = Path(__file__).parents[3]


@pytest.mark.engine
@pytest.mark.parametrize("folder", ["deployments/prometheus", "deployments/sample"])
def test_prometheus_accepts_its_configuration(folder: str) -> None:
    checked = subprocess.run(
        [
            *("docker", "run", "--rm", "--volume", f"{ROOT / folder}:/config:ro", "roas/prometheus:local"),
            *("promtool", "check", "config", "/config/prometheus.yml"),
        ],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.engine
def test_nobody_can_reload_or_end_prometheus_over_the_network() -> None:
    started = subprocess.run(
        ["docker", "run", "--detach", "--rm", "--volume", f"{ROOT / 'deployments/sample'}:/config:ro",
         *("--health-cmd", "healthcheck", "--health-interval", "200ms"), "roas/prometheus:local"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    container = started.stdout.strip()
    try:
        await_event(container, "health_status: healthy")
        address = subprocess.run(
            ["docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", container],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        for action in ("reload", "quit"):
            assert httpx.post(f"http://{address}:9090/-/{action}", timeout=10).status_code == 403
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)
