"""Look at paths of this machine that containers mount, before a copy of an application gets them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from core.deployment.rehearsal import HostPath

_OF_THE_KERNEL = ("/proc", "/sys", "/dev")
_MOST_ENTRIES = 20_000
_COPIED_BYTES = 64 * 2**20


def look_at(path: str) -> HostPath:
    """What a path is. A folder is looked through, as a socket in it leads to production also where it is read-only."""
    try:
        real = Path(path).resolve(strict=True)
        mode = real.stat().st_mode
        if any(real.is_relative_to(folder) for folder in _OF_THE_KERNEL):
            return HostPath.WITHHELD
        if not stat.S_ISDIR(mode):
            return HostPath.FILE if stat.S_ISREG(mode) else HostPath.WITHHELD
        return _look_through(real)
    except FileNotFoundError:
        return HostPath.MISSING
    except OSError:
        return HostPath.WITHHELD


def _look_through(folder: Path) -> HostPath:
    entries = size = 0
    for at, folders, files in os.walk(folder, onerror=_refuse):
        entries += len(folders) + len(files)
        if entries > _MOST_ENTRIES:
            return HostPath.WITHHELD
        for name in files:
            state = os.lstat(os.path.join(at, name))  # noqa: PTH118 - a Path for each costs more than the look
            if not (stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode)):
                return HostPath.WITHHELD
            size += state.st_size
    return HostPath.FOLDER if size <= _COPIED_BYTES else HostPath.LARGE


def _refuse(error: OSError) -> None:
    raise error
