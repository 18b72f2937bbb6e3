"""The agent of a host as its own process, with small real applications on the engine."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.support.projects import remove_project

IMAGE = "debian:trixie-slim"
WEB = """
web:
  image: debian:trixie-slim
  init: true
  command: [sh, -c, 'touch /tmp/well; exec sleep 600']
  healthcheck:
    {test: [CMD, test, -e, /tmp/well], interval: 3s, timeout: 30s, retries: 2, start_period: 10s, start_interval: 200ms}
"""
WAITING = """
web:
  image: debian:trixie-slim
  init: true
  command: [sleep, '600']
  tmpfs: [/well]
  healthcheck:
    {test: [CMD, test, -e, /well/yes], interval: 3s, timeout: 30s, retries: 9, start_period: 5m, start_interval: 200ms}
"""
"""Each time that it is started it is healthy only once the test says so (`Host.let_be_well`)."""


@dataclass(slots=True)
class LocalHost:
    """A folder of environments and records, and the agent that carries them."""

    folder: Path
    variables: dict[str, str]
    projects: list[str] = field(default_factory=list)
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)
    inside: tuple[str, ...] = ()
    """The words before a command that run it in a network of its own."""

    def docker(self, *words: str, check: bool = True) -> str:
        """What the docker command prints, talking to the engine of this host."""
        variables = os.environ | self.variables
        done = subprocess.run(["docker", *words], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.folder / "data", environments_dir=self.folder / "environments")

    def declare(self, services: str = WEB, /, **fields: object) -> str:
        """Write an environment with its Compose file; returns its name, which is its project too."""
        name = f"roas-test-{secrets.token_hex(4)}"
        self.projects.append(name)
        (self.folder / name).mkdir()
        compose = self.compose(name, services)
        lines = {"name": name, "project": name, "compose_files": f"[{compose}]", "stabilisation_seconds": 0.5} | fields
        self.write(name, "".join(f"{key}: {value}\n" for key, value in lines.items()))
        return name

    def compose(self, name: str, services: str) -> Path:
        """Write an environment's Compose file."""
        compose = self.folder / name / "compose.yaml"
        compose.write_text(f"services:\n{textwrap.indent(textwrap.dedent(services).strip(), '  ')}\n")
        return compose

    def write(self, name: str, text: str) -> None:
        (self.folder / "environments" / f"{name}.yaml").write_text(text)

    def up(self, name: str) -> None:
        self.docker("compose", "-p", name, "-f", str(self.folder / name / "compose.yaml"), "up", "-d", "--wait")

    def begin(self, *arguments: str, command: str = "worker", **variables: str) -> subprocess.Popen[bytes]:
        """Start the agent, or `roas serve`."""
        with self.log.open("ab") as log:
            agent = subprocess.Popen(
                [*self.inside, sys.executable, "-c", "from cli.entry import main; main()", command, *arguments],
                env=os.environ | self.variables | variables,
                stdout=log,
                stderr=log,
            )
        self.agents.append(agent)
        return agent

    def roas(self, *words: str) -> str:
        """What a command prints on this host, whatever its exit code."""
        command = [*self.inside, sys.executable, "-c", "from cli.entry import main; main()", *words]
        done = subprocess.run(command, env=os.environ | self.variables, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def watched(self, name: str, times: int = 1) -> None:
        """Wait until the agent has said so often that it watches an environment."""
        self.until(lambda: self.text().count(f"watching {name}\n") >= times)

    def until(self, seen: Callable[[], bool], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < deadline, f"it did not come to that:\n{self.text()[-6000:]}"
            time.sleep(0.1)

    def stores(self) -> Stores:
        return Stores.open(self.settings)

    def kill(self, name: str, service: str = "web") -> None:
        """End a service as the kernel would; no person asked for it."""
        self.docker("kill", f"{name}-{service}-1")

    def state(self, name: str) -> str:
        """State and process of the service web, empty where there is no container."""
        shown = "{{.State.Status}} {{.State.Pid}}"
        return self.docker("inspect", "--format", shown, f"{name}-web-1", check=False)

    def let_be_well(self, name: str) -> None:
        """Let a service of WAITING become healthy."""
        self.docker("exec", f"{name}-web-1", "touch", "/well/yes")

    def runs(self, name: str, service: str = "web") -> bool:
        shown = "{{.State.Status}} {{.State.Health.Status}}"
        return self.docker("inspect", "--format", shown, f"{name}-{service}-1", check=False) == "running healthy"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LocalHost]:
    with made_host(tmp_path) as made:
        yield made


@contextmanager
def made_host(folder: Path, **more: str) -> Iterator[LocalHost]:
    """A host in a folder, with more variables; at the end its agents are ended and its applications removed."""
    (folder / "environments").mkdir(parents=True)
    variables = {
        "ROAS_DATA_DIR": str(folder / "data"),
        "ROAS_ENVIRONMENTS_DIR": str(folder / "environments"),
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    } | more
    made = LocalHost(folder, variables)
    try:
        yield made
    finally:
        for agent in made.agents:
            if agent.poll() is None:
                agent.send_signal(signal.SIGTERM)
        for agent in made.agents:
            try:
                agent.wait(timeout=300)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
        for project in made.projects:
            remove_project(project)
