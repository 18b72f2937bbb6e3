"""Kinds of fields that the parts of an environment share."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""A name Compose accepts for a project or service: small letters, digits, - and _."""


def _usable_path(path: Path) -> Path:
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in str(path)):
        raise ValueError("a path is UTF-8 text without NUL")
    return path


FilePath = Annotated[Path, AfterValidator(_usable_path)]
"""A path that the system accepts; whether there is a file is not asked."""


def _usable_text(text: str) -> str:
    if not text or any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("this is not text: it is empty, or has NUL or half characters")
    return text


Text = Annotated[str, AfterValidator(_usable_text)]


class Strict(BaseModel):
    """Values that do not change, and whose fields are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Block = Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]
"""A block of the Prefect server: its kind and its name."""


Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class TimeOfWeek(Strict):
    """A time of the week in UTC. One that ends before it begins goes on into the next day."""

    days: tuple[Day, ...] = Field(default=(), description="Days it begins on; none means every day.")
    begins: time = Field(alias="from", description='In UTC and in quotes: "02:00".')
    ends: time = Field(alias="to", description="In UTC; the same as from means a whole day.")

    @field_validator("begins", "ends")
    @classmethod
    def _require_utc(cls, at: time) -> time:
        if at.tzinfo is not None:
            raise ValueError("give a time of the day in UTC without a zone")
        return at
