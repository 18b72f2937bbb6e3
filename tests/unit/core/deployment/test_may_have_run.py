"""Whether a container of a start that failed may have used data."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.deployment.release import may_have_run, pre_deploy_state
from tests.unit.core.deployment.test_plan import NOON, container

SINCE = NOON + timedelta(minutes=5)
OLD = container("web", container_id="a" * 64, started_at=NOON)
DB = container("db", container_id="b" * 64, started_at=NOON)
MADE = replace(OLD, container_id="c" * 64, state="created", started_at=None)
FOUND = pre_deploy_state((OLD, DB), ())


def test_a_container_that_could_not_be_started_has_used_nothing() -> None:
    assert not may_have_run(FOUND, (MADE, DB), SINCE)
    assert not may_have_run(FOUND, (OLD, DB), SINCE)
    assert not may_have_run(FOUND, (OLD, MADE, DB), SINCE)


def test_a_container_that_was_started_may_have_used_data() -> None:
    assert may_have_run(FOUND, (replace(MADE, state="exited", started_at=SINCE), DB), SINCE)
    assert may_have_run(FOUND, (replace(OLD, started_at=SINCE), DB), SINCE)


def test_what_took_the_place_of_a_container_that_is_gone_is_not_known() -> None:
    assert may_have_run(FOUND, (DB,), SINCE)
