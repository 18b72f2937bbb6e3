"""The gate: one writer at a time in a data folder, across threads and processes, with a deadline.

The kernel drops a file lock when its holder dies. Alone it would favour a running writer over those that sleep and try
again; so of those that want it one is next, by a lock on a byte, and no other takes it meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from adapters.host.private_files import open_private
from models.failures import StoreBusyError, StoreError


class Gate:
    """A lock on a file. The holder may leave a number in it, which the next one finds."""

    def __init__(self, path: Path, waits: Waits | None = None) -> None:
        """Lock nothing yet. Waits are counted in `waits`, where given."""
        self.path = path
        self._mine = threading.local()
        self._waits = waits
        _gates.add(self)

    def hold(self, deadline_seconds: float, what: str) -> AbstractContextManager[None]:
        """Hold the gate while the body runs.

        Raises:
            StoreBusyError: Others held it until the deadline.
            StoreError: The lock file cannot be opened.
        """
        return _Turn(self, deadline_seconds, what)

    def read_number(self) -> int | None:
        """The number the last holder left; None for none yet. Only while held."""
        data = os.pread(self._file(), 8, 0)
        return int.from_bytes(data, "little") if data else None

    def leave_number(self, number: int) -> None:
        """Leave a number for the next holder of the gate, even if this process dies now. Only while held."""
        os.pwrite(self._file(), number.to_bytes(8, "little"), 0)

    def _file(self) -> int:
        file: int | None = getattr(self._mine, "file", None)
        if file is None:
            raise RuntimeError("the gate is not held")
        return file

    def _lock(self, deadline_seconds: float, what: str) -> int:
        began = time.monotonic()
        while True:
            file = _opened_lock(self.path)
            try:
                is_locked, has_waited = _lock_in_turn(file, began, began + deadline_seconds)
            except BaseException:
                _let_go(file)
                raise
            if has_waited:
                self._note_wait(time.monotonic() - began)
            # If it was deleted meanwhile, the next process locks another one.
            if is_locked and os.fstat(file).st_nlink:
                return file
            _let_go(file)
            if not is_locked:
                raise StoreBusyError(
                    f"{what} waited {deadline_seconds:g} s for another writer (lock {self.path});",
                    advice=f"find the process that holds it with `fuser {self.path}`, or try again.",
                )

    def _note_wait(self, seconds: float) -> None:
        if self._waits is not None:
            self._waits.add(seconds)

    def forget_after_fork(self) -> None:
        """In a forked child: hold nothing of what the parent holds."""
        self._mine = threading.local()


class _Turn(AbstractContextManager[None]):
    """What `Gate.hold` gives: a class, since a generator takes longer than the lock itself."""

    __slots__ = ("_file", "_gate", "_given")

    def __init__(self, gate: Gate, deadline_seconds: float, what: str) -> None:
        self._gate, self._given = gate, (deadline_seconds, what)

    def __enter__(self) -> None:
        self._file = self._gate._mine.file = self._gate._lock(*self._given)

    def __exit__(self, *_: object) -> None:
        self._gate._mine.file = None
        _let_go(self._file)


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
        file = open_lock_file(self._path)
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
        file = open_lock_file(self._path)
        try:
            count, microseconds = _counts(file)
        finally:
            os.close(file)
        return count, microseconds / 1_000_000


_COUNTS = struct.Struct("<QQ")


def _counts(file: int) -> tuple[int, int]:
    count, microseconds = _COUNTS.unpack(os.pread(file, _COUNTS.size, 0).ljust(_COUNTS.size, b"\0"))
    return count, microseconds


def open_lock_file(path: Path) -> int:
    """A lock file to read and write, made where it is missing.

    Raises:
        StoreError: It cannot be opened.
    """
    try:
        return open_private(path, os.O_RDWR)
    except OSError as error:
        raise StoreError(
            f"Lock file {path} cannot be opened: {error.strerror};",
            advice="may this user write to the data folder, and is there room on its disk?",
        ) from error


_PAUSE_SECONDS = 0.001
_PASSED_AFTER_SECONDS = 1.0
"""The one that is next may be stopped, not slow; then it must not stop all others."""

_NEXT = 8
"""The byte whose lock makes one the next: behind the number of the last holder. It need not be in the file."""

_LOCK = struct.Struct("hhqqi")


def _lock_in_turn(file: int, began: float, deadline: float) -> tuple[bool, bool]:
    """Lock a file; returns whether it did before the deadline, and whether it waited. Moments are monotonic seconds."""
    is_next = has_waited = False
    try:
        while True:
            is_next = is_next or _is_done(lambda: _lock_byte(file, fcntl.F_WRLCK))
            now = time.monotonic()
            may_lock = is_next or now - began > _PASSED_AFTER_SECONDS
            if may_lock and _is_done(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)):
                return True, has_waited
            if now >= deadline:
                return False, has_waited
            has_waited = True
            time.sleep(min(_PAUSE_SECONDS, deadline - now))
    finally:
        if is_next:
            _lock_byte(file, fcntl.F_UNLCK)


def _is_done(lock: Callable[[], object]) -> bool:
    """Whether a lock was free, and is taken now."""
    try:
        lock()
    except BlockingIOError:
        return False
    return True


def _lock_byte(file: int, kind: int) -> None:
    """Lock or unlock the byte of the next one, for the open file and not for the process."""
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, _NEXT, 1, 0))


def _opened_lock(path: Path) -> int:
    file = open_lock_file(path)
    _files.add(file)
    return file


def _let_go(file: int) -> None:
    if file not in _files:
        # This is a forked child, which has closed what the parent holds.
        return
    _files.discard(file)
    # Unlock by word: a child forked just now shares the lock and would keep it after a close.
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


_files: set[int] = set()
"""Every lock file this process has open."""

_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _forget_gates() -> None:
    for file in _files:
        os.close(file)
    _files.clear()
    for gate in _gates:
        gate.forget_after_fork()


os.register_at_fork(after_in_child=_forget_gates)
