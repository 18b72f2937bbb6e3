"""Where the data of an application is on its engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlace:
    """Where a part is on the engine: a container of its service, that container's image, and what the part needs.

    `source` is the volume or folder of files, and `mounted_at` where the container has it, if that runs. `host_file` is
    a SQLite file as this process can open it, if it can. `pause` are the containers to pause. In one that does not run
    no program can be run.
    """

    container: str
    image: str
    password: str = field(default="", repr=False)
    source: str = ""
    mounted_at: str = ""
    host_file: Path | None = None
    pause: tuple[str, ...] = ()
    is_running: bool = True
