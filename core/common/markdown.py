"""Write pages and their parts as Markdown, in which every text of others is text; a plot has no place there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from models.pages import Block, Items, Lines, Page, Table, Text


def page_markdown(page: Page) -> str:
    """The whole page."""
    parts = [f"# {plain(page.title)}", plain(page.subtitle)]
    for section in page.sections:
        parts += [f"## {plain(section.heading)}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part)


def plain(text: str) -> str:
    """A text on one line that is not taken for markup."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """Rows below a head; `numbers` are the columns that hold numbers, from 0."""
    marks = ["--:" if place in numbers else "---" for place in range(len(head))]
    first, *more = ([plain(cell) for cell in row] for row in (head, *rows))
    lines = [first, marks, *more]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced_block(lines: Sequence[str]) -> str:
    """Lines of a program as they were printed, whatever they hold."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return plain(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {plain(item)}" for item in block.items)
    if isinstance(block, Lines):
        return f"{plain(block.caption)}:\n\n{fenced_block(block.lines)}"
    if isinstance(block, Table):
        more = f"\n\n{block.omitted} more are not shown." if block.omitted else ""
        return table(block.head, block.rows, block.numbers) + more
    return ""
