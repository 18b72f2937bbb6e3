"""Writes that wait for the stores: in order, kept in a journal while the stores are away, done once they are back.

One thread of the process writes. Callers wait a moment only and go on; a write not done by then is kept in the journal,
one line, synced, and the thread tries until the stores take it. Each process has a journal of its own, which it holds a
lock on. One whose owner is gone is taken over by the next process that looks, so a write survives the death of its
process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, cast

from adapters.host.private_files import make_private_folder, open_private, sync_folder
from adapters.stores.recovery_writes import RecordGap, from_line, to_line
from adapters.stores.row_writes import KeepRows
from adapters.stores.stores import Stores
from adapters.stores.writes import Names, Write
from models.failures import RoasError, StoreConstraintError, StoreError

log = logging.getLogger("roas")

TRY_AGAIN_SECONDS = 1.0
_REFUSED = "refused.txt"
LIMIT_BYTES = 64 * 1024 * 1024
"""So much of the disk a journal takes at most: hours of failures with their evidence."""

_JOINED = 100
_SUFFIX = ".jsonl"
_UNNAMED = ".new"
"""A journal of earlier versions that had no name yet when its process died."""


@dataclass(slots=True, eq=False)
class Pending:
    """A write on its way. `answer` is what the stores answered, or a StoreError once it is known to wait."""

    write: Write
    answer: Future[Any] = field(default_factory=Future)
    done: bool = False
    in_journal: bool = False


class WriteBehind:
    """The one writer of a process, and whether it is behind."""

    def __init__(self, stores: Callable[[], Stores], folder: Path, *, journal: Journal | None = None) -> None:
        """Begin no thread yet. `stores` opens the stores, or gives those that are open; `folder` has the journals."""
        self.names = Names()
        self._stores = stores
        self._folder = folder
        self._journal = journal or Journal(folder)
        self._journal_lock = threading.Lock()
        self._changed = threading.Condition()
        self._queue: deque[Pending] = deque()
        self._behind_since: datetime | None = None
        self._is_away = self._was_slow = False
        self._thread: threading.Thread | None = None
        self._look_for_left = True
        self._has_gap = False

    @property
    def behind(self) -> bool:
        """Whether the stores count as away: callers do not wait for them then."""
        return self._behind_since is not None

    def put(self, write: Write) -> Pending:
        """Let a write follow those before it."""
        pending = Pending(write)
        with self._changed:
            self._queue.append(pending)
            self._begin()
            self._changed.notify()
        return pending

    def fall_behind(self, why: str, *, is_slow: bool = False) -> None:
        """The stores failed or kept somebody waiting; callers do not wait until they answer again.

        That they are slow is logged once: over a slow network it happens again and again.
        """
        with self._changed:
            self._behind_since = self._behind_since or datetime.now(UTC)
            if is_slow and not self._was_slow:
                log.info("the stores answer slowly, and healing goes on by what was read last: %s", why)
            elif not is_slow and not self._is_away:
                log.warning("the stores are away, work goes on by what was read last: %s", why)
            self._was_slow, self._is_away = self._was_slow or is_slow, self._is_away or not is_slow
            waiting = list(self._queue)
            self._begin()
            self._changed.notify()
        for pending in waiting:
            _settle(pending, error=StoreError(why))

    def keep(self, pending: Pending) -> None:
        """Put a write that is late into the journal, so that it outlives this process."""
        if not pending.write.kept:
            return
        with self._journal_lock:
            if pending.done or pending.in_journal:
                return
            try:
                was_written = self._journal.append(to_line(pending.write))
                if not was_written and not self._has_gap:
                    self._has_gap = True
                    gap = RecordGap(since=datetime.now(UTC), folder=str(self._folder))
                    self._journal.append(to_line(gap), reserve=True)
                    log.error("the journal in %s is full: what recoveries do from now on is not recorded", self._folder)
                    self.put(gap).in_journal = True
            except OSError as error:
                log.error("the journal in %s was not written: %s", self._folder, error)
                return
        if was_written:
            pending.in_journal = True
        else:
            self._leave_out(pending)

    def look_for_left(self) -> None:
        """Take over, soon, the journals of processes that are gone."""
        with self._changed:
            self._look_for_left = True
            self._begin()
            self._changed.notify()

    def _leave_out(self, pending: Pending) -> None:
        with self._changed:
            if pending in self._queue and self._queue[0] is not pending:
                self._queue.remove(pending)

    def _begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self.behind and not self._look_for_left:
                    self._changed.wait()
                head = self._queue[0] if self._queue else None
            try:
                if head is None:
                    self._catch_up()
                else:
                    self._apply(head)
            except StoreError as error:
                self.fall_behind(str(error))
                if head is not None and not head.write.kept:
                    # Without it nothing may wait, and yet the stores are not back.
                    self._drop(head)
                threading.Event().wait(TRY_AGAIN_SECONDS)
            except Exception:
                # A defect of ours must not end the thread that everything is written by.
                log.exception("the writer of the stores broke off")
                threading.Event().wait(TRY_AGAIN_SECONDS)

    def _apply(self, head: Pending) -> None:
        try:
            answer = head.write.apply(self._stores(), self.names)
        except Exception as error:
            # What cannot be written must not keep the rest from it.
            if isinstance(error, StoreError) and not isinstance(error, StoreConstraintError):
                raise
            self._refuse(head, error)
        else:
            _settle(head, answer)
        self._finish(head)

    def _refuse(self, head: Pending, error: Exception) -> None:
        if head.answer.done():
            # The caller no longer waits for the answer.
            with suppress(OSError):
                _keep_refused(self._folder / _REFUSED, to_line(head.write), error)
        _settle(head, error=error)

    def _finish(self, head: Pending) -> None:
        if self._drop(head):
            self._end_backlog()

    def _drop(self, head: Pending) -> bool:
        """Take the first write out of the queue; whether that is empty then."""
        head.done = True
        with self._changed:
            if self._queue and self._queue[0] is head:
                self._queue.popleft()
            return not self._queue

    def _end_backlog(self) -> None:
        with self._journal_lock:
            if any(pending.in_journal for pending in list(self._queue)):
                return
            with suppress(OSError):
                self._journal.clear(self._stores())
            self._has_gap = False
        with self._changed:
            if self._queue or self._behind_since is None:
                return
            away, was_away = datetime.now(UTC) - self._behind_since, self._is_away
            self._behind_since, self._is_away = None, False
            self._look_for_left = True
        if was_away:
            log.warning("the stores are back after %.0f s, and have what was done meanwhile", away.total_seconds())

    def _catch_up(self) -> None:
        stores = self._stores()
        if self.behind:
            # A transaction over all of them shows that each takes writes again.
            with stores.together():
                pass
            self._end_backlog()
        if self._look_for_left:
            self._look_for_left = False
            replay_left(stores, self._folder)


def leave_for_later(write: Write, folder: Path) -> None:
    """Leave a write in a journal that belongs to no process: the next one that looks writes it into the stores.

    Raises:
        OSError: The disk did not take it.
    """
    journal = Journal(folder)
    try:
        journal.append(to_line(write))
    finally:
        journal.close()


def replay_left(stores: Stores, folder: Path, *, refused: str = _REFUSED, held_too: bool = False) -> int:
    """Write what processes that are gone left in their journals; how many writes those were.

    `refused` names the file for lines that cannot be written. `held_too` also writes what is in the journals of
    processes that live, which leave it there until they have written it themselves.

    Raises:
        StoreError: The stores did not take it; it stays in its journal.
    """
    written = 0
    try:
        for journal in journals_in(folder):
            try:
                if journal.is_held:
                    written += _replay(stores, journal, folder / refused)
                    journal.clear(stores)
                elif held_too:
                    _replay(stores, journal, None)
            finally:
                journal.close()
    except OSError as error:
        log.warning("journals in %s cannot be read: %s", folder, error)
    if written and not held_too:
        log.warning("%d writes of a process that is gone went into the stores", written)
    return written


def _replay(stores: Stores, journal: Journal, refused: Path | None) -> int:
    """Write all lines of a journal; those that cannot be written go into a file, or stay the owner's affair."""
    names, lines = Names(), journal.lines()
    writes: list[Write] = []
    bad: list[tuple[bytes, Exception]] = []
    for line in lines:
        try:
            writes.append(from_line(line))
        except ValueError as error:
            bad.append((line, error))
    for write in _join_rows(writes):
        try:
            write.apply(stores, names)
        except (RoasError, ValueError) as error:
            if isinstance(error, StoreError) and not isinstance(error, StoreConstraintError):
                raise
            bad.append((to_line(write), error))
    if refused is not None:
        for line, why in bad:
            _keep_refused(refused, line, why)
    return len(lines)


