"""Commands end soon when they are asked to, leave nothing when they are killed, and open a new data folder at once.

`python -m tests.e2e.runtime` does more of each.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.e2e.runtime.ends import Folder, end_serve, folder, kill_watch, open_at_once
from tests.e2e.runtime.kills import VICTIMS, Kills

pytestmark = pytest.mark.campaign


@pytest.fixture
def place() -> Iterator[Folder]:
    with folder() as made:
        yield made


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, 1.0), (signal.SIGTERM, 4.0), (signal.SIGINT, 9.0)])
def test_serve_that_begins_ends_soon_and_leaves_nothing(place: Folder, number: int, moment: float) -> None:
    place.declare("test")
    ended = end_serve(place, moment, number)
    assert ended.left == ()
    assert not ended.problem


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("moment", [2.0, 9.0])
def test_killed_watch_leaves_only_what_later_commands_use(place: Folder, moment: float, *, warm: bool) -> None:
    place.declare("test")
    ended = kill_watch(place, moment, warm=warm)
    assert ended.left == ()
    assert not ended.problem


@pytest.mark.engine
def test_starts_at_once_open_a_new_data_folder(place: Folder) -> None:
    codes = open_at_once(place)
    assert set(codes.values()) == {0}, (place.path / "log").read_text(errors="replace")


@pytest.mark.engine
def test_killed_operations_tell_no_success_and_end(place: Folder) -> None:
    kills = Kills(place, seed=3)
    try:
        kills.prepare()
        for victim in VICTIMS:
            assert kills.kill(victim).is_true, kills.log()
        assert kills.settle() == ([], [])
    finally:
        kills.end()
