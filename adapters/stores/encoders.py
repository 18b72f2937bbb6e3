"""Encode the values of a row as its table's columns store them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlmodel import SQLModel

from adapters.stores.batch_rows import GivenValues
from adapters.stores.migrate import STORES
from adapters.stores.sql import metadata_of, table, tables_of
from models.failures import StoreConstraintError
from models.tables.columns import UtcDateTime


class RowEncoder:
    """Turns the values of one table into what its columns store, with the table's own processors."""

    def __init__(self, row: type[SQLModel], names: tuple[str, ...]) -> None:
        target = table(row)
        columns_by_name = {**target.columns}
        if target.name == "metric_samples":
            columns_by_name = {**tables_of("monitoring")["metric_series"].columns, **columns_by_name}
        unknown = [name for name in names if name not in columns_by_name]
        if unknown:
            raise StoreConstraintError(
                f"Table {target.name} has no column {unknown[0]!r};", advice="see models/tables."
            )
        self.store = next(name for name in STORES if metadata_of(name) is target.metadata)
        self.target = target.name
        self.width = len(names)
        self.shape = to_json({"table": target.name, "columns": names})
        self.one, self.many = _compiled([columns_by_name[name] for name in names], sqlite_dialect())


UNFIT_ERRORS = (TypeError, ValueError, AttributeError, KeyError)
"""What a value that does not fit its column raises."""

_TEXT_OF_MOMENT = (
    "'%04d-%02d-%02d %02d:%02d:%02d.%06d' % (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond)"
)

_QUICK: tuple[tuple[type[sa.types.TypeEngine[Any]], str], ...] = (
    (UtcDateTime, f"{_TEXT_OF_MOMENT} if type(v := {{}}) is datetime and v.tzinfo is UTC"),
    (sa.Boolean, "v if (v := {}) is True or v is False"),
    (sa.Text, "v if type(v := {}) is str or v is None"),
    (sa.Integer, "v if type(v := {}) is int or v is None"),
    (sa.Float, "v if type(v := {}) is float and -inf < v < inf"),
)
"""What nearly every value is goes without a call, to the same text and number."""


_Encoders = tuple[Callable[[Mapping[str, Any]], tuple[Any, ...]], Callable[[Sequence[Mapping[str, Any]]], GivenValues]]


def _compiled(columns: Sequence[sa.Column[Any]], dialect: sa.Dialect) -> _Encoders:
    """A function for one row and one for many, without inner loops and with few calls, since every row goes through."""
    namespace: dict[str, Any] = {"plain": _plain, "inf": math.inf, "UTC": UTC, "datetime": datetime}
    parts = []
    for place, column in enumerate(columns):
        value, processor = f"values[{column.name!r}]", column.type.dialect_impl(dialect).bind_processor(dialect)
        namespace[f"process_{place}"] = processor
        call = "plain(v)" if processor is None else f"plain(process_{place}(v))"
        quick = next((words for kind, words in _QUICK if isinstance(column.type, kind)), "None if (v := {}) is None")
        parts.append(f"({quick.format(value)} else {call})")
    expression = f"({', '.join(parts)},)"
    source = f"(lambda values: {expression}, lambda rows: [{expression} for values in rows])"
    encoders: _Encoders = eval(source, namespace)  # noqa: S307 - of column names
    return encoders


def _plain(value: Any) -> Any:
    return from_json(to_json(value, inf_nan_mode="null"))
