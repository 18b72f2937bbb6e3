"""Whatever moment a crash comes at, nothing is torn, lost or doubled; and the harness would see it if it were.

The whole, with some 20,000 states and 1,400 kills, is `python -m tests.integration.stores.crash`.
"""

import shutil

import pytest

from tests.integration.stores.crash import (
    attached,
    batch_up,
    batch_up_much,
    batch_up_safely,
    insert_blindly,
    judge,
    judge_all,
    judge_rows,
    keep_putting,
    keep_transacting,
    kill_many,
    one_after_another,
    record,
    remove_without_sync,
    retire_at_once,
    scratch_folder,
    transact,
)

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace notes what the files see")


@pytest.mark.campaign(seconds=4)
@needs_strace
@pytest.mark.parametrize("small", [False, True])
def test_a_crash_at_any_point_leaves_no_part_of_a_transaction(small: bool) -> None:
    found = judge_all(record(transact, 4, small=small), samples=1, every=7)
    assert set(found) == {"right"}


@pytest.mark.campaign(seconds=2)
@needs_strace
@pytest.mark.parametrize("way", [batch_up, batch_up_safely])
def test_a_crash_at_any_point_neither_loses_nor_doubles_a_row(way) -> None:
    found = judge_all(record(way, 7, small=True), samples=1, every=5)
    assert set(found) == {"right"}


@pytest.mark.campaign(seconds=2)
@needs_strace
@pytest.mark.parametrize("way", [one_after_another, attached])
def test_the_harness_finds_the_tears_of_what_everybody_would_write_first(way) -> None:
    assert judge_all(record(way, 4, small=False), samples=0, every=7, until="torn")["torn"] > 0


@needs_strace
def test_the_harness_finds_what_is_torn_without_repair() -> None:
    assert judge_all(record(transact, 4, small=False), samples=0, every=7, repair=False, until="torn")["torn"] > 0


@pytest.mark.campaign(seconds=4)
@needs_strace
def test_the_harness_finds_what_is_torn_where_intents_go_too_early() -> None:
    assert judge_all(record(retire_at_once, 4, small=False), samples=1, every=3, until="torn")["torn"] > 0


@pytest.mark.campaign(seconds=3)
@needs_strace
@pytest.mark.parametrize(("way", "wrong"), [(insert_blindly, "doubled"), (remove_without_sync, "lost")])
def test_the_harness_finds_rows_that_are_doubled_or_lost(way, wrong: str) -> None:
    assert judge_all(record(way, 7, small=True), samples=1, every=2, until=wrong)[wrong] > 0


def test_many_kills_of_four_writers_lose_tear_and_double_nothing() -> None:
    with scratch_folder() as folder:
        acked = sum(kill_many(folder, keep_transacting, transact, 30).values())
        assert judge(folder, acked) == "right"


def test_many_kills_of_four_batch_writers_lose_and_double_nothing() -> None:
    with scratch_folder() as folder:
        accepted = kill_many(folder, keep_putting, batch_up_much, 30)
        assert judge_rows(folder, accepted) == "right"
