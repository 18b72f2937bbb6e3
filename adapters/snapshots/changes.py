"""Count the files that changed since a moment, within a bounded time."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from adapters.snapshots.containers import FOLDER, EngineCommands
from core.storage.changes import NOT_COUNTED, files_since

_WITHIN_SECONDS = 10.0
_TICK_SECONDS = 0.01
"""So far back a time of change may lie: the kernel takes it from a clock that goes on with each tick alone."""

_FIND = """
find "$1" -type f -cmin "-$2" -exec stat -c %s {} + | awk '{ count++; size += $1 } END { printf "%d %d ", count, size }'
find "$1" -type f | wc -l
"""
"""Prints how many files changed within so many minutes, their bytes, and how many files there are."""


def changed_files(folder: Path, since: float, files_then: int | None) -> str:
    """What was written below a folder of this machine since a moment, in Unix time, for a person.

    The time of change of a file is set by the kernel, also where a program sets the other times back.
    """
    deadline = time.monotonic() + _WITHIN_SECONDS
    files = changed = changed_bytes = 0
    folders: list[str] = [str(folder)]
    while folders:
        if time.monotonic() > deadline:
            return f"{NOT_COUNTED} within {_WITHIN_SECONDS:.0f} s"
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    state = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(state.st_mode):
                        files += 1
                        if state.st_ctime > since - _TICK_SECONDS:
                            changed, changed_bytes = changed + 1, changed_bytes + state.st_size
        except FileNotFoundError:
            continue
    return files_since(changed, changed_bytes, files, files_then)


def changed_files_in_volume(
    containers: EngineCommands, image: str, volume: str, since: float, files_then: int | None
) -> str:
    """The same of a volume whose folder is not on this machine, counted by a container of its own; to the minute.

    Raises:
        StreamFailedError: The image has no shell, find or awk.
    """
    minutes = str(int((time.time() - since) // 60) + 1)
    program = containers.script(
        image, _FIND, (FOLDER, minutes), "counting changed files", volume=volume, read_only=True
    )
    changed, size, files = (int(number) for number in containers.answer(program).split())
    return files_since(changed, size, files, files_then)