def _join_rows(writes: Sequence[Write]) -> Iterator[Write]:
    """Give writes in their order, where rows that follow each other go in at once: each would need a transaction."""
    for is_rows, group in groupby(writes, lambda write: isinstance(write, KeepRows)):
        if not is_rows:
            yield from group
        while rows := list(islice(group, _JOINED)):
            yield KeepRows.join(cast("list[KeepRows]", rows))


def _keep_refused(file: Path, line: bytes, error: Exception) -> None:
    refused = not isinstance(error, ValueError)
    what = (
        "the stores refused a write of the journal, which" if refused else "a line of a journal cannot be written, and"
    )
    log.error("%s is kept in %s: %s", what, file.name, error)
    with os.fdopen(open_private(file, os.O_WRONLY | os.O_APPEND), "ab") as stream:
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _settle(pending: Pending, answer: Any = None, *, error: Exception | None = None) -> None:
    if pending.answer.done():
        return
    if error is None:
        pending.answer.set_result(answer)
    else:
        pending.answer.set_exception(error)


def waiting_writes(folder: Path) -> int:
    """Count the writes that wait in the journals of a folder, of this process and of others.

    Raises:
        OSError: A journal cannot be read.
    """
    waiting = 0
    for journal in folder.glob(f"*{_SUFFIX}"):
        # It may be removed meanwhile, once the stores have all of it.
        with suppress(FileNotFoundError), journal.open("rb") as lines:
            waiting += sum(1 for _ in lines)
    return waiting


