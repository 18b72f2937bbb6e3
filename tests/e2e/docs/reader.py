"""Follow the tutorial: write its files and type its commands, under a name of one's own."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.docs.documents import ROOT, Block
from tests.support.ports import free_port
from tests.support.warm import warm_commands


@dataclass
class DocumentReader:
    """Someone who follows the page in a folder, with an application of a name and port of their own."""

    folder: Path
    # As long as `shop`, since a longer word would break lines elsewhere.
    name: str = field(default_factory=lambda: f"s{secrets.token_hex(2)[:3]}")
    port: int = field(default_factory=free_port)
    here: Path = field(init=False)
    more: dict[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    """The words before a command that run it on the reader's machine, where that is not this one."""

    def __post_init__(self) -> None:
        self.here = self.folder

    @property
    def variables(self) -> dict[str, str]:
        path = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
        here = {"PYTHONPATH": str(ROOT), "ROAS_DATA_DIR": str(self.folder / "data"), "PATH": path, "COLUMNS": "200"}
        return os.environ | warm_commands() | here | self.more

    def write(self, block: Block) -> None:
        (self.here / block.title).write_text(self._own(block.text))

    def run(self, block: Block) -> str:
        """Type the lines of a block; what is on the terminal afterwards, with the page's names."""
        script = f"{self._own(block.text)}\npwd >{self.folder}/here"
        done = subprocess.run(
            [*self.inside, "bash", "-euc", script],
            cwd=self.here, env=self.variables, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}: exit code {done.returncode}: {done.stdout}"
        self.here = Path((self.folder / "here").read_text().strip())
        return done.stdout.replace(self.name, "shop")

    def clean_up(self) -> None:
        images = self._docker("image", "ls", "--quiet", "--filter", f"reference={self.name}/*").split()
        self._docker("compose", "--project-name", self.name, "down", "--timeout", "1", "--volumes")
        # Releases keep their images under a tag of their own.
        shown = "{{range .RepoTags}}{{.}} {{end}}"
        tags = self._docker("image", "inspect", "--format", shown, *images).split() if images else []
        if tags:
            self._docker("image", "rm", *tags)

    def _own(self, text: str) -> str:
        return re.sub(r"\bshop\b", self.name, text).replace("8088", str(self.port))

    def _docker(self, *arguments: str) -> str:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False).stdout
