"""The tables and facts of a page, as texts by their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

Row = dict[str, str]


@dataclass
class PageParts:
    """What a page has: rows by the captions of their tables, and facts by their names."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    articles: list[str] = field(default_factory=list)


def read_parts(html: str) -> PageParts:
    """Read a page. A row has the text of each cell by the heading of its column."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.parts


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts = PageParts()
        self._drawings = 0
        self._texts: dict[str, list[str]] = {}
        """Of each element that is open, by its name: its pieces of text."""
        self._caption, self._name = "", ""
        self._headings: list[str] = []
        self._cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("small", "p", "h2", "li", "div"):
            # They begin a line.
            self.handle_data(" ")
        if tag == "svg":
            self._drawings += 1
        elif tag in ("caption", "th", "td", "dt", "dd", "article"):
            self._texts[tag] = []
        elif tag == "thead":
            self._headings = []
        elif tag == "tr":
            self._cells = []

    def handle_data(self, data: str) -> None:
        if not self._drawings:
            for texts in self._texts.values():
                texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self._drawings -= 1
        text = " ".join("".join(self._texts.pop(tag, [])).split())
        if tag == "caption":
            self._caption = text
            self.parts.tables[text] = []
        elif tag in ("th", "td"):
            self._cells.append(text)
        elif tag == "thead":
            self._headings = self._cells
        elif tag == "tr" and self._headings and self._cells is not self._headings:
            self.parts.tables[self._caption].append(dict(zip(self._headings, self._cells, strict=True)))
        elif tag == "dt":
            self._name = text
        elif tag == "dd":
            self.parts.facts[self._name] = text
        elif tag == "article":
            self.parts.articles.append(text)
