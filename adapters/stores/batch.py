"""Many small writes as few transactions, without losing one: the batch writer.

Each process appends its rows to a file of its own, the spool, in a folder that is named after the stores they are for;
there they survive its death. A row names what it means, never by an id that a store gave. The process that first
fills a batch moves the rows of all spools into the store, and notes in the same transaction how far it read each.
So no row is lost or doubled, wherever a process dies. Who moves rows next removes the spools of dead processes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from sqlmodel import SQLModel

from adapters.stores.batch_rows import BatchRows, GivenValues, RowRefusedError, rows_of
from adapters.stores.encoders import UNFIT_ERRORS, RowEncoder
from adapters.stores.gate import Gate
from adapters.stores.migrate import STORES
from adapters.stores.repositories.health import probe_row
from adapters.stores.repositories.metrics import to_ms
from adapters.stores.spools import DAMAGED, Spool, SpoolBatch, SpoolFolder, SpoolReader, sync_folder
from adapters.stores.sql import tables_of
from models.failures import StoreBusyError, StoreConstraintError, StoreError
from models.health import ProbeResult
from models.metrics import Metric
from models.tables.monitoring import MetricSample, ProbeRow

if TYPE_CHECKING:
    from adapters.stores.stores import Stores

log = logging.getLogger("roas")
_BYTES_AT_ONCE = 512 * 1024
_FIRST_PAUSE_SECONDS = 0.5


class BatchWriter:
    """Takes rows of any of the stores' tables and writes them in batches.

    A batch goes in when this process has put `batch_size` rows, and every `flush_seconds`. `spool_bytes`
    bounds what may wait: beyond it `put` refuses. A row survives the death of the process, but not always a power
    failure.
    """

    _lock: threading.Lock
    _waiting: int
    _spools: dict[str, Spool]
    _timer: threading.Thread

    def __init__(
        self,
        stores: Stores,
        *,
        batch_size: int = 100,
        flush_seconds: float = 30.0,
        spool_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """Take over what dead processes left, and start the timer.

        Raises:
            StoreError: The folder of the spools cannot be made.
        """
        self._stores = stores
        self._batch_size = batch_size
        self._flush_seconds = flush_seconds
        self._spool_bytes = spool_bytes
        self._folder = SpoolFolder(stores.spool_folder)
        # Where processes of earlier versions leave rows, without saying for which stores.
        self._before = SpoolFolder(self._folder.path.parent)
        self._leader = Gate(self._before.path / "leader.lock")
        self._encoders: dict[tuple[type[SQLModel], tuple[str, ...]], RowEncoder] = {}
        self._latest: dict[type[SQLModel], RowEncoder] = {}
        self.trouble: str | None = None
        """Why rows could not go into the stores last time."""
        self._pause_seconds = 0.0
        self._not_before = 0.0
        self._stop = threading.Event()
        self._start_in_this_process()
        _writers.add(self)
        for folder in sorted({spool.parent for spool in self._before.path.glob("*/*.spool")} - {self._folder.path}):
            log.info("rows in %s wait for other stores: they go in when those are used again", folder)

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
        except UNFIT_ERRORS:
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
            encoder = self._encoders[shape] = RowEncoder(*shape)
        self._latest[row] = encoder
        try:
            encoded = encoder.many(rows)
            payload = to_json(encoded)
        except UNFIT_ERRORS as error:
            raise StoreConstraintError(
                f"A row for {encoder.target} cannot be stored: {error};",
                advice="give each value the type its column has.",
            ) from error
        self._add(encoder, payload, encoded)

    def put_metrics(self, metrics: Sequence[Metric]) -> None:
        """Accept samples; the store refuses new metrics beyond the limit of an environment.

        Raises:
            StoreFullError: Too much waits already, or the disk has no room; no sample was accepted.
        """
        rows = [
            {
                "ts": to_ms(metric.sampled_at),
                "environment": metric.environment,
                "service": metric.service,
                "metric": metric.name,
                "value": metric.value,
            }
            for metric in metrics
        ]
        self.put_many(MetricSample, rows)

    def put_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Accept what probes answered, as `put_many`.

        Raises:
            StoreFullError: Too much waits already, or the disk has no room; no answer was accepted.
        """
        self.put_many(ProbeRow, [probe_row(probe, environment) for probe in probes])

    def _add(self, encoder: RowEncoder, payload: bytes, rows: GivenValues) -> None:
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def restart_after_fork(self) -> None:
        """In a forked child: begin own spools, since the parent keeps its own."""
        self._folder.restart_after_fork()
        self._before.restart_after_fork()
        self._start_in_this_process()

    def _start_in_this_process(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self._spools = {name: Spool(self._folder.path, name, self._room_left) for name in STORES}
        self._timer = threading.Thread(target=self._flush_now_and_then, name="batch-writer", daemon=True)
        self._timer.start()

    def _room_left(self) -> bool:
        return self._folder.waiting_bytes() + self._before.waiting_bytes() < self._spool_bytes

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
            if self.trouble is None:
                log.error("batch writer: rows wait in %s: %s", self._folder.path, error)
            self.trouble = str(error)
            self._pause_seconds = min(max(_FIRST_PAUSE_SECONDS, self._pause_seconds * 2), self._flush_seconds)
            self._not_before = time.monotonic() + self._pause_seconds

    def _keep_spools(self) -> None:
        with self._lock:
            for spool in self._spools.values():
                spool.keep()

    def _move_all(self) -> None:
        by_store: dict[str, list[SpoolReader]] = {}
        for reader in [*self._before.readers(), *self._folder.readers()]:
            by_store.setdefault(reader.store, []).append(reader)
        for name, readers in by_store.items():
            while self._move_some(name, readers):
                pass
            for reader in readers:
                self._put_away(name, reader)
        if self.trouble is not None:
            log.info("batch writer: what waited is written")
        self.trouble = None
        self._pause_seconds = self._not_before = 0.0

    def _put_away(self, name: str, reader: SpoolReader) -> None:
        """Remove a spool that is in the store and has no owner any more; keep what of it is damaged."""
        with self._lock:
            spool = self._spools[name]
            if reader.name == spool.name:
                if not reader.damaged:
                    return
                # The next row begins a new file, and this one loses its owner.
                spool.close()
        with reader.abandoned() as tail:
            if tail is None:
                return
            if reader.damaged:
                self._salvage(name, reader)
            elif tail:
                log.info("spool %s ends in %d bytes that were never accepted", reader.name, len(tail))
            # Rows first, then the file they came from, then how far it was read: after a power failure
            # none of them may be gone before the one in front of it is safe.
            self._stores.databases[name].sync()
            reader.file.unlink(missing_ok=True)
            sync_folder(reader.file.parent)
        for folder in (self._folder, self._before):
            folder.forget(reader.name)
        with rows_of(self._stores.databases[name]) as rows:
            rows.forget_position(reader.name)

    def _salvage(self, name: str, reader: SpoolReader) -> None:
        """Write what can still be read behind the damage, and keep the file for a person."""
        aside = reader.file.with_name(reader.name + DAMAGED)
        aside.unlink(missing_ok=True)
        aside.hardlink_to(reader.file)
        with rows_of(self._stores.databases[name]) as rows:
            reader.catch_up(rows)
            batch, missing = reader.take_behind_damage()
            self._insert(rows, rows.insert_by_halves, reader, batch)
            rows.note_position(reader.name, reader.position + batch.bytes)
        reader.position += batch.bytes
        log.error("spool %s was damaged, %d bytes cannot be read; it is kept as %s", reader.name, missing, aside)

    def _move_some(self, name: str, readers: Sequence[SpoolReader]) -> bool:
        """One transaction; whether more may wait."""
        try:
            moved = self._moved(name, readers, by_halves=False)
        except RowRefusedError:
            moved = self._moved(name, readers, by_halves=True)
        for reader, size in moved:
            reader.position += size
        return any(reader.left() for reader, _ in moved)

    def _moved(self, name: str, readers: Sequence[SpoolReader], *, by_halves: bool) -> list[tuple[SpoolReader, int]]:
        """How many bytes of each spool are in the store after one transaction, beyond its position."""
        moved = []
        with rows_of(self._stores.databases[name]) as rows:
            insert = rows.insert_by_halves if by_halves else rows.insert
            for reader in readers:
                reader.catch_up(rows)
                batch = self._kept(name, reader) or reader.take(_BYTES_AT_ONCE)
                if not batch.bytes:
                    continue
                self._insert(rows, insert, reader, batch)
                rows.note_position(reader.name, reader.position + batch.bytes)
                moved.append((reader, batch.bytes))
        return moved

    def _insert(self, rows: BatchRows, insert: Callable[..., None], reader: SpoolReader, batch: SpoolBatch) -> None:
        tables = tables_of(reader.store)
        # An earlier version named a sample's series by the id of a store, and the host had two: which one is unknown.
        unknown = reader.file.parent == self._before.path and self._stores.have_files_beside
        for number, content in batch.rows.items():
            target, columns = batch.shapes[number]
            if unknown and "series" in columns:
                rows.refuse(tables[target], columns, content, "it is not known which store its series is in")
            else:
                insert(tables[target], columns, content)

    def _kept(self, name: str, reader: SpoolReader) -> SpoolBatch | None:
        """The next rows of this process's own spool, where they need not be read back."""
        with self._lock:
            spool = self._spools[name]
            if spool.name != reader.name:
                return None
            batch = spool.take_kept(reader.position)
        if batch is not None:
            reader.skip(batch)
        return batch


_writers: weakref.WeakSet[BatchWriter] = weakref.WeakSet()


def _restart_writers() -> None:
    for writer in _writers:
        writer.restart_after_fork()


os.register_at_fork(after_in_child=_restart_writers)
