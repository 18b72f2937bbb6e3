"""Compare what a command prints with what a page shows of it."""

from __future__ import annotations

import re

from tests.integration.docs.documents import Block

_VARYING = (
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?",
    r"\d{4}-\d\d-\d\d",
    r"\b(?:shop|err|r)-\d{8}-\d{6}-[0-9a-f]+\b",
    r"\b\d+\.\d+\.\d+\.\d+\b",
    r"\b[0-9a-f]{8,12}\b",
    r"\b\d+(?:\.\d+)? (?:ms|s|min|%)(?!\w)",
    r"\d+ to \d+ %",
    r"/\S+/shop\b",
)
"""What differs from run to run: times, ids, addresses, durations, shares, folders."""


def assert_shown(block: Block, printed: str) -> None:
    """Every line of the block is printed, in this order; `...` stands for the rest of a line or for lines."""
    left = iter([_without_what_varies(line) for line in printed.splitlines()])
    for line in filter(None, map(_without_what_varies, block.text.splitlines())):
        start = line.removesuffix("...")
        found = any(one.startswith(start) if start != line else one == line for one in left)
        assert found, f"{block}: {line!r} is not printed there:\n{printed}"


def _without_what_varies(line: str) -> str:
    for pattern in _VARYING:
        line = re.sub(pattern, "_", line)
    return " ".join(line.split())
