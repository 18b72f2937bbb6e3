"""The agent as a container, by its Compose file: it enrols, heals, and keeps its records when it is made anew."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.fleet.conftest import LocalHost
from tests.e2e.fleet.control_plane import ControlPlane
from tests.support.prefect_server import own_server

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]


@dataclass(frozen=True)
class Boxed:
    project: str
    variables: dict[str, str]

    def compose(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, "-f", ROOT / "deployments/agent/compose.yaml", *words],
            env=os.environ | self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self) -> str:
        return self.compose("logs", "--no-log-prefix", "agent")


@contextmanager
def agent_of(host: LocalHost) -> Iterator[Boxed]:
    """The agent's image, built, and its project, which is removed with its records."""
    boxed = Boxed(f"roas-test-{secrets.token_hex(4)}", {"ROAS_APPLICATIONS": str(host.folder)})
    try:
        boxed.compose("build", "--quiet")
        yield boxed
    finally:
        boxed.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture
def boxed(host: LocalHost) -> Iterator[Boxed]:
    with agent_of(host) as made:
        yield made


def test_it_enrols_heals_and_keeps_its_records(host: LocalHost, boxed: Boxed, tmp_path: Path) -> None:
    name = host.declare()
    with own_server(tmp_path / "plane") as url:
        plane = ControlPlane(url, tmp_path / "plane")
        said = boxed.compose(
            "run", "--rm", "-T", "agent", "roas", "join", plane.address, plane.invite("boxed"), "--no-service"
        )
        assert f"enrolled at {plane.address} as boxed" in said
        boxed.compose("up", "--detach")
        run = plane.begin(f"startup/{name}")
        host.until(lambda: plane.state(run) == "COMPLETED", seconds=300)
    # Its control plane is away from here on.
    host.kill(name)
    host.until(lambda: host.runs(name))
    assert "UserWarning" not in boxed.log()
    boxed.compose("up", "--detach", "--force-recreate")
    host.until(lambda: boxed.log().count(f"watching {name}\n") == 1)
    host.kill(name)
    host.until(lambda: host.runs(name))
    host.until(lambda: boxed.log().count("web healthy again") == 1)
    history = boxed.compose("exec", "-T", "agent", "roas", "history", name)
    assert "success" in history
    assert "Prefect UI or API" in history
