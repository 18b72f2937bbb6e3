"""The tutorial, command by command on the real engine; what it prints is what the page shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server.shared_server import end_unused_server
from models.settings import Settings
from tests.e2e.docs.reader import DocumentReader
from tests.e2e.docs.shown import assert_shown
from tests.integration.docs.documents import TUTORIAL, blocks

pytestmark = pytest.mark.engine


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[DocumentReader]:
    reader = DocumentReader(tmp_path)
    try:
        yield reader
    finally:
        reader.clean_up()
        settings = Settings(data_dir=tmp_path / "data")
        if settings.prefect_home.exists():
            end_unused_server(settings.prefect_home)


@pytest.mark.campaign(seconds=90)
def test_each_step_of_the_tutorial_prints_what_the_page_shows(reader: DocumentReader) -> None:
    printed = ""
    for block in (one for one in blocks() if one.file == TUTORIAL):
        if block.title:
            reader.write(block)
        elif block.mode == "run":
            printed = reader.run(block)
        elif block.kind == "text":
            assert_shown(block, printed)
