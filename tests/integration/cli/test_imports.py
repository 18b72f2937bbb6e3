"""Commands that read records wait for nothing that they do not use."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli.enrol import OF_FLEET
from cli.main import COMMANDS_OF

ROOT = Path(__file__).parents[3]
_RUN = "import sys; from cli.exit_codes import run_command; from cli.main import roas; code = run_command(roas)"
_SLOW = ("pydantic_settings", "prefect", "numpy", "scipy", "pyarrow", "redis", "docker")


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["why"],
        ["alerts"],
        ["--help"],
        *(pytest.param(words, marks=pytest.mark.campaign) for words in (["history"], ["tickets"], ["show", "x"])),
    ],
)
def test_command_that_reads_imports_no_slow_library(tmp_path: Path, words: list[str]) -> None:
    imported = imported_by(tmp_path, *words)
    assert "click" in imported
    assert not {name.partition(".")[0] for name in imported} & set(_SLOW)


def test_sizes_are_proposed_without_a_slow_library(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: nginx}}")
    imported = imported_by(tmp_path, "size", "-f", str(tmp_path / "compose.yaml"))
    assert "tasks.reporting.sizes" in imported
    assert not {name.partition(".")[0] for name in imported} & set(_SLOW)


def imported_by(tmp_path: Path, *words: str) -> set[str]:
    """The modules that are loaded when a command ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
    folders = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", f"{_RUN}; print('imported', *sys.modules)", *words],
        env=kept | folders, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(found.stdout.rpartition("imported ")[2].split())


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (["history"], {"models.tables.monitoring", "models.tables.errors"}),
        pytest.param(
            ["tickets"], {"models.tables.deployment_logs", "models.tables.monitoring"}, marks=pytest.mark.campaign
        ),
        pytest.param(["alerts"], {"models.tables.deployment_logs", "models.tables.errors"}, marks=pytest.mark.campaign),
    ],
)
def test_command_that_reads_maps_the_tables_of_its_store_alone(
    words: list[str], others: set[str], tmp_path: Path
) -> None:
    imported_by(tmp_path, "patterns", "add", "warp", "warp core", "--category", "timeout")
    imported = imported_by(tmp_path, *words)
    assert any(name.startswith("models.tables.") for name in imported)
    assert not imported & others


def test_every_command_of_a_module_is_listed_with_it_or_belongs_to_a_group() -> None:
    for module, names in COMMANDS_OF.items():
        variables = vars(importlib.import_module(f"cli.{module}"))
        assert tuple(variables[name].name for name in names) == names
        commands = [value for value in variables.values() if isinstance(value, click.Command)]
        groups = [command for command in commands if isinstance(command, click.Group)]
        reachable = {
            *names,
            *(name for group in groups for name in group.commands),
            *(command.name for command in OF_FLEET),
        }
        assert {command.name for command in commands} <= reachable
