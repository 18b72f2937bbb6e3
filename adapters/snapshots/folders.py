"""The folder of a volume on this machine, where restic can read and write the files themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.snapshots.streams import Command, Limit, run

_SHIFTED = ("name=userns", "name=rootless")
"""Of an engine whose containers see other owners of files than this machine does."""


def folder_on_this_machine(variables: Mapping[str, str], volume: str, limit: Limit) -> Path | None:
    """The folder of a volume of an engine, if this process can surely read and write all of it; else None.

    A path alone is no proof: this process may run in a container, or the engine on another machine. The engine keeps
    its own id in its folder, so it must be the one that is read there. `variables` are those of Docker's command line.

    Raises:
        SnapshotError: The engine's command line is not installed, or did not end in time.
    """
    if os.geteuid() != 0 or volume.startswith("/") or not variables.get("DOCKER_HOST", "").startswith("unix://"):
        return None
    engine = _request(variables, limit, "info")
    root = Path(str(engine.get("DockerRootDir") or "/"))
    if any(option.partition(",")[0] in _SHIFTED for option in engine.get("SecurityOptions") or ()):
        return None
    try:
        engine_id = (root / "engine-id").read_text().strip()
    except (OSError, ValueError):
        return None
    if not engine_id or engine_id != engine.get("ID"):
        return None
    details = _request(variables, limit, "volume", "inspect", volume)
    folder = Path(str(details.get("Mountpoint") or "/"))
    # A driver's options may mount another file system there, only while a container runs.
    usable = details.get("Driver") == "local" and not details.get("Options") and folder.is_relative_to(root / "volumes")
    return folder if usable and folder.is_dir() and not folder.is_symlink() else None


def _request(variables: Mapping[str, str], limit: Limit, *words: str) -> dict[str, Any]:
    arguments = ("docker", *words, "--format", "{{json .}}")
    ended = run(Command(what="asking the engine", arguments=arguments, variables=variables), limit)
    try:
        document = json.loads(ended.output) if ended.exit_code == 0 else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
