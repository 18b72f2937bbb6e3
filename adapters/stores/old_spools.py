"""Spools: files that the batch writer of versions up to 0.2 left rows in. They are written once, then removed.

A spool is a list of records, each with its length, checksum and kind: a statement (table and columns), which gets the
next number, or rows with the number of theirs. How much of a spool is in the store stands in `spool_positions`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from pydantic_core import from_json

from adapters.stores.gate import Gate
from adapters.stores.repositories.health import ProbeCells, probe_cells
from adapters.stores.repositories.metrics import from_ms
from adapters.stores.row_writes import KeepRows
from adapters.stores.series import bury
from adapters.stores.sql import tables_of, upsert
from adapters.stores.stores import DAMAGED, Stores
from adapters.stores.writes import Names
from models.health import ProbeResult
from models.metrics import Metric
from models.tables.monitoring import MetricSample

log = logging.getLogger("roas")

_HEAD = struct.Struct("<IIB")
_STATEMENT, _ROWS = 0, 1
_PROBE: TypeAdapter[ProbeResult] = TypeAdapter(ProbeResult)
_METRIC: TypeAdapter[Metric] = TypeAdapter(Metric)

_Row = tuple[str, dict[str, Any]]
"""Table, and values by column."""


def drain_spools(stores: Stores) -> None:
    """Write what is left in spools for these stores, and remove them; one that is damaged is kept.

    Raises:
        StoreError: A store did not take it; it stays in its spool.
    """
    folder = stores.folder / "spool"
    if not folder.exists():
        return
    ours = folder / stores.rows_folder.name
    paths = [path for place in (folder, ours) for path in sorted(place.glob("monitoring-*.spool"))]
    try:
        if paths:
            # Processes of those versions move rows with this lock held.
            with Gate(folder / "leader.lock").hold(30.0, "The batch writer"):
                for path in paths:
                    _drain(stores, path, names_series=path.parent == ours)
        _remove_if_empty(folder, ours)
    except OSError as error:
        log.warning("spools in %s cannot be read: %s", folder, error)


def _drain(stores: Stores, path: Path, *, names_series: bool) -> None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if path.exists():
            log.warning("%s is no spool of this user, and is left alone: %s", path, error.strerror)
        return
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _move(stores, path, os.pread(file, os.fstat(file).st_size, 0), names_series=names_series)
    except BlockingIOError:
        log.debug("the process that writes spool %s lives", path.name)
    finally:
        os.close(file)


def _move(stores: Stores, path: Path, data: bytes, *, names_series: bool) -> None:
    """Write the rows of a spool whose process is gone, and let it go."""
    database, positions = stores.databases["monitoring"], tables_of("monitoring")["spool_positions"]
    of_this = positions.c.spool == path.name
    with database.read() as connection:
        position = connection.scalar(sa.select(positions.c.position).where(of_this)) or 0
    rows, unreadable = _read(data, position)
    if not names_series:
        rows = _write_by_id(stores, rows)
    _write(stores, rows)
    database.sync()
    if unreadable:
        damaged = path.rename(path.with_name(path.name + DAMAGED))
        log.error("spool %s was damaged, %d bytes cannot be read; it is kept as %s", path.name, unreadable, damaged)
    else:
        path.unlink()
    with database.write() as connection:
        connection.execute(sa.delete(positions).where(of_this))


def _read(data: bytes, position: int) -> tuple[list[_Row], int]:
    """The rows from a position on that can be read, and how many bytes cannot."""
    statements: list[tuple[str, list[str]]] = []
    rows: list[_Row] = []
    at = end = unreadable = 0
    while at < len(data):
        record = _record(data, at)
        if record is None:
            at, unreadable = at + 1, unreadable + 1
            continue
        kind, body = record
        number = int.from_bytes(body[:2], "little")
        # A statement behind damage may have lost its number to one that is gone.
        if kind == _STATEMENT and not unreadable:
            statement = from_json(body)
            statements.append((statement["table"], statement["columns"]))
        elif kind == _STATEMENT or number >= len(statements):
            unreadable += len(body)
        elif at >= position:
            table, columns = statements[number]
            rows += [(table, dict(zip(columns, values, strict=False))) for values in from_json(body[2:])]
        at = end = at + _HEAD.size + len(body)
    if unreadable == len(data) - end and _is_cut_off(data[end:]):
        unreadable = 0
    return rows, unreadable


def _record(data: bytes, at: int) -> tuple[int, bytes] | None:
    if len(data) - at <= _HEAD.size:
        return None
    size, checksum, kind = _HEAD.unpack_from(data, at)
    begin = at + _HEAD.size
    if kind not in (_STATEMENT, _ROWS) or not 0 < size <= len(data) - begin:
        return None
    body = data[begin : begin + size]
    return (kind, body) if zlib.crc32(body) == checksum else None


def _is_cut_off(tail: bytes) -> bool:
    """Whether a record was never finished, and so never accepted."""
    return len(tail) < _HEAD.size or _HEAD.unpack_from(tail)[0] > len(tail) - _HEAD.size


def _write_by_id(stores: Stores, rows: Sequence[_Row]) -> list[_Row]:
    """Write the samples that name their series by the id of a store; the other rows."""
    by_id = [values for _, values in rows if "series" in values]
    with stores.databases["monitoring"].write() as connection:
        # A host that has two stores does not know which one the id is of.
        if stores.have_files_beside:
            for values in by_id:
                _refuse(connection, "metric_samples", values, "it is not known which store its series is in")
        else:
            upsert(connection, MetricSample, by_id, keys=["ts", "series"])
    return [(table, values) for table, values in rows if "series" not in values]


def _write(stores: Stores, rows: Sequence[_Row]) -> None:
    samples: list[Metric] = []
    answers: list[ProbeCells] = []
    for table, values in rows:
        try:
            if table == "metric_samples":
                samples.append(_to_metric(values))
            else:
                answers.append(probe_cells(_to_probe(values), values["environment"]))
        except (ValueError, TypeError, KeyError) as error:
            with stores.databases["monitoring"].write() as connection:
                _refuse(connection, table, values, str(error))
    if samples or answers:
        KeepRows(samples=tuple(samples), answers=tuple(answers)).apply(stores, Names())


def _to_metric(values: dict[str, Any]) -> Metric:
    at = from_ms(values["ts"])
    return _METRIC.validate_python(values | {"name": values["metric"], "sampled_at": at})


def _to_probe(values: dict[str, Any]) -> ProbeResult:
    at = datetime.fromisoformat(values["checked_at"]).replace(tzinfo=UTC)
    return _PROBE.validate_python(values | {"checked_at": at})


def _refuse(connection: sa.Connection, table: str, values: dict[str, Any], reason: str) -> None:
    log.error("batch writer: a row for %s was refused and is kept in dead_letters: %s", table, reason)
    bury(connection, table, reason, values)


def _remove_if_empty(folder: Path, ours: Path) -> None:
    """Remove the folder once no spool is in it, for these or other stores."""
    if any(folder.rglob("*.spool")):
        return
    with suppress(OSError):
        # Only what no one else put there goes.
        if ours.exists():
            ours.rmdir()
        if {path.name for path in folder.iterdir()} <= {"leader.lock"}:
            (folder / "leader.lock").unlink(missing_ok=True)
            folder.rmdir()
