"""Decide whether an update may begin now, and whether an image is old enough to be taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from core.common.weekly import times_around
from models.updates import UpdatePolicy, UpdateWindow

_DAYS_AHEAD = range(-1, 8)


def next_window(windows: Sequence[UpdateWindow], now: datetime) -> tuple[datetime, datetime] | None:
    """Return begin and end of the next update window; None where updates may begin now."""
    if not windows:
        return None
    times = [(begins, ends) for _, begins, ends in times_around(windows, now, _DAYS_AHEAD)]
    if any(begins <= now < ends for begins, ends in times):
        return None
    return min(window for window in times if window[0] > now)


def outside_of_windows(environment: str, policy: UpdatePolicy, now: datetime) -> str | None:
    """Say that no update may begin now, and when the next window is; None where one may."""
    window = next_window(policy.windows, now)
    if window is None:
        return None
    begins, ends = window
    until = f"{ends:%H:%M}" if ends.date() == begins.date() else f"{ends:%Y-%m-%d %H:%M}"
    return (
        f"It is outside of the update windows of {environment}; the next one is {begins:%Y-%m-%d %H:%M} to {until} UTC;"
    )


def too_young(reference: str, made_at: datetime | None, policy: UpdatePolicy, now: datetime) -> str:
    """Say from when an update takes an image that is too young; empty where it takes it now.

    `made_at` is when the image was made; one that does not say so is old enough.
    """
    minimum = timedelta(hours=policy.minimum_age_hours)
    if made_at is None or not minimum or now - made_at >= minimum:
        return ""
    return (
        f"image {reference} was made at {made_at:%Y-%m-%d %H:%M} UTC, less than {policy.minimum_age_hours:g} h ago, so "
        f"updates take it from {made_at + minimum:%Y-%m-%d %H:%M} UTC on"
    )


def age_to_come(policy: UpdatePolicy) -> str:
    """Say that the age of an image decides once it is fetched; empty where it decides nothing."""
    if not policy.minimum_age_hours:
        return ""
    return (
        "how old its new image is, is known once it is fetched: one that was made less than "
        f"{policy.minimum_age_hours:g} h ago is not taken yet"
    )
