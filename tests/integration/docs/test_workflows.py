"""Workflows run what this checkout has, and the one that publishes trusts nothing that can change under its name."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.integration.docs.documents import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
SIGNING = {name: job for name, job in RELEASE["jobs"].items() if "id-token" in job["permissions"]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_scripts_and_targets_exist(file: Any) -> None:
    text = file.read_text()
    targets = set(re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    names = {name for target in targets for name in target.split()}
    called = re.findall(r"run: make ([a-z-]+)", text)
    scripts = re.findall(r"(?<![\w/])((?:\.ci|deployments)/[\w/.-]+)", text)
    assert called or scripts
    assert set(called) <= names
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_every_action_of_a_release_is_pinned_by_its_commit() -> None:
    used = [step["uses"] for job in RELEASE["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) is None] == []


def test_a_release_is_built_without_rights_and_signed_without_code_of_the_build() -> None:
    assert RELEASE["permissions"] == {}
    assert RELEASE["jobs"]["build"]["permissions"] == {"contents": "read"}
    assert SIGNING
    for job in SIGNING.values():
        assert job["needs"] == "build"
        assert job["environment"] == "release"
        commands = " ".join(step.get("run", "") for step in job["steps"])
        assert "make " not in commands
        assert "deployments/" not in commands


def test_no_step_of_a_release_puts_an_expression_into_a_shell() -> None:
    commands = [step["run"] for job in RELEASE["jobs"].values() for step in job["steps"] if "run" in step]
    assert [command for command in commands if "${{" in command] == []
