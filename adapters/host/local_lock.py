"""Lock file on an environment: it works without a store, and ends with its process."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from adapters.host.private_files import make_private_folder

log = logging.getLogger("roas")


class LocalLock:
    """A lock on a file that names its holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self, holder: str) -> str | None:
        """Take the lock and write its holder into it; None, or the other process that holds it.

        If the file cannot be created, this logs it and locks nothing.
        """
        try:
            make_private_folder(self._path.parent)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.warning("lock file %s cannot be opened, so only the stores' lease protects: %s", self._path, error)
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode("utf-8", "replace").strip()
            os.close(file)
            return other or "another process"
        os.ftruncate(file, 0)
        os.pwrite(file, holder.encode(), 0)
        self._file = file
        return None

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            # Unlock explicitly: a child forked just now shares the lock and would keep it after a close.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def holder(self) -> str | None:
        """The process that holds the lock now, or None."""
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(file, 1000, 0).decode("utf-8", "replace").strip() or "another process"
        finally:
            os.close(file)
        return None
