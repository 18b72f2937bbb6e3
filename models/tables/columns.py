"""Columns: the few kinds every store is made of, so that one kind is stored in one way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Whole numbers over 32 bits; SQLite's own integers already reach 64."""

REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")
"""Numbers of 64 bits: what SQLite calls REAL has only 32 in PostgreSQL."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, kept as UTC text 'YYYY-MM-DD HH:MM:SS.ffffff'; a time without a zone is refused."""

    impl = sa.DateTime
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any]:
        """Write UTC; a ValueError tells of a time that has no zone, and so could mean any moment of a day."""
        return _utc_text if dialect.name == "sqlite" else _naive_utc

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any]:
        """Read UTC, with or without parts of a second, as SQL and other programs write it."""
        return _from_utc_text if dialect.name == "sqlite" else _from_naive_utc


def _naive_utc(value: datetime | None) -> datetime | None:
    return None if value is None else _utc(value).replace(tzinfo=None)


def _utc_text(value: datetime | None) -> str | None:
    # Without the "+00:00" at its end; cutting it off is quicker than making a time without a zone first.
    return None if value is None else _utc(value).isoformat(" ", "microseconds")[:26]


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _from_naive_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)


def _from_utc_text(value: str | None) -> datetime | None:
    return None if value is None else _from_naive_utc(datetime.fromisoformat(value))


class JsonText(TypeDecorator[Any]):
    """A value kept as valid JSON text; None is NULL, and a number that JSON lacks becomes null."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Write JSON; dataclasses, times and enums are written as their values."""
        return None if value is None else to_json(value, inf_nan_mode="null").decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Read JSON."""
        return None if value is None else json.loads(value)


def identity() -> Any:
    """The id of a row, never used twice."""
    return Field(default=None, sa_column=sa.Column(sa.Integer, primary_key=True, autoincrement=True))


def some_text(*, key: bool = False, unique: bool = False, refers_to: str | None = None) -> Any:
    """A text that must be there."""
    links = (sa.ForeignKey(refers_to),) if refers_to else ()
    return Field(sa_column=sa.Column(sa.Text, *links, primary_key=key, unique=unique, nullable=False))


def maybe_text(*, default: str | None = None) -> Any:
    """A text that may be missing, or that SQL fills in."""
    server = None if default is None else sa.text(f"'{default}'")
    return Field(default=default, sa_column=sa.Column(sa.Text, nullable=True, server_default=server))


def moment() -> Any:
    """A moment that must be there."""
    return Field(sa_column=sa.Column(UtcDateTime, nullable=False))


def maybe_moment() -> Any:
    """A moment that may not have come."""
    return Field(default=None, sa_column=sa.Column(UtcDateTime, nullable=True))


def moment_now() -> Any:
    """A moment that SQL fills in where a program says nothing."""
    return Field(
        default=None,
        sa_column=sa.Column(UtcDateTime, nullable=True, server_default=sa.text("CURRENT_TIMESTAMP")),
    )


def number(*, default: int | None = None) -> Any:
    """A whole number that must be there."""
    server = None if default is None else sa.text(str(default))
    return Field(default=default, sa_column=sa.Column(sa.Integer, nullable=False, server_default=server))


def maybe_number(*, default: int | None = None) -> Any:
    """A whole number that may be missing."""
    server = None if default is None else sa.text(str(default))
    return Field(default=default, sa_column=sa.Column(sa.Integer, nullable=True, server_default=server))


def maybe_big() -> Any:
    """A whole number over 31 bits, such as a user's id, that may be missing."""
    return Field(default=None, sa_column=sa.Column(BIG, nullable=True))


def real() -> Any:
    """A number that must be there."""
    return Field(sa_column=sa.Column(REAL, nullable=False))


def maybe_real() -> Any:
    """A number that may be missing."""
    return Field(
        default=None,
        sa_column=sa.Column(REAL, nullable=True),
    )


def truth(*, default: bool | None = None, nullable: bool = False) -> Any:
    """True or false; SQL fills in the default."""
    server = None if default is None else sa.text("TRUE" if default else "FALSE")
    return Field(default=default, sa_column=sa.Column(sa.Boolean, nullable=nullable, server_default=server))


def json_text(name: str | None = None) -> Any:
    """JSON, in a column of this name where the attribute's own is taken."""
    column = sa.Column(JsonText) if name is None else sa.Column(name, JsonText)
    return Field(default=None, sa_column=column)


def one_of(column: str, *words: str) -> sa.CheckConstraint:
    """Only these words may stand in a column."""
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")
