from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from core.runtime.host_waits import HostWait

ASKED = HostWait(
    host="alpha", silence=timedelta(seconds=12), pool="host-alpha", has_worker=True, waited=timedelta(seconds=1)
)


def test_a_host_that_was_just_asked_is_named() -> None:
    assert ASKED.words() == "Host alpha was asked."
    assert not ASKED.is_away


def test_after_ten_seconds_a_person_reads_how_long_ago_the_last_contact_was() -> None:
    late = replace(ASKED, waited=timedelta(seconds=15))

    assert late.words() == "Host alpha was asked 15 s ago and has not begun; it was last heard of 12 s ago."
    assert replace(late, silence=None).words() == "Host alpha was asked 15 s ago and has not begun."


@pytest.mark.parametrize("has_worker", [True, False])
def test_a_host_without_contact_for_a_minute_is_away_whatever_its_pool_says(has_worker: bool) -> None:
    away = replace(ASKED, silence=timedelta(minutes=1), has_worker=has_worker)

    assert away.is_away
    assert away.words() == "Host alpha is away: nothing was heard of it for 1 min. Start `roas worker` there."


def test_a_host_in_contact_may_have_no_worker() -> None:
    idle = replace(ASKED, has_worker=False)

    assert idle.is_away
    assert idle.words() == (
        "Host alpha takes no runs: no worker of work pool host-alpha is in contact. Start `roas worker` there."
    )


@pytest.mark.parametrize(
    ("host", "pool", "subject"),
    [
        ("alpha", "host-other", "Host alpha"),
        ("", "host-alpha", "Host alpha"),
        ("", "roas", "The environment's host"),
        ("", "host-", "The environment's host"),
    ],
)
def test_a_host_is_named_by_the_record_or_its_work_pool(host: str, pool: str, subject: str) -> None:
    assert replace(ASKED, host=host, pool=pool).subject == subject
