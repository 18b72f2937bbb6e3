"""Columns: the few kinds every store is made of, so that one kind is stored in one way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field

from models.failures import StoreCorruptError

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
        return _optional_utc_text if dialect.name == "sqlite" else _naive_utc

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any]:
        """Read UTC, with or without parts of a second, as SQL and other programs write it."""
        return read_utc_text if dialect.name == "sqlite" else _from_naive_utc


def _naive_utc(value: datetime | None) -> datetime | None:
    return None if value is None else _utc(value).replace(tzinfo=None)


def _optional_utc_text(value: datetime | None) -> str | None:
    return None if value is None else utc_text(value)


def utc_text(value: datetime) -> str:
    """A moment as stores in files keep it.

    Raises:
        ValueError: It has no time zone.
    """
    # Without the "+00:00" at its end; cutting it off is quicker than making a time without a zone first.
    return _utc(value).isoformat(" ", "microseconds")[:26]


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _from_naive_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)


def read_utc_text(value: str | None) -> datetime | None:
    """The moment of such a text, or of one that other programs write.

    Raises:
        StoreCorruptError: It is none.
    """
    if value is None:
        return None
    try:
        return _from_naive_utc(datetime.fromisoformat(value))
    except (ValueError, TypeError) as error:
        raise _unreadable(value) from error


def _unreadable(value: object) -> StoreCorruptError:
    shown = repr(value)[:60]
    return StoreCorruptError(f"A store holds {shown}, which cannot be read;", advice="`roas db check` says more.")


class JsonText(TypeDecorator[Any]):
    """A value kept as valid JSON text; None is NULL, and a number that JSON lacks becomes null."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Write JSON; dataclasses, times and enums are written as their values."""
        return None if value is None else to_json(value, inf_nan_mode="null").decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Read JSON."""
        try:
            return None if value is None else json.loads(value)
        except (ValueError, TypeError) as error:
            raise _unreadable(value) from error


def _field(kind: Any, *, default: Any = None, server: str | None = None, nullable: bool = False, **more: Any) -> Any:
    """A column that SQL fills in with the default; each table that inherits the field gets a column of its own."""
    if default is not None:
        server = f"'{default}'" if isinstance(default, str) else str(default).upper()
    column: dict[str, Any] = {name: more.pop(name) for name in ("name", "autoincrement") if name in more}
    if server is not None:
        column["server_default"] = sa.text(server)
    return Field(default=default, sa_type=kind, nullable=nullable, sa_column_kwargs=column, **more)


identity = partial(_field, sa.Integer, primary_key=True, autoincrement=True)
"""The id of a row, never used twice."""
key_number = partial(_field, BIG, primary_key=True, autoincrement=False)
"""A whole number that is the key, or a part of it, and that the program gives."""
some_text = partial(_field, sa.Text)
maybe_text = partial(_field, sa.Text, nullable=True)
number = partial(_field, sa.Integer)
maybe_number = partial(_field, sa.Integer, nullable=True)
big = partial(_field, BIG)
maybe_big = partial(_field, BIG, nullable=True)
real = partial(_field, REAL)
maybe_real = partial(_field, REAL, nullable=True)
truth = partial(_field, sa.Boolean)
raw = partial(_field, sa.LargeBinary)
json_text = partial(_field, JsonText, nullable=True)
moment = partial(_field, UtcDateTime)
maybe_moment = partial(_field, UtcDateTime, nullable=True)
moment_now = partial(_field, UtcDateTime, nullable=True, server="CURRENT_TIMESTAMP")
"""A moment that SQL fills in where a program says nothing."""


def one_of(column: str, *words: str) -> sa.CheckConstraint:
    """Only these words may stand in a column."""
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")


def unique_where(name: str, column: str, where: str) -> sa.Index:
    """No two of the rows that meet a condition have the same in a column."""
    return sa.Index(name, column, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
