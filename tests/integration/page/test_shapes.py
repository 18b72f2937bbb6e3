"""No colour alone tells one verdict from another, and each has a colour for both schemes."""

from __future__ import annotations

import re

from core.reporting.shapes import draw_shape
from flows.page.rendering import STATIC
from models.overview import VerdictLevel

LEVELS = [*VerdictLevel, "busy"]


def test_each_level_has_a_shape_of_its_own() -> None:
    assert len({draw_shape(level) for level in LEVELS}) == len(LEVELS)


def test_each_level_has_a_colour_in_both_schemes() -> None:
    style = (STATIC / "page.css").read_text()

    for level in LEVELS:
        assert re.search(rf"\.{level} {{ color: var\(--{level}\); }}", style), level
        assert len(re.findall(rf"--{level}: #[0-9a-f]{{6}};", style)) == 2, level
