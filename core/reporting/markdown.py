"""Write pages as Markdown; a plot has no place there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from models.pages import Block, Items, Lines, Page, Table, Text


def page_markdown(page: Page) -> str:
    """The page as Markdown, in which every text of others is text."""
    parts = [f"# {plain(page.title)}", plain(page.subtitle)]
    for section in page.sections:
        parts += [f"## {plain(section.heading)}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part)


def plain(text: str) -> str:
    """A text on one line that is not taken for markup."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return plain(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {plain(item)}" for item in block.items)
    if isinstance(block, Lines):
        return f"{plain(block.caption)}:\n\n{_fenced(block.lines)}"
    if isinstance(block, Table):
        more = f"\n\n{block.omitted} more are not shown." if block.omitted else ""
        return _table(block) + more
    return ""


def _table(table: Table) -> str:
    marks = ["--:" if place in table.numbers else "---" for place in range(len(table.head))]
    rows = [[plain(cell) for cell in row] for row in (table.head, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], marks, *rows[1:]))


def _fenced(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
