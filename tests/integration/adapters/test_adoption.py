"""Adoption of a running project: its Compose files are found by the labels of its containers."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable

import pytest

from adapters.adoption import gather_application, running_application, try_probes
from adapters.docker.engine import DockerEngine
from adapters.programs import shipped_programs
from core.adoption.propose import propose
from models.adoption import ServiceProposal
from models.environments import TcpProbe
from models.failures import EnvironmentFileError, NotFoundError
from tests.integration.adapters.conftest import IMAGE, ComposeProject
from tests.support.docker_command import docker_command

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]

APPLICATION = "services: {web: {image: IMAGE, command: FOREVER, expose: [8000], restart: always}}"


def test_finds_the_files_of_a_project_until_they_are_gone(make_project: Make, engine: DockerEngine) -> None:
    project = make_project(APPLICATION)
    project.compose().create()
    files, _ = running_application(project.name, engine)
    assert files == project.environment.compose_files
    assert gather_application(project.environment).traits["web"].ports == (8000,)

    files[0].rename(files[0].with_name("moved.yaml"))
    with pytest.raises(EnvironmentFileError, match=r"are gone: .*compose\.yaml"):
        running_application(project.name, engine)


def test_tries_what_it_proposes_on_what_runs(make_project: Make, engine: DockerEngine) -> None:
    """The Compose files say ports and pages that the programs which run do not serve."""
    script = (
        "my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9, ReuseAddr => 1);"
        "while (my $c = $s->accept) { print $c qq(HTTP/1.0 404 Not Found\\r\\n\\r\\n) }"
    )
    serve = json.dumps(["perl", "-MIO::Socket::INET", "-e", script]).replace("$", "$$")
    project = make_project(
        f"""
        services:
          right: {{image: IMAGE, command: {serve}, expose: [8000], stop_signal: SIGKILL, restart: always}}
          elsewhere: {{image: IMAGE, command: FOREVER, expose: [8000], restart: always}}
          no_page:
            image: IMAGE
            command: {serve}
            stop_signal: SIGKILL
            restart: always
            healthcheck: {{test: [CMD, curl, -f, "http://localhost:8000/health"]}}
        """
    )
    project.compose().create()
    for one in engine.containers.inspect_project(project.name):
        engine.containers.start(one.container_id)
    facts = gather_application(project.environment)

    async def until_served() -> dict[str, ServiceProposal]:
        while True:
            tried = await try_probes(project.environment, propose(facts, shipped_programs()))
            found = {one.service: one for one in tried.services}
            if found["right"].spec.probe is not None and found["no_page"].spec.probe is not None:
                return found

    found = asyncio.run(asyncio.wait_for(until_served(), 60))
    assert found["right"].spec.probe == TcpProbe(kind="tcp", port=8000)
    assert found["no_page"].spec.probe == TcpProbe(kind="tcp", port=8000)
    assert "only its open port is asked" in found["no_page"].remarks[-1]
    assert found["elsewhere"].spec.probe is None
    assert "none is proposed: connection to" in found["elsewhere"].remarks[-1]


def test_says_that_compose_did_not_make_a_container(engine: DockerEngine) -> None:
    name = f"roas-test-{secrets.token_hex(4)}"
    docker_command("create", "--name", name, IMAGE, "true")
    try:
        with pytest.raises(NotFoundError, match="was not made by Compose"):
            running_application(name, engine)
    finally:
        docker_command("rm", name)


def test_says_that_there_is_no_such_project(engine: DockerEngine) -> None:
    with pytest.raises(NotFoundError, match="No container is of a Compose project 'nosuch'"):
        running_application("nosuch", engine)
