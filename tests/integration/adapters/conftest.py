"""Small Compose projects under names of their own, removed with everything they made."""

from __future__ import annotations

import os
import secrets
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.compose.cli import ComposeCli
from adapters.compose.variables import process_environment
from adapters.docker.engine import DockerEngine
from core.deployment.plan import start_waves
from models.containers import ContainerState
from models.environments import Environment

IMAGE = "debian:trixie-slim"
ON_THE_HOST = "services: {it: {image: IMAGE, command: FOREVER, network_mode: host}}"
FOREVER = "[sh, -c, \"trap 'exit 0' TERM; sleep 1000 & wait\"]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeProject:
    """A project with its own folder, and its clients."""

    environment: Environment
    engine: DockerEngine
    folder: Path

    @property
    def name(self) -> str:
        return self.environment.project

    def compose(self, **variables: str) -> ComposeCli:
        return ComposeCli(self.environment, process_environment(self.environment, os.environ | variables))

    def kept(self, template: dict[str, Any], **variables: str) -> ComposeCli:
        """Compose run on a document in place of the files."""
        given = process_environment(self.environment, os.environ | variables, template)
        return ComposeCli(self.environment, given, template)

    def started(self, **variables: str) -> list[ContainerState]:
        """Create and start everything; its containers as they are right after."""
        compose = self.compose(**variables)
        compose.create()
        files = compose.injections()
        for service in (name for wave in start_waves(compose.render()) for name in wave):
            for seen in self.engine.containers.inspect_project(self.name, service):
                self.engine.containers.start(seen.container_id, files.get(service, ()))
        return self.engine.containers.inspect_project(self.name)

    def one(self, service: str) -> ContainerState:
        (found,) = self.engine.containers.inspect_project(self.name, service)
        return found


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    client = DockerEngine("unix:///var/run/docker.sock")
    yield client
    client.close()


@pytest.fixture
def make_project(tmp_path: Path, engine: DockerEngine) -> Iterator[Callable[..., ComposeProject]]:
    """Give a project made of the text of a Compose file."""
    with projects(tmp_path, engine) as make:
        yield make


@pytest.fixture(scope="module")
def on_the_host(tmp_path_factory: pytest.TempPathFactory, engine: DockerEngine) -> Iterator[ComposeProject]:
    """A container that shares the host's network, so its ports are those of the tests' servers."""
    with projects(tmp_path_factory.mktemp("on_the_host"), engine) as make:
        project = make(ON_THE_HOST)
        project.started()
        yield project


@contextmanager
def projects(folder: Path, engine: DockerEngine) -> Iterator[Callable[..., ComposeProject]]:
    """Make projects in a folder, and remove what they made."""
    made: list[Environment] = []

    def make(text: str, **fields: object) -> ComposeProject:
        project = f"roas-test-{secrets.token_hex(4)}"
        file = folder / "compose.yaml"
        file.write_text(textwrap.dedent(text).replace("IMAGE", IMAGE).replace("FOREVER", FOREVER))
        environment = Environment.model_validate(
            {"name": "test", "project": project, "compose_files": [file], **fields}
        )
        made.append(environment)
        return ComposeProject(environment=environment, engine=engine, folder=folder)

    try:
        yield make
    finally:
        for environment in made:
            down = ["docker", "compose", "--project-name", environment.project, "down", "--volumes", "--timeout", "1"]
            subprocess.run(down, check=True, capture_output=True)
