"""Spools: files that processes append rows to, and how the flusher reads them."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from pydantic_core import from_json

from adapters.host.private_files import make_private_folder, open_private
from adapters.stores.batch_rows import BatchRows, GivenRows, GivenValues
from models.failures import StoreError, StoreFullError

log = logging.getLogger("roas")

DAMAGED = ".damaged"
"""Suffix of a spool that is kept for the user because a part of it cannot be read."""

_HEAD = struct.Struct("<IIB")
_SHAPE, _ROWS = 0, 1
_TURN_BYTES = 4 * 1024 * 1024
_KEPT_BYTES = 512 * 1024
_TICK_NS = 2_000_000_000


class SpoolFolder:
    """The spools of every process, in one folder."""

    def __init__(self, path: Path) -> None:
        """Make the folder.

        Raises:
            StoreError: It cannot be made.
        """
        make_spool_folder(path)
        self.path = path
        self._readers: dict[str, SpoolReader] = {}
        self._changed = -1
        self._lock = threading.Lock()

    def readers(self) -> list[SpoolReader]:
        """A reader for every spool."""
        with self._lock:
            changed = os.stat(self.path).st_mtime_ns  # noqa: PTH116 - with every batch, and paths are slow to make
            if changed != self._changed:
                # Another file made within the same tick of the clock would leave the folder's time as it is.
                self._changed = changed if abs(time.time_ns() - changed) > _TICK_NS else -1
                for name in os.listdir(self.path):  # noqa: PTH208
                    if name.endswith(".spool") and name[0] != "." and name not in self._readers:
                        self._readers[name] = SpoolReader(self.path / name)
            return [self._readers[name] for name in sorted(self._readers)]

    def waiting_bytes(self) -> int:
        """Bytes that are not in the stores yet."""
        return sum(reader.left() for reader in self.readers())

    def forget(self, name: str) -> None:
        """Drop the reader of a spool that was removed."""
        with self._lock:
            self._readers.pop(name, None)

    def restart_after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()


class Spool:
    """The file this process appends rows of one store to. Its lock tells that this process lives."""

    def __init__(self, folder: Path, store: str, room_left: Callable[[], bool]) -> None:
        self.name: str | None = None
        self._folder = folder
        self._room_left = room_left
        # The files of a process are read in the order of their names, also after its clock was set back.
        self._prefix = f"{store}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}"
        self._turns = 0
        self._file: int | None = None
        self._size = 0
        self._numbers: dict[bytes, bytes] = {}
        self._kept: dict[bytes, GivenValues] = {}
        self._kept_from = 0

    def append(self, shape: bytes, payload: bytes, rows: GivenValues) -> None:
        """Add rows of the statement that `shape` tells; `payload` is what they are as JSON."""
        file = self._file
        if file is None or self._size > _TURN_BYTES:
            file = self._turn()
        number, new = self._numbers.get(shape), b""
        if number is None:
            number = len(self._numbers).to_bytes(2, "little")
            new = _HEAD.pack(len(shape), zlib.crc32(shape), _SHAPE) + shape
        body = number + payload
        record = new + _HEAD.pack(len(body), zlib.crc32(body), _ROWS) + body
        try:
            written = os.write(file, record)
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error
        if written != len(record):
            os.ftruncate(file, self._size)
            raise self._refused("the disk is full")
        self._size += written
        self._numbers[shape] = number
        if self._size - self._kept_from > _KEPT_BYTES:
            self._keep_from_here()
        elif (rows_of_shape := self._kept.get(shape)) is not None:
            rows_of_shape += rows
        else:
            self._kept[shape] = rows

    def take_kept(self, position: int) -> SpoolBatch | None:
        """All rows from a place in the file on, if they are still in memory; they are not kept any longer."""
        batch = None
        if position == self._kept_from and self._size > position:
            batch = SpoolBatch(bytes=self._size - position)
            for number, shape in enumerate(self._numbers):
                batch.shapes[number] = _shape(shape)
                if shape in self._kept:
                    batch.rows[number] = self._kept[shape]
        self._keep_from_here()
        return batch

    def close(self) -> None:
        """Close the file; the flusher removes it once it is in the store."""
        if self._file is not None:
            os.close(self._file)
            self._file = self.name = None
            self._keep_from_here()

    def _keep_from_here(self) -> None:
        self._kept, self._kept_from = {}, self._size

    def keep(self) -> None:
        """Write the file again where somebody deleted it: its rows were accepted.

        Raises:
            StoreError: It cannot be made again now.
        """
        if self._file is None or self.name is None or os.fstat(self._file).st_nlink:
            return
        make_spool_folder(self._folder)
        file = self._file
        self._make_file(self.name, Path(f"/proc/self/fd/{file}").read_bytes())
        os.close(file)
        log.error("spool %s was deleted while it was open; it is written again", self._folder / self.name)

    def _turn(self) -> int:
        """Begin a new file; the old one is removed by the flusher that finds it empty and without owner."""
        if not self._room_left():
            raise StoreFullError(
                f"Too much waits in {self._folder} to be written;",
                advice="the log says why the batch writer cannot write; free room or mend the store.",
            )
        self.close()
        self._turns += 1
        file = self._make_file(f"{self._prefix}-{self._turns:06}.spool")
        self._size = 0
        self._numbers = {}
        self._keep_from_here()
        return file

    def _make_file(self, name: str, content: bytes = b"") -> int:
        hidden, file = self._folder / f".{name}", None
        try:
            file = open_private(hidden, os.O_WRONLY | os.O_EXCL | os.O_APPEND)
            # Locked before it has its name: a flusher must not take it for a dead process's.
            fcntl.flock(file, fcntl.LOCK_EX)
            if content and os.write(file, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            hidden.rename(self._folder / name)
        except OSError as error:
            if file is not None:
                os.close(file)
                hidden.unlink(missing_ok=True)
            raise StoreFullError(
                f"A spool cannot be made in {self._folder}: {error.strerror};", advice="is there room on its disk?"
            ) from error
        self._file, self.name = file, name
        return file

    def _refused(self, reason: str) -> StoreFullError:
        return StoreFullError(
            f"A row was not accepted, spool {self._folder}: {reason};", advice="free room on its disk and try again."
        )


@dataclass(slots=True)
class SpoolBatch:
    """Rows of one spool, by the statement that inserts them, and the bytes they take in the spool."""

    rows: dict[int, GivenRows] = field(default_factory=dict)
    shapes: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    bytes: int = 0


class SpoolReader:
    """Reads one spool from where the store says it is."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.name = file.name
        self.store = file.name.split("-", 1)[0]
        self.position = 0
        self.damaged = False
        """Whether what comes next was changed after it had been written."""
        self._shapes: dict[int, tuple[str, list[str]]] = {}
        self._seen = 0

    def left(self) -> int:
        """Bytes that are not in the store."""
        try:
            return os.stat(self.file).st_size - self.position  # noqa: PTH116 - with every batch, and quicker
        except FileNotFoundError:
            return 0

    def catch_up(self, rows: BatchRows) -> None:
        """Take the position from the store: another process may have moved rows since."""
        self.position = rows.position(self.name)

    def take(self, limit: int) -> SpoolBatch:
        """The next rows that are complete, some more than `limit` bytes of them."""
        batch = SpoolBatch(shapes=self._shapes)
        # All of it is in the store, also where another process put it there: no need to read what.
        if self.left() <= 0:
            return batch
        try:
            file = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return batch
        try:
            # Another process moved rows: what statements they came with holds for the rest too.
            has_shapes = self._seen >= self.position or self._read_shapes(
                os.pread(file, self.position - self._seen, self._seen)
            )
            # After a power failure a spool may be shorter than what of it is in the store.
            data = os.pread(file, max(0, os.fstat(file).st_size - self.position), self.position)
        finally:
            os.close(file)
        if not has_shapes and data:
            # A power failure took the record that names the statement of each row, but no rows in the store.
            self.damaged = True
            return batch
        lists: dict[int, list[bytes]] = {}
        # Written out: a call for each of the rows would take as long as all the rest.
        unpack, checked, size_of_head, at = _HEAD.unpack_from, zlib.crc32, _HEAD.size, 0
        while at + size_of_head < len(data) and batch.bytes <= limit:
            size, checksum, kind = unpack(data, at)
            at += size_of_head
            body = data[at : at + size]
            # Zeros, which a power failure may leave, are the right checksum of nothing.
            if len(body) != size or checked(body) != checksum or not size:
                self.damaged = len(body) == size
                break
            if kind == _SHAPE:
                self._add_shape(body)
            else:
                number = body[0] | body[1] << 8
                if number not in lists:
                    lists[number] = []
                lists[number].append(body[3:-1])
            batch.bytes = at = at + size
        batch.rows = {number: _list_of(rows) for number, rows in lists.items()}
        self._seen = max(self._seen, self.position + batch.bytes)
        return batch

    @contextmanager
    def abandoned(self) -> Iterator[bytes | None]:
        """Hold a spool whose owner is dead or has turned to another, and which has nothing left to take.

        Yields the bytes behind the last record that was taken: nothing, one that was never finished, or damage and
        what follows it. None where the owner lives, or where there is more to take.
        """
        try:
            file = self.file.open("rb")
        except FileNotFoundError:
            yield b""
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            file.seek(self.position)
            tail = file.read()
            more = not self.damaged and next(_records(tail), None) is not None
            yield None if more else tail

    def take_behind_damage(self) -> tuple[SpoolBatch, int]:
        """The rest: every row in it that can still be read, and how many bytes cannot."""
        whole = self.file.read_bytes()
        if self._seen < self.position:
            self._read_shapes(whole[self._seen : self.position])
        data = memoryview(whole)[self.position :]
        lists: dict[int, list[bytes]] = {}
        at = unreadable = 0
        while at < len(data):
            kind, body, size = next(_records(data[at:]), (None, b"", 1))
            number = int.from_bytes(body[:2], "little")
            # A kind of row that begins behind the damage may have lost its number to one that is gone.
            if kind == _ROWS and number in self._shapes:
                lists.setdefault(number, []).append(bytes(body[3:-1]))
            else:
                unreadable += size
            at += size
        rows: dict[int, GivenRows] = {number: _list_of(parts) for number, parts in lists.items()}
        return SpoolBatch(rows=rows, shapes=self._shapes, bytes=len(data)), unreadable

    def skip(self, batch: SpoolBatch) -> None:
        """The next rows are known without being read, and with them every statement so far."""
        self._shapes = batch.shapes
        self._seen = self.position + batch.bytes

    def _read_shapes(self, moved: bytes) -> bool:
        """Whether every statement up to the position is known; the rows themselves are in the store."""
        unpack, size_of_head, at = _HEAD.unpack_from, _HEAD.size, 0
        while at + size_of_head <= len(moved):
            size, checksum, kind = unpack(moved, at)
            at += size_of_head + size
            if kind == _SHAPE:
                body = moved[at - size : at]
                if not size or zlib.crc32(body) != checksum:
                    return False
                self._add_shape(body)
        if at != self.position - self._seen:
            return False
        self._seen = self.position
        return True

    def _add_shape(self, body: bytes) -> None:
        if (shape := _shape(body)) not in self._shapes.values():
            self._shapes[len(self._shapes)] = shape


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder survive a power failure."""
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def make_spool_folder(folder: Path) -> None:
    """Make a folder that only this user may read.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        make_private_folder(folder)
    except OSError as error:
        raise StoreError(
            f"Folder {folder} cannot be made: {error.strerror};",
            advice="may this user write to the data folder, and is there room on its disk?",
        ) from error


@lru_cache(maxsize=256)
def _shape(body: bytes) -> tuple[str, list[str]]:
    shape = from_json(body)
    return shape["table"], shape["columns"]


def _list_of(rows: list[bytes]) -> bytes:
    """One JSON list: one parse for all rows of a statement takes a third of the time of one a row."""
    return b"[" + b",".join(rows) + b"]"


def _records(data: bytes | memoryview) -> Iterator[tuple[int, bytes | memoryview, int]]:
    """Kind, body and end of each complete record; what follows a torn one was never accepted."""
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum, kind = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if len(body) != size or zlib.crc32(body) != checksum or not size:
            return
        at += _HEAD.size + size
        yield kind, body, at
