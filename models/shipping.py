"""What a host ships to its control plane, and what that answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_BYTES = 32 * 1024 * 1024
"""A batch has at most so many bytes before it is compressed."""

_Word = Annotated[str, Field(pattern="^[^\x00]*$")]
"""PostgreSQL takes no NUL in a text."""

Store = Literal["deployment_logs", "monitoring", "errors"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """Rows of one table as they stand, and the keys of those that are gone."""

    store: Store
    table: str = Field(max_length=60)
    rows: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []


class Batch(_Strict):
    """What changed at a host since the batch before; a higher `number` is later. `oldest_at` is the oldest change."""

    number: int = Field(ge=1)
    sent_at: datetime
    oldest_at: datetime
    name: _Word = Field(max_length=253)
    version: _Word = Field(max_length=100)
    engine: _Word = Field(max_length=500, default="")
    waiting: int = Field(ge=0, default=0)
    """Changes that are not in this batch or one before it."""
    parts: list[Part]


class Refusal(BaseModel):
    """Something of a batch that the control plane does not take, and will not take."""

    what: str
    why: str


class Receipt(BaseModel):
    """What became of a batch. `last` is the number of the last batch applied; the next one has a higher one.

    One that is not `applied` came after a later one, or another one of its number.
    """

    last: int
    applied: bool = False
    rows: int = 0
    refused: list[Refusal] = []
    behind_seconds: float = 0.0
    """How far the clock of the host is behind that of the database; negative where it is ahead."""
