"""A journal of what could not go into the stores: one line a write, synced, until the stores take it.

Each process has a file of its own, which it holds a lock on. A file whose owner is gone is taken over by the next
process that looks, so a write survives the death of its process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from adapters.host.private_files import make_private_folder

LIMIT_BYTES = 64 * 1024 * 1024
"""So much of the disk a journal takes at most: hours of failures with their evidence."""

_SUFFIX = ".jsonl"


class Journal:
    """An append-only file of lines. Not safe for threads."""

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Make nothing yet; the first `append` does."""
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._file: int | None = None
        self._path: Path | None = None
        self._size = 0

    @property
    def path(self) -> Path | None:
        """Its file, while there is one."""
        return self._path

    def append(self, line: bytes, *, reserve: bool = False) -> bool:
        """Write a line so that it survives a power failure; False where the journal is full.

        `reserve` lets a last line in that says so.

        Raises:
            OSError: The disk did not take it.
        """
        if self._size + len(line) + 1 > self._limit_bytes and not reserve:
            return False
        file = self._opened()
        try:
            _write_whole(file, line + b"\n")
            os.fdatasync(file)
        except OSError:
            # A part of the line may be there; the next one must not be joined to it.
            os.ftruncate(file, self._size)
            raise
        self._size += len(line) + 1
        return True

    def clear(self) -> None:
        """Remove the file: the stores have taken all that is in it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave the file, if there is one, to the process that takes it over."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._path, self._size = None, None, 0

    def lines(self) -> list[bytes]:
        """Its complete lines: the last may have been cut off with its writer."""
        if self._path is None:
            return []
        whole, _, _ = self._path.read_bytes().rpartition(b"\n")
        return whole.split(b"\n") if whole else []

    def _opened(self) -> int:
        if self._file is None:
            make_private_folder(self.folder)
            path = self.folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file, self._path = file, path
        return self._file


def left_behind(folder: Path) -> Iterator[Journal]:
    """The journals whose owners are gone, the oldest first; each is held by this process from now on.

    Raises:
        OSError: The folder cannot be read.
    """
    if not folder.exists():
        return
    found = [path for path in folder.iterdir() if path.name.endswith(_SUFFIX)]
    for path in sorted(found, key=lambda one: one.stat().st_mtime_ns if one.exists() else 0):
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        if os.fstat(file).st_nlink == 0:
            # Its owner has just emptied it into the stores.
            os.close(file)
            continue
        journal = Journal(folder)
        journal._file, journal._path, journal._size = file, path, os.fstat(file).st_size
        yield journal


def _write_whole(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
