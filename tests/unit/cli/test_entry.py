"""The script finds its command without the program, to know whether it may run in a warm process."""

from __future__ import annotations

import click
import pytest

from cli.entry import _OPTIONS_WITH_A_VALUE, command_of
from cli.main import roas


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("serve", "serve"),
        ("--config roas.yaml serve", "serve"),
        ("--config=roas.yaml top shop", "top"),
        ("--config serve", ""),
        ("history --config", "history"),
        ("--version", ""),
        ("", ""),
    ],
)
def test_the_command_is_behind_the_options(line: str, command: str) -> None:
    assert command_of(line.split()) == command


def test_it_knows_each_option_that_takes_a_value() -> None:
    taking = [one for one in roas.params if isinstance(one, click.Option) and not one.is_flag]

    assert sorted(name for one in taking for name in one.opts) == sorted(_OPTIONS_WITH_A_VALUE)
