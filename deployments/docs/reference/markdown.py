"""Write Markdown: cells, tables and the text of docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown of one line each."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text on one line, in which a bar is no border."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def code(text: object) -> str:
    """Text as code."""
    return f"`{text}`" if str(text) else ""


def summary(documented: object) -> str:
    """The docstring of an object without sections such as Raises; empty where it has none of its own."""
    text = inspect.cleandoc(getattr(documented, "__doc__", None) or "")
    return text.partition("\n\nRaises")[0].strip()


def page(title: str, *parts: str) -> str:
    """A page of a title and parts."""
    return "\n\n".join([f"# {title}", *parts]) + "\n"
