"""A machine of 1 GiB carries an engine, an application and `roas serve`, through all that is asked of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.runtime.conftest import ROOT, eventually
from tests.support.engines import IMAGE
from tests.support.small_machine import SmallMachine, small_machine

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=120)]

MIB = 1024
COMPOSE = f"""
x-well: &well
  test: [CMD, test, -e, /tmp/well]
  interval: 1s
  start_interval: 200ms
  start_period: 20s
services:
  store:
    image: {IMAGE}
    pull_policy: never
    init: true
    command: [sh, -c, "head -c 200000000 /dev/urandom > /srv/content; touch /tmp/well; exec sleep 3600"]
    volumes: ["files:/srv"]
    healthcheck: *well
  web:
    image: {IMAGE}
    pull_policy: never
    init: true
    depends_on: {{store: {{condition: service_healthy}}}}
    command: [sh, -c, "touch /tmp/well; exec sleep 3600"]
    environment: {{RELEASE: "1"}}
    healthcheck: *well
volumes: {{files: {{}}}}
"""
SAVED = "data: {save: [{kind: files, volume: files}]}\n"
ROAS = (sys.executable, "-P", "-c", "import sys; sys.argv[0] = 'roas'; from cli.entry import main; main()")


@dataclass(frozen=True, slots=True)
class SmallUser:
    """A user of such a machine."""

    machine: SmallMachine
    home: Path

    @property
    def application(self) -> Path:
        return self.home / "app"

    def command(self, *words: str) -> list[str]:
        return [*self.machine.inside, *ROAS, *words]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_", "XDG_"))}
        own = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home), "PYTHONPATH": str(ROOT)}
        return kept | own | {"DOCKER_HOST": self.machine.engine.address}

    def roas(self, *words: str) -> str:
        done = subprocess.run(
            self.command(*words),
            cwd=self.application,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"roas {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def small_user() -> Iterator[SmallUser]:
    # The path of a socket is short, and pytest's folders are not.
    home = Path(tempfile.mkdtemp(prefix="roas-"))
    (home / "app").mkdir()
    (home / "app" / "compose.yaml").write_text(COMPOSE)
    try:
        with small_machine(MIB) as machine:
            yield SmallUser(machine, home)
    finally:
        shutil.rmtree(home)


def test_one_environment_lives_in_a_gibibyte(small_user: SmallUser) -> None:
    small_user.roas("init")
    with (small_user.application / "roas.yaml").open("a") as file:
        file.write(SAVED)
    assert "success" in small_user.roas("start")
    log = small_user.home / "serve.log"
    with log.open("wb") as output:
        serving = subprocess.Popen(
            small_user.command("serve"),
            cwd=small_user.home,
            env=small_user.environment() | {"ROAS_ENVIRONMENTS_DIR": ""},
            stdout=output,
            stderr=output,
        )
    eventually(lambda: "watching app" in log.read_text(), "the agent watches")

    small_user.machine.engine.docker("kill", "app-web-1")
    eventually(lambda: "recovery of web: web healthy again" in log.read_text(), "it is healed")
    compose = small_user.application / "compose.yaml"
    compose.write_text(COMPOSE.replace('RELEASE: "1"', 'RELEASE: "2"'))
    assert "success" in small_user.roas("update", "app")
    assert "is complete" in small_user.roas("snapshot", "create", "app")
    assert "can be restored" in small_user.roas("snapshot", "rehearse", "app")
    assert "healthy" in small_user.roas("status", "app")

    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=300) == 0, log.read_text()
    # A warm process that runs nothing may be ended where a snapshot needs the memory; no other one is missed.
    assert "was killed" not in log.read_text(), log.read_text()
    listed = small_user.machine.engine.docker("ps", "--all", "--quiet").split()
    assert "true" not in small_user.machine.engine.docker("inspect", "--format", "{{.State.OOMKilled}}", *listed)
    print(f"{small_user.machine.kills()} killed; most in use: {small_user.machine.most_mib()} MiB")
