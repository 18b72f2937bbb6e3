"""The gate: one writer at a time in a data folder, across threads and processes, in turn and with a deadline.

SQLite makes writers sleep and try again, so that under load one of them loses every race for seconds. A
file lock wakes the one that waits, and the kernel drops it when its holder dies. Alone it would favour
whoever happens to run over the one that must be woken; so those that wait form a queue: each holds a lock
on a byte of its own and waits for the byte of the one before it.
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

    def held(self, deadline_seconds: float, what: str) -> AbstractContextManager[None]:
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
            file, waited = _locked_at_once(self.path), False
            if file is None and deadline_seconds > 0:
                waited = True
                file = _Waiter(self.path).file(began + deadline_seconds)
            if file is None:
                self._waited(deadline_seconds)
                raise StoreBusyError(
                    f"{what} waited {deadline_seconds:g} s for another writer (lock {self.path});",
                    advice=f"find the process that holds it with `fuser {self.path}`, or try again.",
                )
            if waited:
                self._waited(time.monotonic() - began)
            # The file was deleted meanwhile: the next process locks another one.
            if os.fstat(file).st_nlink:
                return file
            _let_go(file)

    def _waited(self, seconds: float) -> None:
        if self._waits is not None:
            self._waits.add(seconds)

    def forget_after_fork(self) -> None:
        """In a forked child: hold nothing of what the parent holds."""
        self._mine = threading.local()


class _Turn(AbstractContextManager[None]):
    """What `Gate.held` gives: a class, since a generator takes longer than the lock itself."""

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
        return open_private(path, os.O_RDWR)
    except OSError as error:
        raise StoreError(
            f"Lock file {path} cannot be opened: {error.strerror};",
            advice="may this user write to the data folder, and is there room on its disk?",
        ) from error


class _Waiter:
    """Waits for a file lock in threads, since the kernel's waits know no deadline."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._settle = threading.Lock()
        self._done = threading.Event()
        self._over = False
        self._won: int | None = None
        self._in_queue: int | None = None

    def file(self, deadline: float) -> int | None:
        """The locked file, or None where the lock did not come by `deadline` (monotonic seconds)."""
        try:
            self._begin(self._in_turn)
            if not self._done.wait(min(_TIMEOUT_SECONDS, _left(deadline))) and _left(deadline):
                # The one before may be stopped, not slow; then it must not stop everyone behind it.
                self._begin(self._out_of_turn)
                self._done.wait(_left(deadline))
        except BaseException:
            if (file := self._end()) is not None:
                _let_go(file)
            raise
        return self._end()

    def _end(self) -> int | None:
        """Leave the queue; what was won until now."""
        with self._settle:
            self._over = True
            if self._in_queue is not None:
                _bytes(self._in_queue, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0, 0)
            return self._won

    def _begin(self, way: Callable[[int], None]) -> None:
        file = _opened_lock(self._path)
        threading.Thread(target=self._wait, args=(file, way), name="store-gate", daemon=True).start()

    def _wait(self, file: int, way: Callable[[int], None]) -> None:
        way(file)
        with self._settle:
            if file == self._in_queue:
                self._in_queue = None
            if not self._over and self._won is None:
                self._won = file
                self._done.set()
                return
        _let_go(file)

    def _in_turn(self, file: int) -> None:
        _bytes(file, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, _NEXT_TICKET, 1)
        ticket = int.from_bytes(os.pread(file, 8, _NEXT_TICKET), "little")
        os.pwrite(file, (ticket + 1).to_bytes(8, "little"), _NEXT_TICKET)
        with self._settle:
            if self._over:
                return
            self._in_queue = file
            _bytes(file, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, _QUEUE + ticket + 1, 1)
        _bytes(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, _NEXT_TICKET, 1)
        _bytes(file, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, _QUEUE + ticket, 1)
        if not self._done.is_set():
            fcntl.flock(file, fcntl.LOCK_EX)
        # The next one may now wait at the gate itself, while this one works.
        _bytes(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0, 0)

    def _out_of_turn(self, file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)


_TIMEOUT_SECONDS = 1.0
_NEXT_TICKET = 8
_QUEUE = 1 << 32
"""From here on a byte stands for a place in the queue. Bytes need not be in the file to be locked."""

_LOCK = struct.Struct("hhqqi")


def _locked_at_once(path: Path) -> int | None:
    """The locked file where no process holds it or waits for it."""
    file = _opened_lock(path)
    kind = _bytes(file, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, _QUEUE, 0)
    if kind == fcntl.F_UNLCK:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return file
    _let_go(file)
    return None


def _bytes(file: int, command: int, kind: int, start: int, length: int) -> int:
    """Lock, unlock or ask after bytes of a file, which belong to the open file and not to the process."""
    answer: int = _LOCK.unpack(fcntl.fcntl(file, command, _LOCK.pack(kind, os.SEEK_SET, start, length, 0)))[0]
    return answer


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _opened_lock(path: Path) -> int:
    file = opened(path)
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
