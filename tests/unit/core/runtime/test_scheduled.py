"""Which runs of a schedule are missing, and what people hear of one that went wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from core.errors.classify import classify
from core.errors.match import PatternSet
from core.runtime.scheduled import (
    is_declared,
    later_due,
    missed_run,
    missing,
    removed_run,
    report_run,
    run_id,
    subject_of,
)
from models.errors import Category
from models.scheduled_runs import ScheduledRun, ScheduledState
from models.schedules import Schedule

HOURLY = Schedule(run="drift", at="every hour", late_minutes=10)
BEGAN = datetime(2026, 12, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return BEGAN + timedelta(hours=hours)


def run(due: float, state: ScheduledState = ScheduledState.SUCCEEDED, late_minutes: float | None = 0) -> ScheduledRun:
    began = None if late_minutes is None else at(due) + timedelta(minutes=late_minutes)
    return ScheduledRun(
        run_id=run_id("prod", "hourly", at(due)),
        environment="prod",
        schedule="hourly",
        due_at=at(due),
        at=HOURLY.at,
        state=state,
        began_at=began,
    )


DECLARED = run(0, ScheduledState.DECLARED, None)


def hours(moments: list[datetime]) -> list[float]:
    return [(moment - BEGAN).total_seconds() / 3600 for moment in moments]


def test_only_an_update_is_rehearsed() -> None:
    assert Schedule(run="update", at="every hour", rehearse=True).rehearse
    with pytest.raises(ValidationError, match="rehearse is of an update"):
        Schedule(run="sync", at="every hour", rehearse=True)


def test_what_was_due_before_the_schedule_was_declared_is_not_missing() -> None:
    assert missing([], HOURLY, at(5)) == []
    assert hours(missing([run(2.5, ScheduledState.DECLARED, None)], HOURLY, at(5))) == [3, 4]


def test_a_run_is_missing_once_it_is_late_and_only_until_it_is_reported() -> None:
    runs = [run(1), DECLARED]
    assert missing(runs, HOURLY, at(2) + timedelta(minutes=9)) == []
    assert hours(missing(runs, HOURLY, at(2) + timedelta(minutes=10))) == [2]
    reported = [run(2, ScheduledState.MISSED, None), *runs]
    assert missing(reported, HOURLY, at(2.9)) == []
    assert hours(missing(reported, HOURLY, at(3.5))) == [3]


def test_what_another_run_made_up_for_in_time_is_not_missing() -> None:
    often = Schedule(run="drift", at="every minute", late_minutes=10)
    # Nothing ran for eight minutes, and then what was due last.
    assert missing([run(8 / 60), DECLARED], often, at(17 / 60)) == []
    assert hours(missing([run(12 / 60), DECLARED], often, at(21 / 60))) == [1 / 60]


def test_times_that_change_are_declared_anew() -> None:
    assert is_declared([run(1), DECLARED], HOURLY)
    assert not is_declared([run(1), DECLARED], Schedule(run="drift", at="every 2 hours"))
    assert not is_declared([], HOURLY)
    every_two = Schedule(run="drift", at="every 2 hours")
    # It ran with its new times before they were declared.
    assert not is_declared([replace(run(2), at=every_two.at), run(1), DECLARED], every_two)
    assert not is_declared([replace(run(2), at=every_two.at), run(1)], every_two)
    assert is_declared([run(2), run(1)], HOURLY)
    assert not is_declared([removed_run(run(1), at(2)), run(1), DECLARED], HOURLY)


def test_one_that_comes_after_the_next_is_due_gives_way() -> None:
    assert later_due(HOURLY, at(1), at(1.9)) is None
    assert later_due(HOURLY, at(1), at(4.5)) == at(4)


def test_runs_of_one_moment_have_one_id_and_runs_of_two_have_two() -> None:
    assert run_id("prod", "hourly", at(1)) == run_id("prod", "hourly", at(1))
    assert len({run_id(env, name, at(due)) for env in "ab" for name in ("x", "y") for due in (1, 2)}) == 8
    assert len({run_id(f"shop{number}", "backup", at(1)) for number in range(2000)}) == 2000


def test_several_that_are_missing_are_one_record_that_counts_them() -> None:
    moments = [at(hour) for hour in (1, 2, 3)]
    missed = missed_run("prod", "hourly", HOURLY, moments, "host")
    assert (missed.due_at, missed.text) == (at(3), "it did not begin within 10 minutes, nor did the 2 before it")
    assert missed_run("prod", "hourly", HOURLY, moments[:2], "host").text.endswith(", nor did the one before it")
    assert missed_run("prod", "hourly", HOURLY, moments[:1], "host").text.endswith("within 10 minutes")


def test_a_failure_is_an_error_of_its_schedule_with_the_command_that_ends_it() -> None:
    failed = ScheduledRun(
        run_id="hourly-1",
        environment="prod",
        schedule="hourly",
        due_at=at(1),
        at=HOURLY.at,
        state=ScheduledState.FAILED,
        text='it ended with exit code 1; it said "No space left on device"',
        evidence="ev-1",
    )
    error, ticket = report_run(failed, HOURLY, at(1.1), classify(failed.text, PatternSet([])))
    again, _ = report_run(failed, HOURLY, at(2.1))
    assert (error.service, error.source, error.environment) == (subject_of("hourly"), "schedule", "prod")
    assert error.cause[:2] == again.cause[:2] == ("prod", "schedule hourly")
    assert ticket.title == "Schedule hourly, due at 2026-12-01 01:00 UTC: " + failed.text
    assert ticket.steps[0].startswith("roas schedule run prod hourly ")
    assert (ticket.error_id, ticket.evidence) == (error.error_id, ("ev-1",))


def test_a_missed_run_points_at_what_begins_runs_and_one_left_out_at_its_times() -> None:
    missed, ticket = report_run(missed_run("prod", "hourly", HOURLY, [at(1)], "host"), HOURLY, at(2))
    assert missed.verdict.category is Category.TIMEOUT
    assert ticket.steps[0].startswith("systemctl status roas")
    _, skipped = report_run(run(1, ScheduledState.SKIPPED), HOURLY, at(2))
    assert "overlap: wait" in skipped.steps[-1]
