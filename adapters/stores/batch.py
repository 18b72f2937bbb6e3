"""Many small writes as few transactions, without losing one: the batch writer.

A row is first appended to a file of this process, the spool. From then on it survives the death of the
process. Whoever fills a batch first becomes the flusher for a moment and moves the rows of all processes into
the store, and in the same transaction notes how far each spool is in. So no row is lost and none is doubled,
wherever a process dies. A spool whose owner is dead is emptied and removed by the next flusher.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import secrets
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlmodel import SQLModel

from adapters.host.private_files import make_private_folder, open_private
from adapters.stores.batch_rows import GivenRows, GivenValues, RowRefusedError, Rows, rows_of
from adapters.stores.gate import Gate
from adapters.stores.repositories.health import probe_row
from adapters.stores.repositories.metrics import series_ids, to_ms
from adapters.stores.sql import table
from adapters.stores.stores import DAMAGED, Stores
from models.failures import StoreBusyError, StoreConstraintError, StoreError, StoreFullError
from models.health import ProbeResult
from models.metrics import Metric
from models.tables.columns import UtcDateTime
from models.tables.deployment_logs import DeploymentLogsRow
from models.tables.errors import ErrorsRow
from models.tables.monitoring import MetricSample, MonitoringRow, ProbeRow

log = logging.getLogger("roas")

_STORES: dict[str, type[SQLModel]] = {
    "deployment_logs": DeploymentLogsRow,
    "monitoring": MonitoringRow,
    "errors": ErrorsRow,
}
_HEAD = struct.Struct("<IIB")
_SHAPE, _ROWS = 0, 1
_BYTES_AT_ONCE = 512 * 1024
_TURN_BYTES = 4 * 1024 * 1024
_KEPT_BYTES = 512 * 1024
_TICK_NS = 2_000_000_000
_FIRST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """How the batch writer is doing: bytes that wait in the spools, and why they could not go in last time."""

    waiting_bytes: int
    trouble: str | None


class BatchWriter:
    """Takes rows of any of the stores' tables and writes them in batches.

    A batch goes in when this process has put `batch_size` rows, and every `flush_seconds`. `spool_bytes`
    bounds what may wait: beyond it `put` refuses, since nothing is ever dropped silently. With `power_safe`
    every row is on the disk itself before `put` returns; otherwise it survives any death of the process, but
    a power failure may take the last moments.
    """

    _lock: threading.Lock
    _looking: threading.Lock
    _waiting: int
    _spools: dict[str, _Spool]
    _timer: threading.Thread

    def __init__(
        self,
        stores: Stores,
        *,
        batch_size: int = 100,
        flush_seconds: float = 30.0,
        spool_bytes: int = 256 * 1024 * 1024,
        power_safe: bool = False,
    ) -> None:
        """Take over what dead processes left, and start the timer.

        Raises:
            StoreError: The folder of the spools cannot be made.
        """
        self._stores = stores
        self._batch_size = batch_size
        self._flush_seconds = flush_seconds
        self._spool_bytes = spool_bytes
        self._power_safe = power_safe
        self._folder = stores.folder / "spool"
        _make(self._folder)
        self._leader = Gate(self._folder / "leader.lock")
        self._encoders: dict[tuple[type[SQLModel], tuple[str, ...]], _Encoder] = {}
        self._latest: dict[type[SQLModel], _Encoder] = {}
        self._readers: dict[str, _Reader] = {}
        self._seen_changed = -1
        self._series: dict[tuple[str, str, str], int] = {}
        self._trouble: str | None = None
        self._pause_seconds = 0.0
        self._not_before = 0.0
        self._stop = threading.Event()
        self._start_in_this_process()
        _writers.add(self)

    def put(self, row: type[SQLModel], values: Mapping[str, Any]) -> None:
        """Accept one row of a table, by the names of its columns; columns left out get their defaults.

        Once this returns, the row survives the death of this process.

        Raises:
            StoreConstraintError: A value does not fit its column, or a column is unknown.
            StoreFullError: Too much waits already, or the disk has no room; the row was not accepted.
        """
        encoder = self._latest.get(row)
        if encoder is None or len(values) != encoder.width:
            self.put_many(row, [values])
            return
        try:
            rows = [encoder.one(values)]
            payload = to_json(rows)
        except _UNFIT:
            # It may only have other columns than the row before.
            self.put_many(row, [values])
            return
        self._add(encoder, payload, rows)

    def put_many(self, row: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
        """Accept rows of one table that all have the same columns: as `put`, all or none, and faster.

        Raises:
            StoreConstraintError: A value does not fit its column, or a column is unknown.
            StoreFullError: Too much waits already, or the disk has no room; no row was accepted.
        """
        if not rows:
            return
        shape = (row, tuple(rows[0]))
        encoder = self._encoders.get(shape)
        if encoder is None:
            encoder = self._encoders[shape] = _Encoder(*shape)
        self._latest[row] = encoder
        try:
            encoded = encoder.many(rows)
            payload = to_json(encoded)
        except _UNFIT as error:
            raise StoreConstraintError(
                f"A row for {encoder.target} cannot be stored: {error};",
                advice="give each value the type its column has.",
            ) from error
        self._add(encoder, payload, encoded)

    def put_metrics(self, metrics: Sequence[Metric]) -> int:
        """Accept samples, as `put_many`; a metric never seen before is named in the store first.

        Gives back how many were accepted: as with `Monitoring.add_metrics`, new metrics beyond the limit of an
        environment are refused.

        Raises:
            StoreBusyError: A new metric could not be named, since others were writing until the deadline.
            StoreFullError: Too much waits already, or the disk has no room; no sample was accepted.
            StoreError: A new metric could not be named; no sample was accepted.
        """
        keys = {(one.environment, one.service, one.name) for one in metrics}
        if not keys <= self._series.keys():
            with self._stores.databases["monitoring"].write() as connection:
                self._series |= series_ids(connection, keys)
        rows = [
            {"ts": to_ms(one.sampled_at), "series": self._series[key], "value": one.value}
            for one in metrics
            if (key := (one.environment, one.service, one.name)) in self._series
        ]
        self.put_many(MetricSample, rows)
        return len(rows)

    def put_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Accept what probes answered, as `put_many`.

        Raises:
            StoreFullError: Too much waits already, or the disk has no room; no answer was accepted.
        """
        self.put_many(ProbeRow, [probe_row(one, environment) for one in probes])

    def _add(self, encoder: _Encoder, payload: bytes, rows: GivenValues) -> None:
        with self._lock:
            self._spools[encoder.store].append(encoder.shape, payload, rows)
            self._waiting += len(rows)
            full = self._waiting >= self._batch_size
            if full:
                self._waiting = 0
        if full:
            self._flush_if_free()

    def flush(self) -> None:
        """Move every row that waits, of this and other processes, into the stores.

        Raises:
            StoreBusyError: Another flusher or writer was at it until the deadline.
            StoreFullError: The disk has no room; the rows wait.
            StoreError: A store failed; the rows wait.
        """
        self._keep_spools()
        with self._leader.held(30.0, "The batch writer"):
            self._move_all()

    def status(self) -> BatchStatus:
        """How much waits, and why."""
        waiting = sum(reader.left() for reader in self._look())
        return BatchStatus(waiting_bytes=waiting, trouble=self._trouble)

    def close(self) -> None:
        """Write what waits, and stop.

        Raises:
            StoreError: It could not be written now; it waits in the spool for the next process.
        """
        self._stop.set()
        self._timer.join()
        self._keep_spools()
        with self._lock:
            for spool in self._spools.values():
                spool.close()
        self.flush()

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def restart_after_fork(self) -> None:
        """In a forked child: the parent's spools are the parent's."""
        self._start_in_this_process()

    def _start_in_this_process(self) -> None:
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._waiting = 0
        self._spools = {
            name: _Spool(self._folder, name, self._room_left, power_safe=self._power_safe) for name in _STORES
        }
        self._timer = threading.Thread(target=self._flush_now_and_then, name="batch-writer", daemon=True)
        self._timer.start()

    def _room_left(self) -> bool:
        return sum(reader.left() for reader in self._look()) < self._spool_bytes

    def _flush_now_and_then(self) -> None:
        while not self._stop.wait(self._pause_seconds or self._flush_seconds):
            self._flush_if_free(wait_seconds=1.0)

    def _flush_if_free(self, wait_seconds: float = 0.0) -> None:
        """Flush unless somebody else does, or the last trouble is too fresh. Trouble is kept and logged."""
        if time.monotonic() < self._not_before:
            return
        try:
            self._keep_spools()
            with self._leader.held(wait_seconds, "The batch writer"):
                self._move_all()
        except StoreBusyError as error:
            log.debug("batch writer: %s", error)
        except StoreError as error:
            if self._trouble is None:
                log.error("batch writer: rows wait in %s: %s", self._folder, error)
            self._trouble = str(error)
            self._pause_seconds = min(max(_FIRST_PAUSE_SECONDS, self._pause_seconds * 2), self._flush_seconds)
            self._not_before = time.monotonic() + self._pause_seconds

    def _keep_spools(self) -> None:
        with self._lock:
            for spool in self._spools.values():
                spool.keep()

    def _move_all(self) -> None:
        by_store: dict[str, list[_Reader]] = {}
        for reader in self._look():
            by_store.setdefault(reader.store, []).append(reader)
        for name, readers in by_store.items():
            while self._move_some(name, readers):
                pass
            for reader in readers:
                self._put_away(name, reader)
        if self._trouble is not None:
            log.info("batch writer: what waited is written")
        self._trouble = None
        self._pause_seconds = self._not_before = 0.0

    def _put_away(self, name: str, reader: _Reader) -> None:
        """Remove a spool that is in the store and has no owner any more; keep what of it is damaged."""
        with self._lock:
            spool = self._spools[name]
            if reader.name == spool.name:
                if not reader.damaged:
                    return
                # The next row begins a new file, and this one loses its owner.
                spool.close()
        with reader.abandoned() as rest:
            if rest is None:
                return
            if reader.damaged:
                self._salvage(name, reader)
            elif rest:
                log.info("spool %s ends in %d bytes that were never accepted", reader.name, len(rest))
            # Rows first, then the file they came from, then how far it was read: after a power failure
            # none of them may be gone before the one in front of it is safe.
            self._stores.databases[name].sync()
            reader.file.unlink(missing_ok=True)
            _sync_folder(self._folder)
        with self._looking:
            self._readers.pop(reader.name, None)
        with rows_of(self._stores.databases[name]) as rows:
            rows.forget_position(reader.name)

    def _salvage(self, name: str, reader: _Reader) -> None:
        """Write what can still be read behind the damage, and keep the file for a person."""
        aside = reader.file.with_name(reader.name + DAMAGED)
        aside.unlink(missing_ok=True)
        aside.hardlink_to(reader.file)
        tables = _STORES[name].metadata.tables
        with rows_of(self._stores.databases[name]) as rows:
            reader.catch_up(rows)
            batch, missing = reader.take_behind_damage()
            for number, content in batch.rows.items():
                target, columns = batch.shapes[number]
                rows.insert_by_halves(tables[target], columns, content)
            rows.note_position(reader.name, reader.position + batch.bytes)
        reader.position += batch.bytes
        log.error("spool %s was damaged, %d bytes cannot be read; it is kept as %s", reader.name, missing, aside)

    def _move_some(self, name: str, readers: Sequence[_Reader]) -> bool:
        """One transaction; whether more may wait."""
        try:
            moved = self._moved(name, readers, by_halves=False)
        except RowRefusedError:
            moved = self._moved(name, readers, by_halves=True)
        for reader, size in moved:
            reader.position += size
        return any(reader.left() for reader, _ in moved)

    def _moved(self, name: str, readers: Sequence[_Reader], *, by_halves: bool) -> list[tuple[_Reader, int]]:
        """How many bytes of each spool are in the store after one transaction, beyond its position."""
        tables, moved = _STORES[name].metadata.tables, []
        with rows_of(self._stores.databases[name]) as rows:
            insert = rows.insert_by_halves if by_halves else rows.insert
            for reader in readers:
                reader.catch_up(rows)
                batch = self._kept(name, reader) or reader.take(_BYTES_AT_ONCE)
                if not batch.bytes:
                    continue
                for number, content in batch.rows.items():
                    target, columns = batch.shapes[number]
                    insert(tables[target], columns, content)
                rows.note_position(reader.name, reader.position + batch.bytes)
                moved.append((reader, batch.bytes))
        return moved

    def _kept(self, name: str, reader: _Reader) -> _Batch | None:
        """The next rows of this process's own spool, where they need not be read back."""
        with self._lock:
            spool = self._spools[name]
            if spool.name != reader.name:
                return None
            batch = spool.take_kept(reader.position)
        if batch is not None:
            reader.skip(batch)
        return batch

    def _look(self) -> list[_Reader]:
        """Every spool of every process."""
        with self._looking:
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - with every batch, and paths are slow to make
            if changed != self._seen_changed:
                # Another file made within the same tick of the clock would leave the folder's time as it is.
                self._seen_changed = changed if abs(time.time_ns() - changed) > _TICK_NS else -1
                for name in os.listdir(self._folder):  # noqa: PTH208
                    if name.endswith(".spool") and name[0] != "." and name not in self._readers:
                        self._readers[name] = _Reader(self._folder / name)
            return [self._readers[name] for name in sorted(self._readers)]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _make(folder: Path) -> None:
    try:
        make_private_folder(folder)
    except OSError as error:
        raise StoreError(
            f"Folder {folder} cannot be made: {error.strerror};",
            advice="may this user write to the data folder, and is there room on its disk?",
        ) from error


