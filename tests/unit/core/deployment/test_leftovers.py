"""What of a start that failed is stopped, removed and put back, and what is left."""

from __future__ import annotations

from dataclasses import replace

from core.deployment.release import Leftovers, find_leftovers_of, pre_deploy_state
from tests.unit.core.deployment.test_plan import container

WEB = container("web", container_id="a" * 64)
DB = container("db", container_id="b" * 64)
STOPPED = container("job", container_id="c" * 64, state="exited")
BEFORE = pre_deploy_state((WEB, DB, STOPPED), ("first",))
NEW_WEB = replace(WEB, container_id="d" * 64)


def test_what_the_start_made_is_removed_and_what_it_replaced_named() -> None:
    extra = container("extra", container_id="e" * 64)
    started = replace(STOPPED, state="running")

    assert find_leftovers_of(BEFORE, (NEW_WEB, DB, started, extra), ("first", "second")) == Leftovers(
        stop=(started,), remove=(NEW_WEB, extra), networks=("second",), replaced=("web",)
    )


def test_what_a_person_paused_since_is_left_with_its_networks() -> None:
    asleep = replace(NEW_WEB, state="paused")
    beside = replace(NEW_WEB, container_id="f" * 64)
    started = replace(STOPPED, state="paused")
    extra = container("extra", container_id="e" * 64)

    assert find_leftovers_of(BEFORE, (asleep, beside, DB, started, extra), ("first", "second")) == Leftovers(
        remove=(extra,), paused=("job", "web")
    )


def test_what_was_paused_and_not_replaced_is_not_the_starts() -> None:
    assert find_leftovers_of(BEFORE, (WEB, replace(DB, state="paused"), STOPPED), ("first",)) == Leftovers()
