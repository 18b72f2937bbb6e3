"""Pages: documents made from records, before they become HTML or Markdown. All texts are plain, never markup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list, one text each."""

    kind: ClassVar[str] = "items"
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines of a program, shown as they were printed. `caption` says where they are from."""

    kind: ClassVar[str] = "lines"
    caption: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows below a head; the first cell of a row names it.

    `numbers` are the columns that hold numbers, from 0. `omitted` is how many further rows are not shown. A `folded`
    table is opened by its reader.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    omitted: int = 0
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotLine:
    """One line of a plot, a value for each of its labels; None where there is no value."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """At most two lines over the same labels, in one unit.

    `lowest` and `highest` are the ends of the axis; without `highest` the values decide. `limit` is drawn across, and
    `band` is shaded from its first to its second value.
    """

    kind: ClassVar[str] = "plot"
    title: str
    unit: str
    labels: tuple[str, ...]
    lines: tuple[PlotLine, ...]
    lowest: float = 0.0
    highest: float | None = None
    limit: float | None = None
    band: tuple[float, float] | None = None


Block: TypeAlias = Text | Items | Lines | Table | Plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with its blocks."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A document. `subtitle` says of which records and of which time it is."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
