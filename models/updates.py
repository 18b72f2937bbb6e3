"""How an environment is updated."""

from __future__ import annotations

from pydantic import Field

from models.fields import Strict, TimeOfWeek


class UpdateWindow(TimeOfWeek):
    """A time of the week, in UTC, in which updates may begin.

    One that ends before it begins goes on into the next day.
    """


class UpdatePolicy(Strict):
    """When updates may begin, and which images they take."""

    minimum_age_hours: float = Field(
        default=0.0,
        ge=0,
        le=8760,
        description="A pulled image that was made less than so long ago is not taken yet; 0: every image is.",
    )
    windows: tuple[UpdateWindow, ...] = Field(default=(), description="When updates may begin; none means always.")
