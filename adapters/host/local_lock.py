"""A lock of this machine on an environment: it holds while no store can be asked, and ends with its process."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from adapters.host.private_files import make_private_folder

log = logging.getLogger("roas")


class LocalLock:
    """A lock on a file; the holder's words are in it."""

    def __init__(self, folder: Path, environment: str) -> None:
        """Lock nothing yet."""
        self._path = folder / f"{environment}.lock"
        self._file: int | None = None

    def take(self, words: str) -> str | None:
        """Take it and say who holds it; gives the words of the holder where another has it, else None.

        Where the file cannot be made there is no such lock, which is logged.
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
            holder = os.pread(file, 1000, 0).decode("utf-8", "replace").strip()
            os.close(file)
            return holder or "another process"
        os.ftruncate(file, 0)
        os.pwrite(file, words.encode(), 0)
        self._file = file
        return None

    def release(self) -> None:
        """Let the next one have it."""
        if self._file is not None:
            # Unlock by word: a child forked just now shares the lock and would keep it after a close.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def holder(self) -> str | None:
        """The words of who holds it now; None where nobody does."""
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
