"""Drawings of `core.reporting.shapes` as elements of a page."""

from __future__ import annotations

from markupsafe import Markup

from core.reporting.shapes import draw_shape


def icon(name: str) -> Markup:
    """The drawing of a level or of a name; the words beside it say the same, so it is hidden from readers."""
    shapes = Markup(draw_shape(name))  # noqa: S704 - constants
    return Markup('<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{}</svg>').format(
        shapes
    )


def mark(level: str) -> Markup:
    """The drawing of a level in its colour, for a sentence beside it."""
    return Markup('<span class="{}">{}</span>').format(level, icon(level))