@dataclass(slots=True)
class _Batch:
    """Rows of one spool, by the statement that inserts them, and the bytes they take in the spool."""

    rows: dict[int, GivenRows] = field(default_factory=dict)
    shapes: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    bytes: int = 0


class _Encoder:
    """Turns the values of one table into what its columns store, with the table's own processors."""

    def __init__(self, row: type[SQLModel], names: tuple[str, ...]) -> None:
        target = table(row)
        unknown = [name for name in names if name not in target.columns]
        if unknown:
            raise StoreConstraintError(
                f"Table {target.name} has no column {unknown[0]!r};", advice="see models/tables."
            )
        self.store = next(name for name, base in _STORES.items() if issubclass(row, base))
        self.target = target.name
        self.width = len(names)
        self.shape = to_json({"table": target.name, "columns": names})
        self.one, self.many = _compiled([target.columns[name] for name in names], sqlite_dialect())


_UNFIT = (TypeError, ValueError, AttributeError, KeyError)
"""What a value that does not fit its column raises."""

_TEXT_OF_MOMENT = (
    "'%04d-%02d-%02d %02d:%02d:%02d.%06d' % (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond)"
)

_QUICK: tuple[tuple[type[sa.types.TypeEngine[Any]], str], ...] = (
    (UtcDateTime, f"{_TEXT_OF_MOMENT} if type(v := {{}}) is datetime and v.tzinfo is UTC"),
    (sa.Boolean, "v if (v := {}) is True or v is False"),
    (sa.Text, "v if type(v := {}) is str or v is None"),
    (sa.Integer, "v if type(v := {}) is int or v is None"),
    (sa.Float, "v if type(v := {}) is float and -inf < v < inf"),
)
"""What nearly every value is goes without a call, to the same text and number."""


