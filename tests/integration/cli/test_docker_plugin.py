"""`docker roas …`: a link to our command among the plugins of the docker command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def docker(tmp_path: Path) -> dict[str, str]:
    """The variables of a user whose docker command finds the plugin."""
    plugin = tmp_path / "cli-plugins" / "docker-roas"
    plugin.parent.mkdir()
    plugin.symlink_to(Path(sys.executable).with_name("roas"))
    return {**os.environ, "DOCKER_CONFIG": str(tmp_path), "ROAS_DATA_DIR": str(tmp_path / "data")}


def run(variables: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_docker_lists_it_and_runs_its_commands(docker: dict[str, str]) -> None:
    info = run(docker, "docker", "info", "--format", "{{json .ClientInfo.Plugins}}")
    plugins = {plugin["Name"]: plugin for plugin in json.loads(info.stdout)}
    assert plugins["roas"]["ShortDescription"].startswith("Start, prove")
    assert "Err" not in plugins["roas"]
    assert run(docker, "docker", "roas", "--version").stdout.startswith("roas ")
    refused = run(docker, "docker", "roas", "start", "no-such-environment", "--nothing")
    assert (refused.returncode, "--nothing" in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize("problem", ["", "exit status 1"])
def test_a_hint_follows_what_failed_alone(docker: dict[str, str], problem: str) -> None:
    plugin = str(Path(docker["DOCKER_CONFIG"], "cli-plugins", "docker-roas"))
    asked = json.dumps({"RootCmd": "compose up", "Flags": {"d": ""}, "CommandError": problem}, separators=(",", ":"))
    answer = run(docker, plugin, "roas", "docker-cli-plugin-hooks", asked).stdout
    assert ("docker roas start" in json.loads(answer)["Template"]) if problem else answer == ""
