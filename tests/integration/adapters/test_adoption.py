"""Adoption of a running project: its Compose files are found by the labels of its containers."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable

import pytest

from adapters.adoption import gather_application, running_application
from adapters.docker.engine import DockerEngine
from models.failures import EnvironmentFileError, NotFoundError
from tests.integration.adapters.conftest import IMAGE, Project

pytestmark = pytest.mark.engine
Make = Callable[..., Project]

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


def test_says_that_compose_did_not_make_a_container(engine: DockerEngine) -> None:
    name = f"roas-test-{secrets.token_hex(4)}"
    subprocess.run(["docker", "create", "--name", name, IMAGE, "true"], check=True, capture_output=True)
    try:
        with pytest.raises(NotFoundError, match="was not made by Compose"):
            running_application(name, engine)
    finally:
        subprocess.run(["docker", "rm", name], check=True, capture_output=True)


def test_says_that_there_is_no_such_project(engine: DockerEngine) -> None:
    with pytest.raises(NotFoundError, match="No container is of a Compose project 'nosuch'"):
        running_application("nosuch", engine)
