"""Look at paths of this machine that containers mount, before a copy of an application gets them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OF_THE_KERNEL = ("/proc", "/sys", "/dev")
_MOST_ENTRIES = 20_000


def leads_nowhere(path: str) -> bool:
    """Whether it is a file or folder without sockets and devices: they lead to production also where it is read-only.

    A folder with too much to look through, or that cannot be read, does not count as one.
    """
    try:
        real = Path(path).resolve(strict=True)
        if any(real.is_relative_to(folder) for folder in _OF_THE_KERNEL):
            return False
        return all(
            number < _MOST_ENTRIES and stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
            for number, mode in enumerate(_modes(real))
        )
    except OSError:
        return False


def _modes(path: Path) -> Iterator[int]:
    mode = path.lstat().st_mode
    yield mode
    for entry in os.scandir(path) if stat.S_ISDIR(mode) else ():
        yield from _modes(Path(entry.path))
