"""The lists of commands that `roas --help` and `roas --help --all` print."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from cli.main import OTHER_NAMES, PURPOSES, USUAL, roas


def test_every_command_has_one_purpose() -> None:
    listed = [name for names in PURPOSES.values() for name in names]

    assert sorted(listed) == roas.list_commands(click.Context(roas))


def listed(*options: str) -> dict[str, str]:
    shown = CliRunner().invoke(roas, [*options], terminal_width=80).output
    assert "\nDeploy:\n" in shown
    found = [(name, line) for name in known() for line in shown.splitlines() if line.startswith(f"  {name}  ")]
    lines = dict(found)
    assert len(lines) == len(found)
    return lines


def known() -> list[str]:
    return roas.list_commands(click.Context(roas))


@pytest.mark.parametrize("options", [("--help", "--all"), ("--all", "-h")])
def test_help_lists_each_command_on_one_line(options: tuple[str, ...]) -> None:
    lines = listed(*options)

    assert sorted(lines) == known()
    assert max(map(len, lines.values())) <= 80


def test_the_short_help_lists_the_commands_of_a_day_and_counts_the_others() -> None:
    assert listed("--help").keys() == USUAL
    assert len(USUAL) <= 25
    assert f"And {len(known()) - len(USUAL)} more: roas --help --all" in CliRunner().invoke(roas, ["-h"]).output


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_former_name_does_what_its_new_one_does_and_no_help_lists_it(name: str) -> None:
    assert name not in known()
    now = [word for word in OTHER_NAMES[name].split() if not word.startswith("--")]
    former, present = (
        CliRunner().invoke(roas, [*words, "--help"], terminal_width=80).output for words in ([name], now)
    )
    assert former.replace(f"roas {name}", f"roas {' '.join(now)}", 1).split() == present.split()
    assert f"  {name}  " not in CliRunner().invoke(roas, ["--help", "--all"], terminal_width=80).output