def _compiled(
    columns: Sequence[sa.Column[Any]], dialect: sa.Dialect
) -> tuple[
    Callable[[Mapping[str, Any]], tuple[Any, ...]],
    Callable[[Sequence[Mapping[str, Any]]], GivenValues],
]:
    """A function for one row and one for many, without inner loops and with few calls, since every row goes through."""
    known: dict[str, Any] = {"plain": _plain, "inf": math.inf, "UTC": UTC, "datetime": datetime}
    parts = []
    for place, column in enumerate(columns):
        value, processor = f"values[{column.name!r}]", column.type.dialect_impl(dialect).bind_processor(dialect)
        known[f"process_{place}"] = processor
        call = "plain(v)" if processor is None else f"plain(process_{place}(v))"
        quick = next((words for kind, words in _QUICK if isinstance(column.type, kind)), "None if (v := {}) is None")
        parts.append(f"({quick.format(value)} else {call})")
    one = f"({', '.join(parts)},)"
    source = f"(lambda values: {one}, lambda rows: [{one} for values in rows])"
    encoders: tuple[
        Callable[[Mapping[str, Any]], tuple[Any, ...]],
        Callable[[Sequence[Mapping[str, Any]]], GivenValues],
    ] = eval(source, known)  # noqa: S307 - of column names
    return encoders


