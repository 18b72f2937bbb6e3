"""The tutorial, command by command on the real engine; what it prints is what the page shows."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.runtime.shared_server import end_unused_server
from models.settings import Settings
from tests.integration.docs.documents import ROOT, TUTORIAL, Block, blocks
from tests.support.ports import free_port
from tests.support.warm import warm_commands

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


@dataclass
class Reader:
    """Someone who follows the page in a folder, with an application of a name and port of their own."""

    folder: Path
    # As long as `shop`, since a longer word would break lines elsewhere.
    name: str = field(default_factory=lambda: f"s{secrets.token_hex(2)[:3]}")
    port: int = field(default_factory=free_port)
    here: Path = field(init=False)

    def __post_init__(self) -> None:
        self.here = self.folder

    @property
    def variables(self) -> dict[str, str]:
        path = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
        here = {"PYTHONPATH": str(ROOT), "ROAS_DATA_DIR": str(self.folder / "data"), "PATH": path, "COLUMNS": "200"}
        return os.environ | warm_commands() | here

    def write(self, block: Block) -> None:
        (self.here / block.title).write_text(self._own(block.text))

    def run(self, block: Block) -> str:
        """Type the lines of a block; what is on the terminal afterwards, with the page's names."""
        script = f"{self._own(block.text)}\npwd >{self.folder}/here"
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.here, env=self.variables, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}: {done.stdout}"
        self.here = Path((self.folder / "here").read_text().strip())
        return done.stdout.replace(self.name, "shop")

    def clean_up(self) -> None:
        images = self._docker("image", "ls", "--quiet", "--filter", f"reference={self.name}/*").split()
        self._docker("compose", "--project-name", self.name, "down", "--timeout", "1", "--volumes")
        # Releases keep their images under a tag of their own.
        tags = self._docker("image", "inspect", "--format", '{{join .RepoTags " "}}', *images).split() if images else []
        if tags:
            self._docker("image", "rm", *tags)

    def _own(self, text: str) -> str:
        return re.sub(r"\bshop\b", self.name, text).replace("8088", str(self.port))

    def _docker(self, *arguments: str) -> str:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False).stdout


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
