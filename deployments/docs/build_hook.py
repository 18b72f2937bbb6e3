"""Build hook of the wheel: put the man pages that `make man` wrote where `man` finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface[Any]):
    """Adds man/*.1 as share/man/man1; without them, as in an image, the wheel has none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name each page with its place."""
        for page in sorted(Path(self.root, "man").glob("*.1")):
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"
