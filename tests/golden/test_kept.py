"""What an earlier version of the program left, as the commands that read show it; kept/make.py made it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.golden.conftest import RoasCommand, golden
from tests.golden.test_reading import without_sizes
from tests.support.commands import ForkedRoas
from tests.support.kept_folder import unpack

NOW = "2026-12-01T12:00:00+00:00"
NAMES = ("shop", "start", "update", "undoing", "rollback", "restart", "restore")


@pytest.fixture
def kept(tmp_path: Path, runner: ForkedRoas) -> RoasCommand:
    """`roas` in the folder, a day after it was made."""
    unpack(tmp_path)
    return RoasCommand(runner, tmp_path, now=NOW)


def ids(kept: RoasCommand, name: str) -> dict[str, list[str]]:
    """The ids of the operations of an environment and of its tickets, oldest first."""

    def ask(store: str, question: str) -> list[str]:
        with closing(sqlite3.connect(kept.folder / "data" / f"{store}.db")) as connection:
            return [row[0] for row in connection.execute(question, (name,))]

    return {
        "history": ask(
            "deployment_logs", "SELECT deployment_id FROM deployment_operations WHERE environment = ? ORDER BY id"
        ),
        "tickets": ask("errors", "SELECT ticket_id FROM manual_intervention_tickets WHERE environment = ? ORDER BY id"),
    }


def commands(kept: RoasCommand, name: str) -> Iterator[tuple[str, ...]]:
    """What a person types to read what an environment has gone through: all of the shop, else what was interrupted."""
    recorded = ids(kept, name)
    yield from (("history", name), ("releases", name), ("tickets", name, "--all"))
    if name == "shop":
        yield from (
            ("status", name),
            ("alerts", name, "--all"),
            ("snapshot", "list", name),
            ("why", name, "--evidence"),
        )
    for operation in recorded["history"] if name == "shop" else recorded["history"][-1:]:
        yield from (("history", operation), ("why", operation))
    yield from (("tickets", ticket) for ticket in recorded["tickets"])


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_of_an_earlier_version_is_read(kept: RoasCommand, name: str) -> None:
    texts = [without_sizes(kept(*words).transcript()) for words in commands(kept, name)]

    golden(f"kept/{name}.txt", "\n".join(texts))


def test_its_record_is_unchanged_and_whole(kept: RoasCommand) -> None:
    assert kept("history", "--verify").code == 0
    assert kept("db", "check").code == 0
