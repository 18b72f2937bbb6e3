"""The same scenarios on the real engine: real containers, whose programs do what the simulated ones do."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import sqlite3
import subprocess
import time
from base64 import b64encode
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from models.failures import RoasError
from tests.simulation.containers import Outcome, Version
from tests.simulation.real_records import Normalizer, Records, names_of_images, read_containers, read_records
from tests.simulation.real_round import wait_until_steady, watch_while
from tests.simulation.real_scenarios import COMMANDS, Doing, RealStep, Scenario
from tests.simulation.world import NAME, document_of
from tests.support.registry import Registry

_BY_HAND = {
    Doing.STOP_BY_HAND: ("stop", "--time", "5"),
    Doing.START_BY_HAND: ("start",),
    Doing.KILL_BY_HAND: ("kill",),
    Doing.PAUSE_BY_HAND: ("pause",),
    Doing.UNPAUSE_BY_HAND: ("unpause",),
}
_POSSIBLE = {
    Doing.STOP_BY_HAND: ("running", "paused"),
    Doing.START_BY_HAND: ("created", "exited"),
    Doing.KILL_BY_HAND: ("running", "paused"),
    Doing.UNPAUSE_BY_HAND: ("paused",),
}
"""States of a container in which something can be done to it, where they are others than that it runs."""
_INSIDE = {
    Doing.CRASH: "kill -USR1 1",
    Doing.UNHEALTHY: "rm -f /tmp/well",
}
_LOOKS_EVERY = 0.1
_IDLE = "while :; do pause 3600; done"
_READY = "touch /tmp/well; echo ready"
_BEGIN = """\
rm -f /tmp/well
pause() { sleep "$1" & wait $!; }
trap 'exit 143' TERM
trap 'echo worker ended; exit 1' USR1
if [ -d /data ]; then
  echo "$SERVICE $VERSION" >> /data/rows
  [ -e /data/state.db ] || echo {database} | base64 -d | gzip -d > /data/state.db
fi
"""
"""A program that is the first process of its container ends at a signal only where it says so."""


def program_of(version: Version) -> str:
    """What a version does once it is started, as a script."""
    scripts = {
        Outcome.SERVES: f"pause {version.starts_in}; {_READY}; {_IDLE}",
        Outcome.CRASHES: f"echo 'fatal error: version {version.number} has a defect'; pause 0.5; exit 1",
        Outcome.UNHEALTHY: f"pause {version.starts_in}; echo ready; {_IDLE}",
        Outcome.HANGS: _IDLE,
        Outcome.CRASHES_LATER: f"pause {version.starts_in}; {_READY}; pause {version.crashes_after}; exit 1",
    }
    return _BEGIN.replace("{database}", _database()) + scripts[version.outcome]


def _database() -> str:
    """A small SQLite file, compressed, in letters."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("PRAGMA page_size = 512; CREATE TABLE state (content TEXT)")
        return b64encode(gzip.compress(connection.serialize(), mtime=0)).decode()


@dataclass(slots=True)
class RealWorld:
    """An environment on the machine's engine, in a folder with its stores; names of images are its own."""

    folder: Path
    registry: Registry
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    timeline: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str:
        """The project's name."""
        return f"roas-real-{self.mark}"

    async def run(self, scenario: Scenario) -> Records:
        """Run a scenario, and return its records as those of the simulated world are."""
        for version in scenario.first:
            self.publish(version)
        self._write_files(scenario)
        for step in scenario.steps:
            await self.do(step)
        records = await asyncio.to_thread(read_records, NAME) | await read_containers(NAME)
        for shape in scenario.shapes:
            self._names |= {
                self._reference(shape.name): f"<image of {shape.name}>",
                self._reference(shape.name).rpartition(":")[0]: f"<repository of {shape.name}>",
            }
        self._names |= {self.project: NAME, str(self.folder): "<folder>", "unix:///var/run/docker.sock": "<engine>"}
        return Normalizer(self._names).apply(records)

    async def do(self, step: RealStep) -> None:
        """Do one step, and wait until it has ended."""
        if step.version is not None:
            self.publish(step.version)
        if step.doing in COMMANDS:
            try:
                await COMMANDS[step.doing]()
                end = "well"
            except RoasError as error:
                end = str(error)
        else:
            await watch_while(NAME, lambda: asyncio.to_thread(self._touch, step), self.is_steady)
            end = "well"
        self.timeline.append(f"{step}: {end}")
        await wait_until_steady(self.is_steady)

    async def is_steady(self) -> bool:
        """Whether no program is about to become ready."""
        listed = ("ps", "--format", "{{.Status}}", "--filter", f"label=com.docker.compose.project={self.project}")
        return "(health: starting)" not in await asyncio.to_thread(_docker, *listed)

    def publish(self, version: Version) -> None:
        """Build a version, and put it into the registry under the name that the Compose file has."""
        name = f"{self.mark}/{version.service}:stable"
        command = f"CMD {json.dumps(['sh', '-c', program_of(version)])}"
        digest = self.registry.publish(name, f"ENV SERVICE={version.service} VERSION={version.number}", command)
        built = _docker("image", "inspect", "--format", "{{.Id}}", f"127.0.0.1:{self.registry.port}/{name}").strip()
        self._names |= names_of_images((digest, built), version)

    def _reference(self, service: str) -> str:
        return self.registry.image(f"{self.mark}/{service}:stable")

    def _write_files(self, scenario: Scenario) -> None:
        environment = {"name": NAME, "compose_files": ["compose.yaml"], "project": self.project} | scenario.environment
        (self.folder / f"{NAME}.yaml").write_text(json.dumps(environment))
        document = document_of(self.project, scenario.shapes, self._reference)
        (self.folder / "compose.yaml").write_text(json.dumps(document))

    def _touch(self, step: RealStep) -> None:
        """Do something to the container of a service, if there is one for which it can be done."""
        name = f"{self.project}-{step.service}-1"
        state = _docker("ps", "--all", "--format", "{{.State}}", "--filter", f"name=^{name}$").strip()
        if state not in _POSSIBLE.get(step.doing, ("running",)):
            return
        if step.doing in _INSIDE:
            _do_inside(step.doing, name)
        else:
            _docker(*_BY_HAND[step.doing], name)

    def remove(self) -> None:
        """Remove what is left of it: containers, networks, volumes."""
        label = f"label=com.docker.compose.project={self.project}"
        for listed, removed in (
            (("ps", "--all", "--quiet"), ("rm", "--force", "--volumes")),
            (("network", "ls", "--quiet"), ("network", "rm")),
            (("volume", "ls", "--quiet"), ("volume", "rm")),
        ):
            if ids := _docker(*listed, "--filter", label).split():
                _docker(*removed, *ids)


def _do_inside(doing: Doing, name: str) -> None:
    """Let a program end, or its health check fail, and wait until the engine has noticed."""
    ended, health = _inspect(name, ".State.FinishedAt"), _inspect(name, "json .State.Health")
    # Detached: it ends with the program.
    _docker("exec", "--detach", name, "sh", "-c", _INSIDE[doing])
    if doing is Doing.CRASH:
        while _inspect(name, ".State.FinishedAt") == ended:
            time.sleep(_LOOKS_EVERY)
    elif '"Status":"healthy"' in health:
        while _inspect(name, ".State.Health.Status") == "healthy":
            time.sleep(_LOOKS_EVERY)


def _inspect(name: str, field_path: str) -> str:
    return _docker("inspect", "--format", f"{{{{{field_path}}}}}", name).strip()


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout
