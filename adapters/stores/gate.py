"""The gate: one writer at a time in a data folder, across threads and processes, with a deadline.

SQLite makes writers sleep and try again, so that under load one of them loses every race for seconds. A
file lock wakes the one that waits, and the kernel drops it when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.failures import StoreBusyError, StoreError


class Gate:
    """A lock on a file. The holder may leave a number in it, which the next one finds."""

    def __init__(self, path: Path, waits: Waits | None = None) -> None:
        """Lock nothing yet. Waits are counted in `waits`, where given."""
        self.path = path
        self._thread_lock = threading.Lock()
        self._held: int | None = None
        self._waits = waits
        _gates.add(self)

    @contextmanager
    def held(self, deadline_seconds: float, what: str) -> Iterator[None]:
        """Hold the gate while the body runs.

        Raises:
            StoreBusyError: Others held it until the deadline.
            StoreError: The lock file cannot be opened.
        """
        began = time.monotonic()
        at_once = self._thread_lock.acquire(blocking=False)
        if not at_once and not self._thread_lock.acquire(timeout=deadline_seconds):
            raise self._busy(what, deadline_seconds)
        try:
            file, free = self._lock(deadline_seconds - (time.monotonic() - began), what, deadline_seconds)
            if not (at_once and free):
                self._waited(time.monotonic() - began)
            self._held = file
            try:
                yield
            finally:
                self._held = None
                # Unlock by word: a child forked meanwhile shares this lock and would keep it after a close.
                fcntl.flock(file, fcntl.LOCK_UN)
                os.close(file)
        finally:
            self._thread_lock.release()

    def read_number(self) -> int:
        """The number the last holder left; 0 where it left none. Only while held."""
        return int.from_bytes(os.pread(self._file(), 8, 0), "little")

    def leave_number(self, number: int) -> None:
        """Leave a number for whoever holds the gate next, even if this process dies now. Only while held."""
        os.pwrite(self._file(), number.to_bytes(8, "little"), 0)

    def _file(self) -> int:
        if self._held is None:
            raise RuntimeError("the gate is not held")
        return self._held

    def _lock(self, seconds: float, what: str, deadline_seconds: float) -> tuple[int, bool]:
        """The locked file, and whether it was free at once."""
        file = opened(self.path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if seconds <= 0:
                os.close(file)
                raise self._busy(what, deadline_seconds) from None
            if not _Waiter(file).got_it(seconds):
                raise self._busy(what, deadline_seconds) from None
            return file, False
        return file, True

    def _waited(self, seconds: float) -> None:
        if self._waits is not None:
            self._waits.add(seconds)

    def _busy(self, what: str, deadline_seconds: float) -> StoreBusyError:
        self._waited(deadline_seconds)
        return StoreBusyError(
            f"{what} waited {deadline_seconds:g} s for another writer (lock {self.path});",
            advice=f"find the process that holds it with `fuser {self.path}`, or try again.",
        )

    def forget_after_fork(self) -> None:
        """In a forked child: let go of what the parent holds, without unlocking it for the parent."""
        if self._held is not None:
            os.close(self._held)
        self._held = None
        self._thread_lock = threading.Lock()


class Waits:
    """How often and how long writers waited for their turn: of all processes of a data folder, and of this one.

    Written down only after a wait, when a few microseconds more do not matter.
    """

    def __init__(self, path: Path) -> None:
        """Count nothing yet."""
        self.longest_seconds = 0.0
        self._path = path

    def add(self, seconds: float) -> None:
        """Count one wait.

        Raises:
            StoreError: The file cannot be opened.
        """
        self.longest_seconds = max(self.longest_seconds, seconds)
        file = opened(self._path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            count, microseconds = _counts(file)
            os.pwrite(file, _COUNTS.pack(count + 1, microseconds + round(seconds * 1_000_000)), 0)
        finally:
            os.close(file)

    def total(self) -> tuple[int, float]:
        """Number and seconds of all waits.

        Raises:
            StoreError: The file cannot be opened.
        """
        if not self._path.exists():
            return 0, 0.0
        file = opened(self._path)
        try:
            count, microseconds = _counts(file)
        finally:
            os.close(file)
        return count, microseconds / 1_000_000


_COUNTS = struct.Struct("<QQ")


def _counts(file: int) -> tuple[int, int]:
    count, microseconds = _COUNTS.unpack(os.pread(file, _COUNTS.size, 0).ljust(_COUNTS.size, b"\0"))
    return count, microseconds


def opened(path: Path) -> int:
    """A lock file to read and write, made where it is missing.

    Raises:
        StoreError: It cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"Lock file {path} cannot be opened: {error.strerror};",
            advice="may this user write to the data folder, and is there room on its disk?",
        ) from error


class _Waiter:
    """Waits for a file lock in a thread, since the kernel's wait knows no deadline."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._settle = threading.Lock()
        self._done = threading.Event()
        self._abandoned = False
        threading.Thread(target=self._wait, name="store-gate", daemon=True).start()

    def got_it(self, seconds: float) -> bool:
        """Whether the lock came in time; if not, it is given back as soon as it comes."""
        if self._done.wait(max(seconds, 0)):
            return True
        with self._settle:
            self._abandoned = not self._done.is_set()
            return not self._abandoned

    def _wait(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with self._settle:
            if self._abandoned:
                os.close(self._file)
            else:
                self._done.set()


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _forget_gates() -> None:
    for gate in _gates:
        gate.forget_after_fork()


os.register_at_fork(after_in_child=_forget_gates)
