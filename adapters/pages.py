"""Write pages as HTML: one file that loads nothing, in which every text of others is text."""

from __future__ import annotations

import re
from functools import cache
from itertools import count
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from core.common.safe_text import printable
from core.reporting.plots import draw
from models.pages import Page, Plot

_FOLDER = Path(__file__).parent / "templates"


def page_html(page: Page) -> str:
    """The whole HTML document of a page."""
    numbers = count(1)

    def svg(plot: Plot) -> Markup:
        # `draw` escapes what it writes.
        return Markup(draw(plot, f"plot-{next(numbers)}"))  # noqa: S704

    return printable(_template().render(page=page, svg=svg))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = _anchor
    return environment.get_template("page.html.j2")


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
