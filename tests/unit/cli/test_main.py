"""The list of commands that `roas --help` prints."""

from __future__ import annotations

import click
from click.testing import CliRunner

from cli.main import PURPOSES, roas


def test_every_command_has_one_purpose() -> None:
    listed = [name for names in PURPOSES.values() for name in names]

    assert sorted(listed) == roas.list_commands(click.Context(roas))


def test_help_lists_each_command_on_one_line() -> None:
    shown = CliRunner().invoke(roas, ["--help"], terminal_width=80).output.splitlines()

    for name in roas.list_commands(click.Context(roas)):
        (line,) = [one for one in shown if one.startswith(f"  {name}  ")]
        assert len(line) <= 80
    assert "Deploy:" in shown
