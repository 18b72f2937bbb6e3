"""The supervisor of a Compose project starts what was killed, and leaves alone what was stopped."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.projects import remove_project

pytestmark = [pytest.mark.engine, pytest.mark.campaign]

ENGINE = os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock")
FILE = """
x-one: &one
  image: debian:trixie-slim
  init: true
  command: [sleep, "3600"]
services:
  web: {<<: *one, restart: unless-stopped}
  other: {<<: *one, restart: unless-stopped}
  job: {<<: *one, restart: "on-failure:3"}
"""
BEGIN = """
import asyncio, logging, sys
from pathlib import Path
from adapters.broker import supervisor
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
supervisor.FOLLOWS = Path(sys.argv[3])
asyncio.run(supervisor.Supervisor(sys.argv[1], sys.argv[2]).run())
"""


class SupervisedProject:
    """A small project under two supervisors, as in docker-compose.yml."""

    def __init__(self, folder: Path) -> None:
        self.name = f"roas-test-{secrets.token_hex(4)}"
        self.file = folder / "compose.yaml"
        self.file.write_text(FILE)
        self.log = folder / "log"
        self.folder = folder
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def compose(self, *words: str) -> None:
        command = ["docker", "compose", "-p", self.name, "-f", str(self.file), *words]
        subprocess.run(command, check=True, capture_output=True)

    def begin(self) -> None:
        sign = self.folder / f"follows-{len(self.supervisors)}"
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", BEGIN, ENGINE, self.name, str(sign)]
            self.supervisors.append(subprocess.Popen(command, stdout=log, stderr=log))
        self.until(sign.exists)

    def state(self, service: str) -> str:
        command = ["docker", "inspect", "--format", "{{.State.Status}}", f"{self.name}-{service}-1"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def kill(self, service: str, *options: str) -> None:
        command = ["docker", "kill", *options, f"{self.name}-{service}-1"]
        subprocess.run(command, check=True, capture_output=True)

    def starts(self, service: str) -> int:
        """How often a supervisor says that it started a service."""
        return self.log.read_text().count(f":{service} was killed")

    def until(self, seen: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not seen():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SupervisedProject]:
    made = SupervisedProject(tmp_path)
    try:
        made.compose("up", "-d")
        yield made
    finally:
        for one in made.supervisors:
            one.kill()
            one.wait()
        remove_project(made.name)


def test_what_was_killed_is_started_once_and_what_was_stopped_or_ends_is_not(project: SupervisedProject) -> None:
    project.begin()
    project.begin()
    # With and without time to end: the engine reports the stop before the end, or after it.
    project.compose("stop", "other")
    project.compose("start", "other")
    project.compose("stop", "-t", "0", "other")
    project.kill("job")
    for times in (1, 2):
        project.kill("web")
        project.until(lambda times=times: project.starts("web") == times)  # type: ignore[misc]
    # A signal that asks for an end may begin a stop, so this takes longer; all before it is decided by then.
    project.kill("web", "--signal", "TERM")
    project.until(lambda: project.starts("web") == 3)

    assert [project.state(service) for service in ("web", "other", "job")] == ["running", "exited", "exited"]
    assert project.starts("other") == project.starts("job") == 0
    assert "traceback" not in project.log.read_text().lower()


def test_what_was_killed_while_no_supervisor_ran_is_started_by_the_next(project: SupervisedProject) -> None:
    project.compose("stop", "other")
    project.kill("web")
    project.begin()
    project.until(lambda: project.starts("web") == 1)
    assert project.state("web") == "running"
    assert project.state("other") == "exited"
    # Removed while it is down, it is forgotten.
    project.kill("web")
    project.compose("rm", "-f", "web")
    project.compose("up", "-d", "other")
    project.kill("other")
    project.until(lambda: project.starts("other") == 1)
    assert project.supervisors[0].poll() is None
