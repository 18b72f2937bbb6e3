"""What all of the page knows of where it is, and of the server that it is in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

BASE = "/roas"
"""Where the page is, beside Prefect's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCommands:
    """How the page acts on a server that a command left, where no runner takes runs: by commands.

    `folder` is where they run. The descriptor of `hold` keeps the server; getting it may block for seconds.
    """

    folder: Path | None
    hold: Callable[[], AbstractContextManager[int]]

    @property
    def present_folder(self) -> Path | None:
        """Where they run; None where that was removed."""
        return self.folder if self.folder and self.folder.is_dir() else None
