"""The batch writer: many small rows as few transactions, without losing one.

A row that is accepted lies in the journal of its process, in a folder that is named after the stores it is for, and
names what it means, never by an id that a store gave. A batch goes into the store in one transaction, and then its
journal goes. A row that is there already is left as it is, so none is lost or doubled, wherever a process dies: the
next that writes takes over its journal.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from adapters.stores.old_spools import drain_spools
from adapters.stores.recovery_writes import from_line, to_line
from adapters.stores.row_writes import KeepRows
from adapters.stores.stores import DAMAGED, Stores
from adapters.stores.write_behind import Journal, replay_left, waiting_bytes
from adapters.stores.writes import Names
from models.failures import StoreBusyError, StoreConstraintError, StoreError, StoreFullError
from models.health import ProbeResult
from models.metrics import Metric

log = logging.getLogger("roas")
_FIRST_PAUSE_SECONDS = 0.5
_TURN_BYTES = 1024 * 1024
"""Of a larger journal the rows are in memory no longer: they are read back once the store takes them."""


class BatchWriter:
    """Takes rows of the monitoring store and writes them in batches.

    A batch goes in when this process has put `batch_size` rows, and every `flush_seconds`. `limit_bytes`
    bounds what may wait: beyond it nothing is accepted. A row survives the death of the process, but not always a
    power failure.
    """

    _lock: threading.Lock
    _flushing: threading.Lock
    _journal: Journal
    _waiting: list[KeepRows]
    _count: int
    _timer: threading.Thread

    def __init__(
        self,
        stores: Stores,
        *,
        batch_size: int = 100,
        flush_seconds: float = 30.0,
        limit_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """Start the timer."""
        self._stores = stores
        self._batch_size = batch_size
        self._flush_seconds = flush_seconds
        self._limit_bytes = limit_bytes
        self._folder = stores.rows_folder
        self.trouble: str | None = None
        """Why rows could not go into the stores last time."""
        self._pause_seconds = 0.0
        self._not_before = 0.0
        self._stop = threading.Event()
        self._start_in_this_process()
        _writers.add(self)

    def put_metrics(self, metrics: Sequence[Metric]) -> None:
        """Accept samples, all or none; the store refuses new metrics beyond the limit of an environment.

        Once this returns, they survive the death of this process.

        Raises:
            StoreConstraintError: A value cannot be stored.
            StoreFullError: Too much waits already, or the disk has no room; no sample was accepted.
        """
        self._put(KeepRows(samples=tuple(metrics)), (metric.sampled_at for metric in metrics))

    def put_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Accept what probes answered, as `put_metrics`.

        Raises:
            StoreConstraintError: A value cannot be stored.
            StoreFullError: Too much waits already, or the disk has no room; no answer was accepted.
        """
        answers = tuple((environment, replace(probe, readings=())) for probe in probes)
        self._put(KeepRows(answers=answers), (probe.checked_at for probe in probes))

    def _put(self, rows: KeepRows, moments: Iterable[datetime]) -> None:
        if not len(rows):
            return
        try:
            if any(moment.tzinfo is None for moment in moments):
                raise ValueError("a moment has no time zone")
            line = to_line(rows)
            # What is read back where this process dies is what it writes where it lives.
            rows = cast("KeepRows", from_line(line))
        except ValueError as error:
            raise StoreConstraintError(
                f"A row cannot be stored: {error};", advice="give each value the type its column has."
            ) from error
        with self._lock:
            self._append(line)
            self._waiting.append(rows)
            self._count += len(rows)
            is_full = self._count >= self._batch_size
        if is_full:
            self._flush_if_free()

    def _append(self, line: bytes) -> None:
        is_long = self._journal.size > _TURN_BYTES
        try:
            if (is_long or not self._journal.size) and waiting_bytes(self._folder) >= self._limit_bytes:
                raise StoreFullError(
                    f"Too much waits in {self._folder} to be written;",
                    advice="the log says why the batch writer cannot write; free room or mend the store.",
                )
            if is_long:
                self._journal.close()
                self._waiting, self._count = [], 0
            if not self._journal.append(line, sync=False):
                raise OSError(errno.EFBIG, "it is too much at once")
        except OSError as error:
            raise StoreFullError(
                f"A row was not accepted, journal in {self._folder}: {error.strerror or error};",
                advice="may this user write to the data folder, and is there room on its disk?",
            ) from error

    def flush(self) -> None:
        """Move every row that waits, of this and other processes, into the stores.

        Raises:
            StoreBusyError: Others were writing until the deadline.
            StoreFullError: The disk has no room; the rows wait.
            StoreError: A store failed; the rows wait.
        """
        with self._flushing:
            self._write_all()

    def close(self) -> None:
        """Write what waits, and stop.

        Raises:
            StoreError: It could not be written now; it waits in the journal for the next process.
        """
        self._stop.set()
        self._timer.join()
        try:
            self.flush()
        finally:
            with self._lock:
                self._journal.close()

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restart_after_fork(self) -> None:
        """In a forked child: begin an own journal, since the parent keeps its own."""
        self._journal.close()
        self._start_in_this_process()

    def _start_in_this_process(self) -> None:
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._journal, self._waiting, self._count = Journal(self._folder), [], 0
        self._timer = threading.Thread(target=self._flush_now_and_then, name="batch-writer", daemon=True)
        self._timer.start()

    def _flush_now_and_then(self) -> None:
        while not self._stop.wait(self._pause_seconds or self._flush_seconds):
            self._flush_if_free()

    def _flush_if_free(self) -> None:
        """Flush unless another thread does, or the last trouble is too fresh. Trouble is kept and logged."""
        if time.monotonic() < self._not_before or not self._flushing.acquire(blocking=False):
            return
        try:
            self._write_all()
        except StoreBusyError as error:
            log.debug("batch writer: %s", error)
        except StoreError as error:
            if self.trouble is None:
                log.error("batch writer: rows wait in %s: %s", self._folder, error)
            self.trouble = str(error)
            self._pause_seconds = min(max(_FIRST_PAUSE_SECONDS, self._pause_seconds * 2), self._flush_seconds)
            self._not_before = time.monotonic() + self._pause_seconds
        finally:
            self._flushing.release()

    def _write_all(self) -> None:
        self._write_own()
        drain_spools(self._stores)
        damaged = f"monitoring-{datetime.now(UTC):%Y%m%dT%H%M%S}{DAMAGED}"
        replay_left(self._stores, self._folder, refused=damaged, held_too=True)
        if self.trouble is not None:
            log.info("batch writer: what waited is written")
        self.trouble = None
        self._pause_seconds = self._not_before = 0.0

    def _write_own(self) -> None:
        waiting, count = self._waiting, len(self._waiting)
        if not count:
            return
        samples = tuple(sample for rows in waiting[:count] for sample in rows.samples)
        answers = tuple(answer for rows in waiting[:count] for answer in rows.answers)
        batch = KeepRows(samples=samples, answers=answers)
        batch.apply(self._stores, Names())
        with self._lock:
            # What came meanwhile keeps the journal, and a long one was left to be read back.
            if self._waiting is waiting:
                del waiting[:count]
                self._count -= len(batch)
                if not waiting:
                    self._journal.clear(self._stores)


_writers: weakref.WeakSet[BatchWriter] = weakref.WeakSet()


def _restart_writers() -> None:
    for writer in _writers:
        writer.restart_after_fork()


os.register_at_fork(after_in_child=_restart_writers)
