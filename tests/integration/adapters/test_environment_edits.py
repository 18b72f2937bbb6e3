"""A notification channel is added to an environment file that a user has written, and nothing else changes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.config.environment_edits import add_channel
from adapters.config.environments import read_environment
from models.failures import EnvironmentFileError

BLOCK = "discord-webhook/operations"
HEAD = "# mine\ncompose_files: [compose.yaml]  # beside it\nproject: shop\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HEAD, f"{HEAD}notify: [{BLOCK}]\n"),
        (HEAD.rstrip("\n"), f"{HEAD}notify: [{BLOCK}]\n"),
        (
            f"{HEAD}\n# services\nservices: {{}}\n",
            f"{HEAD}notify: [{BLOCK}]\n\n# services\nservices: {{}}\n",
        ),
        (f"{HEAD}notify: []  # nobody\n", f"{HEAD}notify: [{BLOCK}]  # nobody\n"),
        (
            f"{HEAD}notify: [slack-webhook/a]\nengine: unix:///x\n",
            f"{HEAD}notify: [slack-webhook/a, {BLOCK}]\nengine: unix:///x\n",
        ),
        (
            f"notify:\n  - slack-webhook/a  # us\n  - slack-webhook/b\n{HEAD}",
            f"notify:\n  - slack-webhook/a  # us\n  - slack-webhook/b\n  - {BLOCK}\n{HEAD}",
        ),
        (
            f"{HEAD}notify:\n- slack-webhook/a # us\n",
            f"{HEAD}notify:\n- slack-webhook/a # us\n- {BLOCK}\n",
        ),
    ],
)
def test_only_the_channel_is_added(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "roas.yaml"
    file.write_text(before)
    file.chmod(0o640)

    assert add_channel(file, "shop", BLOCK)

    assert file.read_text() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert read_environment(file, "shop").notify[-1] == BLOCK
    assert list(tmp_path.iterdir()) == [file]


def test_a_channel_that_is_named_already_is_not_named_twice(tmp_path: Path) -> None:
    file = tmp_path / "roas.yaml"
    file.write_text(f"{HEAD}notify: [{BLOCK}]\n")

    assert not add_channel(file, "shop", BLOCK)
    assert file.read_text() == f"{HEAD}notify: [{BLOCK}]\n"


def test_a_file_that_cannot_take_a_line_stays_as_it_is(tmp_path: Path) -> None:
    text = "{compose_files: [compose.yaml], project: shop}\n"
    file = tmp_path / "roas.yaml"
    file.write_text(text)

    with pytest.raises(EnvironmentFileError, match="no line can be added"):
        add_channel(file, "shop", BLOCK)
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "roas.yaml"
    real.write_text(HEAD)
    link.symlink_to(real)

    assert add_channel(link, "shop", BLOCK)
    assert link.is_symlink()
    assert BLOCK in real.read_text()
