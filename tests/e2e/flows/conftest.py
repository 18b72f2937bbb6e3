"""One Prefect server for the session, and a small real application for each test."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.support.projects import remove_project

IMAGE = "debian:trixie-slim"
_REMEMBERED_EVENTS = 256
"""So many an engine keeps (moby, daemon/events)."""
HEALTH = (
    "{test: [CMD, test, -e, /tmp/well], interval: 3s, timeout: 30s, retries: 2, "
    "start_period: 10s, start_interval: 200ms}"
)


@pytest.fixture(scope="session", autouse=True)
def flows_are_recorded(prefect_server: None) -> None:
    """Every test here runs flows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder with an environment `test`, its Compose file and its stores."""

    folder: Path
    project: str
    settings: Settings

    def declare(self, services: str, /, **fields: object) -> None:
        """Write the Compose file and the environment; `fields` go into the environment."""
        body = textwrap.indent(textwrap.dedent(services).strip(), "  ")
        (self.folder / "compose.yaml").write_text(f"services:\n{body}\n")
        lines = {
            "name": "test",
            "project": self.project,
            "compose_files": "[compose.yaml]",
            "stabilisation_seconds": 0.5,
            "start_timeout_seconds": 300,
        } | fields
        (self.folder / "test.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))

    def stores(self) -> Stores:
        return Stores.open(self.settings)

    def containers(self, *, running: bool = False) -> list[str]:
        """The services that have a container.

        Each is inspected: right after a stop or kill, the engine's list may still show it as running.
        """
        label = "com.docker.compose"
        command = ["docker", "ps", "--all", "--quiet", "--filter", f"label={label}.project={self.project}"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        form = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{label}.service"}}}}'
        inspect = ["docker", "container", "inspect", "--format", form, *listed]
        # What is gone since has no line.
        lines = subprocess.run(inspect, capture_output=True, text=True).stdout.splitlines() if listed else []
        rows = (line.split() for line in lines)
        return sorted(service for state, service in rows if state == "true" or not running)

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def health(self, service: str) -> str:
        """What the engine makes of its own health check."""
        command = ["docker", "inspect", "--format", "{{.State.Health.Status}}", self.container(service)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def forget_events(address: str | None = None) -> None:
    """Let an engine report so many other events that it forgets the earlier ones."""
    with closing(docker.APIClient(base_url=address)) as client:
        for number in range(_REMEMBERED_EVENTS + 1):
            client.tag(IMAGE, "forgetting", f"{number % 2}")
        for number in range(2):
            client.remove_image(f"forgetting:{number}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_stores: Path) -> Iterator[Place]:
    shutil.copytree(made_stores, tmp_path / "data")
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    made = Place(folder=tmp_path, project=f"roas-test-{secrets.token_hex(4)}", settings=Settings())
    yield made
    remove_project(made.project)


def end(place: Place, service: str = "web") -> None:
    """End a service as the kernel would, unless it has ended; no person asked for it."""
    subprocess.run(["docker", "kill", place.container(service)], capture_output=True, check=False)


async def until(seen: Callable[[], bool], seconds: float = 300) -> None:
    """Look again and again; it must come to that."""

    def wait() -> None:
        deadline = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.05)

    await asyncio.to_thread(wait)


def well(name: str, **more: str) -> str:
    """A service that becomes healthy at once and ends at the first SIGTERM."""
    lines = [
        f"{name}:",
        f"  image: {IMAGE}",
        "  init: true",
        "  command: [sh, -c, 'touch /tmp/well; exec sleep 600']",
        f"  healthcheck: {HEALTH}",
        *(f"  {key}: {value}" for key, value in more.items()),
    ]
    return "\n".join(lines) + "\n"


def never_well(service: str) -> str:
    """The service, healthy only once `make_well` was called, however long that takes."""
    return service.replace("touch /tmp/well; ", "").replace("start_period: 10s", "start_period: 120s")


def make_well(container: str) -> None:
    """Let it become healthy as soon as it runs."""
    touch = ["docker", "exec", container, "touch", "/tmp/well"]
    while subprocess.run(touch, capture_output=True, check=False).returncode:
        time.sleep(0.2)
