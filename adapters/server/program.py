"""The program as a control plane hands it out to new hosts: its wheel, the requirements, and the script for both."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from models.settings import Settings

SCRIPT = Path(__file__).parents[2] / "deployments" / "hosts" / "install.sh"


@dataclass(frozen=True, slots=True)
class ProgramFiles:
    """The wheel of this program, and the file of all its requirements with their hashes."""

    wheel: Path
    requirements: Path


def program_to_hand_out(settings: Settings) -> ProgramFiles | None:
    """The newest wheel that is there with its requirements; None where a host has to get the program elsewhere."""
    folder = settings.install_dir or Path(sys.prefix, "share", "roas")
    requirements = folder / "requirements.txt"
    wheels = sorted(folder.glob("roas_ops-*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    return ProgramFiles(wheels[-1], requirements) if wheels and requirements.is_file() else None
