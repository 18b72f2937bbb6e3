"""The batch writer: many small rows as few transactions, without losing one.

A row that is accepted lies in the journal of its process, in a folder that is named after the stores it is for, and
names what it means, never by an id that a store gave. A batch goes into the store in one transaction; its journal goes
with a flush, or once it is long, since the stores are synced before. A row that is there already is left as it is, so
none is lost or doubled, wherever a process dies: the next that writes takes over its journal.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from pydantic import TypeAdapter

from adapters.stores.old_spools import drain_spools
from adapters.stores.recovery_writes import from_line, to_line
from adapters.stores.repositories.health import ProbeCells, probe_cells
from adapters.stores.row_writes import KeepRows
from adapters.stores.stores import DAMAGED, Stores
from adapters.stores.write_behind import Journal, replay_left, waiting_bytes
from adapters.stores.writes import Names
from models.failures import StoreBusyError, StoreConstraintError, StoreError, StoreFullError
from models.health import ProbeResult
from models.metrics import Metric

log = logging.getLogger("roas")
_FIRST_PAUSE_SECONDS = 0.5
_to_answers = TypeAdapter(tuple[ProbeCells, ...]).validator.validate_python
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
        if not metrics:
            return
        try:
            if any(metric.sampled_at.tzinfo is None for metric in metrics):
                raise ValueError("a moment has no time zone")
            line = to_line(KeepRows(samples=tuple(metrics)))
            # What is read back where this process dies is what it writes where it lives.
            rows = cast("KeepRows", from_line(line))
        except ValueError as error:
            raise _constraint_error(error) from error
        self._put(rows, line)

    def put_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Accept what probes answered, as `put_metrics`.

        Raises:
            StoreConstraintError: A value cannot be stored.
            StoreFullError: Too much waits already, or the disk has no room; no answer was accepted.
        """
        if not probes:
            return
        try:
            # As they are read back, too: text, numbers and truths are the same in a line.
            rows = KeepRows(answers=_to_answers([probe_cells(probe, environment) for probe in probes]))
            line = to_line(rows)
        except ValueError as error:
            raise _constraint_error(error) from error
        self._put(rows, line)

    def _put(self, rows: KeepRows, line: bytes) -> None:
        with self._lock:
            self._append(line)
            self._waiting.append(rows)
            self._count += len(rows)
            is_full = self._count >= self._batch_size
        if is_full:
            self._flush_if_free(whole=self.trouble is not None)

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

    def _flush_if_free(self, *, whole: bool = True) -> None:
        """Flush unless another thread does, or the last trouble is too fresh. Trouble is kept and logged.

        Without `whole`, only what this process has put goes into the store.
        """
        if time.monotonic() < self._not_before or not self._flushing.acquire(blocking=False):
            return
        try:
            if whole:
                self._write_all()
            else:
                self._write_own(_TURN_BYTES // 4)
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
        self._write_own(0)
        drain_spools(self._stores)
        damaged = f"monitoring-{datetime.now(UTC):%Y%m%dT%H%M%S}{DAMAGED}"
        replay_left(self._stores, self._folder, refused=damaged, held_too=True)
        if self.trouble is not None:
            log.info("batch writer: what waited is written")
        self.trouble = None
        self._pause_seconds = self._not_before = 0.0

    def _write_own(self, most_bytes: int) -> None:
        """Write the rows in memory, and remove their journal where it has more bytes than these."""
        waiting, count = self._waiting, len(self._waiting)
        if count:
            batch = KeepRows.join(waiting[:count])
            batch.apply(self._stores, Names())
        with self._lock:
            # What came meanwhile keeps the journal, and a long one was left to be read back.
            if count and self._waiting is waiting:
                del waiting[:count]
                self._count -= len(batch)
            if not self._waiting and self._journal.size > most_bytes:
                self._journal.clear(self._stores)


def _constraint_error(error: ValueError) -> StoreConstraintError:
    return StoreConstraintError(f"A row cannot be stored: {error};", advice="give each value the type its column has.")


_writers: weakref.WeakSet[BatchWriter] = weakref.WeakSet()


def _restart_writers() -> None:
    for writer in _writers:
        writer.restart_after_fork()


os.register_at_fork(after_in_child=_restart_writers)
