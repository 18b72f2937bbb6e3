from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.deployments.events import await_event
from tests.support.docker_command import docker_command

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
    with running("roas/prometheus:local", f"{ROOT / 'deployments/sample'}:/config:ro") as address:
        for action in ("reload", "quit"):
            assert httpx.post(f"http://{address}:9090/-/{action}", timeout=10).status_code == 403


@pytest.mark.engine
def test_prometheus_serves_the_runbook_that_is_mounted() -> None:
    runbook = f"{ROOT / 'docs/runbook.md'}:/runbook.md:ro"
    with running("roas/prometheus:local", f"{ROOT / 'deployments/sample'}:/config:ro", runbook) as address:
        page = httpx.get(f"http://{address}:9090/consoles/runbook.html", timeout=10)
    assert (page.status_code, 'id="the-exporter-does-not-answer"' in page.text) == (200, True)


@pytest.mark.engine
def test_alertmanager_starts_on_its_configuration_without_rights_and_its_tool_finds_it() -> None:
    name = f"roas-test-alertmanager-{uuid.uuid4().hex[:8]}"
    folder = ROOT / "deployments/images/alertmanager"
    docker_command("build", "--quiet", "--tag", name, folder)
    try:
        with running(name, f"{ROOT / 'deployments/alertmanager'}:/config:ro") as address:
            assert httpx.get(f"http://{address}:9093/-/ready", timeout=10).status_code == 200
    finally:
        docker_command("image", "rm", name)


@contextmanager
def running(image: str, *volumes: str) -> Iterator[str]:
    """The address of a container that is healthy, as restricted as the Compose file restricts it."""
    mounts = [word for volume in volumes for word in ("--volume", volume)]
    started = subprocess.run(
        [
            *("docker", "run", "--detach", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *(*mounts, "--health-cmd", "healthcheck", "--health-interval", "200ms", image),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    container = started.stdout.strip()
    try:
        await_event(container, "health_status: healthy")
        template = "{{.NetworkSettings.IPAddress}}"
        inspected = ["docker", "inspect", "--format", template, container]
        yield subprocess.run(inspected, capture_output=True, text=True, check=True).stdout.strip()
    finally:
        docker_command("rm", "--force", "--volumes", container)
