"""When an update may begin, and which images are too young for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from core.deployment.update_policy import age_to_come, next_window, outside_of_windows, too_young
from models.updates import UpdatePolicy

FRIDAY = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def policy(*windows: tuple[tuple[str, ...], str, str], hours: float = 0) -> UpdatePolicy:
    declared = [{"days": days, "from": begins, "to": ends} for days, begins, ends in windows]
    return UpdatePolicy.model_validate({"windows": declared, "minimum_age_hours": hours})


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}+00:00")


def test_without_windows_an_update_may_begin_at_any_time() -> None:
    assert next_window((), FRIDAY) is None
    assert outside_of_windows("shop", UpdatePolicy(), FRIDAY) is None


@pytest.mark.parametrize(
    ("moment", "open_now"),
    [
        ("11-27 01:59:59", False),
        ("11-27 02:00", True),
        ("11-27 03:59:59", True),
        ("11-27 04:00", False),
    ],
)
def test_a_window_has_its_first_moment_and_not_its_last(moment: str, *, open_now: bool) -> None:
    assert (next_window(policy(((), "02:00", "04:00")).windows, at(moment)) is None) is open_now


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    night = policy((("friday",), "22:00", "03:00")).windows
    assert next_window(night, at("11-27 23:00")) is None
    assert next_window(night, at("11-28 02:59")) is None
    assert next_window(night, at("11-27 02:59")) == (at("11-27 22:00"), at("11-28 03:00"))
    assert next_window(night, at("11-28 03:00")) == (at("12-04 22:00"), at("12-05 03:00"))


def test_a_window_whose_ends_are_the_same_is_a_whole_day() -> None:
    sunday = policy((("sunday",), "06:00", "06:00")).windows
    assert next_window(sunday, at("11-30 05:59")) is None
    assert next_window(sunday, at("11-30 06:00")) == (at("12-06 06:00"), at("12-07 06:00"))


def test_the_next_of_several_windows_is_the_first_to_open() -> None:
    windows = policy((("sunday",), "02:00", "04:00"), (("saturday",), "03:00", "03:30")).windows
    assert next_window(windows, FRIDAY) == (at("11-28 03:00"), at("11-28 03:30"))


def test_a_weekly_window_that_just_closed_opens_again_in_a_week() -> None:
    windows = policy((("friday",), "11:00", "12:00")).windows
    assert next_window(windows, FRIDAY) == (at("12-04 11:00"), at("12-04 12:00"))


def test_windows_are_in_utc_whatever_the_zone_of_the_clock() -> None:
    # 04:30 in the summer time of Berlin is 02:30 UTC, on both sides of the change of the clocks.
    summer, winter = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
    windows = policy(((), "02:00", "03:00")).windows
    assert next_window(windows, datetime(2026, 10, 24, 4, 30, tzinfo=summer)) is None
    assert next_window(windows, datetime(2026, 10, 26, 3, 30, tzinfo=winter)) is None
    assert next_window(windows, datetime(2026, 10, 26, 4, 30, tzinfo=winter)) is not None


def test_the_refusal_names_the_next_window_in_one_line() -> None:
    assert outside_of_windows("shop", policy((("sunday",), "02:00", "04:00")), FRIDAY) == (
        "It is outside of the update windows of shop; the next one is 2026-11-29 02:00 to 04:00 UTC;"
    )
    over_midnight = outside_of_windows("shop", policy((("sunday",), "22:00", "02:00")), FRIDAY)
    assert over_midnight is not None
    assert "2026-11-29 22:00 to 2026-11-30 02:00 UTC" in over_midnight


def test_a_young_image_waits_until_it_is_old_enough() -> None:
    day = policy(hours=24)
    assert too_young("web:1", FRIDAY - timedelta(hours=2), day, FRIDAY) == (
        "image web:1 was made at 2026-11-27 10:00 UTC, less than 24 h ago, so updates take it from "
        "2026-11-28 10:00 UTC on"
    )
    assert too_young("web:1", FRIDAY - timedelta(hours=24), day, FRIDAY) == ""


def test_an_image_that_does_not_say_when_it_was_made_is_old_enough() -> None:
    assert too_young("web:1", None, policy(hours=24), FRIDAY) == ""


def test_an_image_from_the_future_is_too_young_only_where_an_age_is_asked_for() -> None:
    tomorrow = FRIDAY + timedelta(days=1)
    assert too_young("web:1", tomorrow, policy(hours=1), FRIDAY)
    assert too_young("web:1", tomorrow, UpdatePolicy(), FRIDAY) == ""


def test_a_plan_says_that_the_age_is_not_known_only_where_it_decides() -> None:
    assert age_to_come(UpdatePolicy()) == ""
    assert "less than 0.5 h ago" in age_to_come(policy(hours=0.5))


@pytest.mark.parametrize("hours", [-1, float("nan"), float("inf"), 9000])
def test_an_age_that_makes_no_sense_is_refused(hours: float) -> None:
    with pytest.raises(ValidationError):
        UpdatePolicy(minimum_age_hours=hours)


def test_a_time_with_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="UTC"):
        policy(((), "02:00+02:00", "04:00"))