def waiting_bytes(folder: Path) -> int:
    """Count the bytes that wait in the journals of a folder, of this process and of others."""
    waiting = 0
    for journal in folder.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):
            waiting += journal.stat().st_size
    return waiting


class Journal:
    """An append-only file of lines. Not safe for threads."""

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Make nothing yet; the first `append` does."""
        self.folder = folder
        self.size = 0
        """Bytes in it."""
        self.is_held = True
        """Whether it is this process's own, or was taken over from one that is gone."""
        self._limit_bytes = limit_bytes
        self._file: int | None = None
        self._path: Path | None = None

    @property
    def path(self) -> Path | None:
        """Its file, while there is one."""
        return self._path

    def append(self, line: bytes, *, sync: bool = True, reserve: bool = False) -> bool:
        """Write a line so that it survives the death of this process, with `sync` (of all lines) a power failure too.

        False where the journal is full; `reserve` lets a last line in that says so.

        Raises:
            OSError: The disk did not take it.
        """
        if self.size + len(line) + 1 > self._limit_bytes and not reserve:
            return False
        file = self._open_file(sync=sync)
        try:
            _write_whole(file, line + b"\n")
            if sync:
                os.fdatasync(file)
        except OSError:
            # A part of the line may be there; the next one must not be joined to it.
            os.ftruncate(file, self.size)
            raise
        self.size += len(line) + 1
        return True

    def clear(self, stores: Stores) -> None:
        """Remove the file: the stores have taken all that is in it, and keep it through a power failure.

        Raises:
            StoreError: A store cannot be synced; the file stays.
        """
        if self._path is not None:
            for database in stores.databases.values() if self.size else ():
                database.sync()
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave the file, if there is one, to the process that takes it over."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._path, self.size = None, None, 0

    def lines(self) -> list[bytes]:
        """Its complete lines: the last may have been cut off with its writer."""
        if self._file is None:
            return []
        whole, _, _ = _read_whole(self._file).rpartition(b"\n")
        return whole.split(b"\n") if whole else []

    def _open_file(self, *, sync: bool) -> int:
        file = self._file
        if file is not None and os.fstat(file).st_nlink:
            return file
        make_private_folder(self.folder)
        path, opened = _make(self.folder)
        try:
            if file is not None:
                log.error("journal %s was deleted while it was open; it is written again", self._path)
                _write_whole(opened, _read_whole(file))
            if sync:
                sync_folder(self.folder)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(opened)
            raise
        if file is not None:
            os.close(file)
        self._file, self._path = opened, path
        return opened


def _make(folder: Path) -> tuple[Path, int]:
    """A new journal, locked. Until it is, another process may take it for that of a dead one and remove it."""
    while True:
        path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        opened = open_private(path, os.O_RDWR | os.O_EXCL | os.O_APPEND)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(opened)
            continue
        except OSError:
            path.unlink(missing_ok=True)
            os.close(opened)
            raise
        if os.fstat(opened).st_nlink:
            return path, opened
        os.close(opened)


def journals_in(folder: Path) -> Iterator[Journal]:
    """All journals of a folder, the oldest first; those whose owners are gone are held by this process from now on.

    Raises:
        OSError: The folder cannot be read.
    """
    if not folder.exists():
        return
    paths = [path for path in folder.iterdir() if path.name.endswith((_SUFFIX, _UNNAMED))]
    for path in sorted(paths, key=lambda path: path.lstat().st_mtime_ns if path.exists() else 0):
        journal = _open_journal(path)
        if journal is not None:
            yield journal


def _open_journal(path: Path) -> Journal | None:
    """The journal of a file; None where it is gone, or is no file of ours."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s is no journal of this user, and is left alone: %s", path, error.strerror)
        return None
    journal, status = Journal(path.parent), os.fstat(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        journal.is_held = False
    # Without a name it was emptied into the stores by its owner just now.
    if not stat.S_ISREG(status.st_mode) or os.fstat(file).st_nlink == 0:
        os.close(file)
        return None
    journal._file, journal._path, journal.size = file, path, status.st_size
    return journal


def _read_whole(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _write_whole(file: int, data: bytes) -> None:
    view = memoryview(data)[os.write(file, data) :]
    while view:
        view = view[os.write(file, view) :]
