"""Whatever moment a crash comes at, the three stores agree; and the harness would see it if they did not."""

import shutil
from collections import Counter

import pytest

from tests.stores.crash import (
    judge,
    judge_all,
    judge_spools,
    keep_putting,
    keep_transacting,
    kill_many,
    record,
    scratch_folder,
)

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace notes what the files see")


@needs_strace
@pytest.mark.parametrize("small", [False, True])
def test_a_crash_at_any_point_leaves_no_part_of_a_transaction(small: bool) -> None:
    found = judge_all(record("together", 4, small=small), samples=1, every=7)
    assert set(found) == {"right"}


@needs_strace
def test_the_harness_finds_the_tears_of_one_commit_after_another() -> None:
    assert judge_all(record("naive", 4, small=False), samples=0, every=7)["torn"] > 0


@needs_strace
def test_the_harness_finds_what_is_torn_without_repair() -> None:
    assert judge_all(record("together", 4, small=False), samples=0, every=7, repair=False)["torn"] > 0


def test_many_kills_of_four_writers_lose_tear_and_double_nothing() -> None:
    with scratch_folder() as folder:
        acked = kill_many(folder, keep_transacting, "together", 30)
        assert judge(folder, acked) == "right"


def test_many_kills_of_four_batch_writers_lose_and_double_nothing() -> None:
    with scratch_folder() as folder:
        accepted = kill_many(folder, keep_putting, "", 30)
        assert Counter([judge_spools(folder, accepted)]) == {"right": 1}
