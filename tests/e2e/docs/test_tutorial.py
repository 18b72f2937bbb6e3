"""The tutorial, command by command on the real engine; what it prints is what the page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runtime.shared_server import end_unused_server
from models.settings import Settings
from tests.e2e.docs.reader import Reader
from tests.integration.docs.documents import TUTORIAL, Block, blocks

pytestmark = pytest.mark.engine

_VARYING = (
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d",
    r"\d{4}-\d\d-\d\d",
    r"\b(?:shop|err|r)-\d{8}-\d{6}-[0-9a-f]+\b",
    r"\b\d+\.\d+\.\d+\.\d+\b",
    r"\b[0-9a-f]{8,12}\b",
    r"\b\d+(?:\.\d+)? (?:ms|s|min|%)(?!\w)",
    r"\d+ to \d+ %",
    r"/\S+/shop\b",
)
"""What differs from run to run: times, ids, addresses, durations, shares, folders."""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.clean_up()
        settings = Settings(data_dir=tmp_path / "data")
        if settings.prefect_home.exists():
            end_unused_server(settings.prefect_home)


@pytest.mark.timeout(900)
def test_each_step_of_the_tutorial_prints_what_the_page_shows(reader: Reader) -> None:
    printed = ""
    for block in (one for one in blocks() if one.file == TUTORIAL):
        if block.title:
            reader.write(block)
        elif block.mode == "run":
            printed = reader.run(block)
        elif block.kind == "text":
            _assert_shown(block, printed)


def _assert_shown(block: Block, printed: str) -> None:
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
