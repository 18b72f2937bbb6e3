"""What the repositories of all subjects have in common: queries, and values as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from enum import Enum
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.database import Transacting
from adapters.stores.sql import table
from models.failures import BadInputError, NotFoundError

if TYPE_CHECKING:
    from sqlmodel import SQLModel

T = TypeVar("T")
Word = TypeVar("Word", bound=Enum)


class Rows(Generic[T]):
    """The rows of a table as values of a dataclass. `columns` names those that differ from their fields."""

    def __init__(self, row: type[SQLModel], kind: type[T], **columns: str) -> None:
        there = table(row).c
        named = {field.name: columns.get(field.name, field.name) for field in fields(kind)}  # type: ignore[arg-type]
        self._columns = {field: column for field, column in named.items() if column in there}
        self.columns = tuple(self._columns.values())
        self._cells = attrgetter(*self._columns)
        self._required = {
            field.name
            for field in fields(kind)  # type: ignore[arg-type]
            if field.default is MISSING and field.default_factory is MISSING
        }
        self._kind = kind

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self._kind)

    def to_row(self, value: T, **more: Any) -> dict[str, Any]:
        """The columns of a value, with those of `more` beside or instead."""
        cells = zip(self._columns.values(), self._cells(value), strict=True)
        return {column: cell.value if isinstance(cell, Enum) else cell for column, cell in cells} | more

    def to_value(self, row: sa.Row[Any], **more: Any) -> T:
        """The value of a row; NULL is the default of its field. `more` are fields beside or instead."""
        return self.of_cells(row._mapping, **more)

    def of_cells(self, cells: Mapping[Any, Any], **more: Any) -> T:
        """The same of cells by the names of their columns."""
        for field, column in self._columns.items():
            if field not in more and ((cell := cells[column]) is not None or field in self._required):
                more[field] = cell
        return self._adapter.validate_python(more)


class Repository:
    """Rows of one subject in one store."""

    def __init__(self, database: Transacting) -> None:
        self._database = database

    def _all(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(query).all()

    def _first(self, query: sa.Select[Any]) -> sa.Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).one_or_none()

    def _change(self, statement: sa.Update | sa.Delete) -> bool:
        """Whether the statement changed a row."""
        with self._database.write() as connection:
            return connection.execute(statement).rowcount == 1

    def _row_by_prefix(self, key: sa.Column[Any], name: str, what: str, advice: str) -> sa.Row[Any]:
        """The row whose key is this name, or the only one whose key begins like it."""
        end = name + chr(0x10FFFF)
        rows = self._all(
            sa.select(key.table).where(sa.or_(key == name, sa.and_(key > name, key < end))).order_by(key).limit(6)
        )
        names = [str(row._mapping[key.name]) for row in rows]
        if not names or not name:
            raise NotFoundError(f"No {what} has the id {name!r};", advice=advice)
        if len(names) > 1 and names[0] != name:
            raise BadInputError(f"{name!r} begins several ids ({', '.join(names)});", advice="give more of it.")
        return rows[0]


def equals_given(source: sa.Table, **values: Any) -> list[sa.ColumnElement[bool]]:
    """That each column named has its value, where the value is not None."""
    return [source.c[name] == value for name, value in values.items() if value is not None]


def newest(
    source: sa.Table, moment: str, *conditions: sa.ColumnElement[bool], since: datetime | None = None, **values: Any
) -> sa.Select[Any]:
    """The rows that meet conditions and have the values given, the newest first, from a moment on."""
    column = source.c[moment]
    query = sa.select(source).where(*equals_given(source, **values), *conditions)
    return (query if since is None else query.where(column >= since)).order_by(column.desc(), source.c.id.desc())


def newest_of_each(
    source: sa.Table, keys: Sequence[str], order: Sequence[str], most: int, *conditions: sa.ColumnElement[bool]
) -> sa.Select[Any]:
    """The `most` newest rows of each value of `keys`, by `order`, of those that meet the conditions; in no order."""
    number = sa.func.row_number().over(
        partition_by=[source.c[name] for name in keys], order_by=[source.c[name].desc() for name in order]
    )
    # By id alone: what is ranked may be many times what is read.
    ranked = sa.select(source.c.id, number.label("number")).where(*conditions).subquery()
    return sa.select(source).where(source.c.id.in_(sa.select(ranked.c.id).where(ranked.c.number <= most)))


def newest_by_environment(
    source: sa.Table,
    order: Sequence[str],
    *columns: sa.Column[Any] | sa.Table,
    where: Callable[[sa.FromClause], sa.ColumnElement[bool]] | None = None,
) -> sa.Select[Any]:
    """The newest row of every environment by `order`, of those that meet a condition.

    Each environment costs a few seeks of an index, however long its history is.
    """
    anchor, inner, last = (source.alias(name) for name in ("one", "inner_one", "last_one"))
    names = sa.select(sa.func.min(anchor.c.environment).label("name")).cte("names", recursive=True)
    following = sa.select(sa.func.min(inner.c.environment)).where(inner.c.environment > names.c.name)
    names = names.union_all(sa.select(following.scalar_subquery()).where(names.c.name.is_not(None)))
    conditions = [last.c.environment == names.c.name, *([where(last)] if where is not None else [])]
    newest_first = [last.c[name].desc() for name in order]
    newest_id = sa.select(last.c.id).where(*conditions).order_by(*newest_first).limit(1).scalar_subquery()
    return sa.select(*columns or (source,)).join_from(names, source, source.c.id == newest_id)


def known_word(kind: type[Word], word: str | None) -> Word | None:
    """The member of this name; None where this version has none, since another version wrote it."""
    try:
        return kind(word)
    except ValueError:
        return None
