"""Which program runs Compose: the plugin itself, unless something else stands for Docker's command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.compose.program import compose_program

BINARY = b"\x7fELF and more"
THROUGH_DOCKER = ["docker", "compose"]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    executable(tmp_path / "bin" / "docker", BINARY)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}


def executable(file: Path, content: bytes, mode: int = 0o755) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_the_plugin_of_the_user_is_called_itself(tmp_path: Path, variables: dict[str, str]) -> None:
    plugin = executable(tmp_path / ".docker" / "cli-plugins" / "docker-compose", BINARY)

    assert compose_program(variables) == [str(plugin)]


def test_configured_folders_come_before_the_own_one(tmp_path: Path, variables: dict[str, str]) -> None:
    executable(tmp_path / "own" / "cli-plugins" / "docker-compose", BINARY)
    plugin = executable(tmp_path / "extra" / "docker-compose", BINARY)
    (tmp_path / "own" / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(tmp_path / "extra")]}))

    assert compose_program(variables | {"DOCKER_CONFIG": str(tmp_path / "own")}) == [str(plugin)]


@pytest.mark.parametrize("broken", ["[]", "{", '{"cliPluginsExtraDirs": 7}'])
def test_a_broken_configuration_names_no_folders(tmp_path: Path, variables: dict[str, str], broken: str) -> None:
    plugin = executable(tmp_path / ".docker" / "cli-plugins" / "docker-compose", BINARY)
    (tmp_path / ".docker" / "config.json").write_text(broken)

    assert compose_program(variables) == [str(plugin)]


def test_a_script_in_place_of_docker_is_called(tmp_path: Path, variables: dict[str, str]) -> None:
    executable(tmp_path / "bin" / "docker", b"#!/bin/sh\nexec ssh there docker $@\n")
    executable(tmp_path / ".docker" / "cli-plugins" / "docker-compose", BINARY)

    assert compose_program(variables) == THROUGH_DOCKER


def test_without_docker_its_absence_is_reported(tmp_path: Path) -> None:
    executable(tmp_path / ".docker" / "cli-plugins" / "docker-compose", BINARY)

    assert compose_program({"PATH": str(tmp_path), "HOME": str(tmp_path)}) == THROUGH_DOCKER


@pytest.mark.parametrize(("content", "mode"), [(b"#!/bin/sh\n", 0o755), (BINARY, 0o644)])
def test_docker_judges_a_plugin_that_is_no_program(
    tmp_path: Path, variables: dict[str, str], content: bytes, mode: int
) -> None:
    executable(tmp_path / ".docker" / "cli-plugins" / "docker-compose", content, mode)

    assert compose_program(variables) == THROUGH_DOCKER