def _plain(value: Any) -> Any:
    return from_json(to_json(value, inf_nan_mode="null"))


class _Spool:
    """The file this process appends rows of one store to. Its lock tells that this process lives."""

    def __init__(self, folder: Path, store: str, room_left: Callable[[], bool], *, power_safe: bool) -> None:
        self.name: str | None = None
        self._folder = folder
        self._room_left = room_left
        self._power_safe = power_safe
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
        elif (kept := self._kept.get(shape)) is not None:
            kept += rows
        else:
            self._kept[shape] = rows
        if self._power_safe:
            os.fdatasync(file)

    def take_kept(self, position: int) -> _Batch | None:
        """All rows from a place in the file on, if they are still in memory; they are not kept any longer."""
        batch = None
        if position == self._kept_from and self._size > position:
            batch = _Batch(bytes=self._size - position)
            for number, shape in enumerate(self._numbers):
                batch.shapes[number] = _shape(shape)
                if shape in self._kept:
                    batch.rows[number] = self._kept[shape]
        self._keep_from_here()
        return batch

    def close(self) -> None:
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
        _make(self._folder)
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
            if self._power_safe:
                _sync_folder(self._folder)
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


class _Reader:
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

    def catch_up(self, rows: Rows) -> None:
        """Take the position from the store: another process may have moved rows since."""
        self.position = rows.position(self.name)

    def take(self, limit: int) -> _Batch:
        """The next rows that are complete, some more than `limit` bytes of them."""
        batch = _Batch(shapes=self._shapes)
        # All of it is in the store, also where another process put it there: no need to read what.
        if self.left() <= 0:
            return batch
        try:
            file = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return batch
        try:
            # Another process moved rows: what statements they came with holds for the rest too.
            known = self._seen >= self.position or self._read_shapes(
                os.pread(file, self.position - self._seen, self._seen)
            )
            # After a power failure a spool may be shorter than what of it is in the store.
            data = os.pread(file, max(0, os.fstat(file).st_size - self.position), self.position)
        finally:
            os.close(file)
        if not known and data:
            # A power failure took what tells the statement of each row, but not what is in the store.
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

        Gives what is behind the last record that was taken: nothing, one that was never finished, or damage and
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
            rest = file.read()
            more = not self.damaged and next(_records(rest), None) is not None
            yield None if more else rest

    def take_behind_damage(self) -> tuple[_Batch, int]:
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
        return _Batch(rows=rows, shapes=self._shapes, bytes=len(data)), unreadable

    def skip(self, batch: _Batch) -> None:
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


_writers: weakref.WeakSet[BatchWriter] = weakref.WeakSet()


def _restart_writers() -> None:
    for writer in _writers:
        writer.restart_after_fork()


os.register_at_fork(after_in_child=_restart_writers)
