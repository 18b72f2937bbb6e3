"""Archives: rows of a store into Parquet files, read back and compared before anybody deletes a row.

The work is done by a process of its own, so its memory ends with it. It reads jobs as lines of JSON and answers each
with a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.failures import StoreError, StoreFullError

_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A finished archive file; `size` in bytes."""

    file: Path
    rows: int
    size: int
    sha256: str


class Archiver:
    """Writes archive files, in a process that is started with the first one."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[str] | None = None

    def write(
        self,
        store: str,
        query: str,
        file: Path,
        *,
        kinds: Mapping[str, str],
        names: Mapping[int, tuple[str, str, str]] | None = None,
    ) -> Archived:
        """Write the rows of a query to a Parquet file; an older file of this name is replaced.

        `store` is a database's `archive_source`.
        `kinds` gives each column's type in the file: text, whole, real, truth, bytes or moment. With `names`
        the query gives ts, series and value of samples, and the file has the names of each series too.

        Raises:
            StoreFullError: The disk has no room for the file.
            StoreError: The file could not be written, or does not hold the rows that were read.
        """
        job = {
            "store": store,
            "query": query,
            "file": str(file.absolute()),
            "kinds": dict(kinds),
            "names": None if names is None else [[key, *value] for key, value in names.items()],
        }
        process = self._process = self._process or _start()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the archiver was started without pipes")
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = process.wait()
            self._process = None
            raise StoreError(
                f"The process that writes archives ended with {code} before {file} was done;",
                advice="nothing was deleted; try again.",
            )
        result = json.loads(answer)
        if "error" in result:
            kind = StoreFullError if result["full"] else StoreError
            raise kind(f"Archive {file} was not written: {result['error']};", advice="nothing was deleted.")
        return Archived(file=file, rows=result["rows"], size=result["size"], sha256=result["sha256"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Archiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def archived_samples(file: Path) -> Iterator[tuple[int, tuple[str, str, str], float]]:
    """The samples of an archive: milliseconds since 1970; environment, service and metric; value.

    Raises:
        StoreError: The file cannot be read.
    """
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"Archive {file} cannot be read: {error};", advice="restore it from a backup; its samples are still there."
        ) from error
    moments = rows["ts"].cast("int64").to_pylist()
    words = [rows[name].to_pylist() for name in ("environment", "service", "metric")]
    for ts, environment, service, metric, value in zip(moments, *words, rows["value"].to_pylist(), strict=True):
        yield ts, (environment, service, metric), value


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "adapters.stores.archiver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def _serve() -> None:
    import pyarrow as pa

    os.umask(0o077)
    # The system's own allocator gives back what one file took before the next is read.
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    for line in sys.stdin:
        try:
            answer = _archive(json.loads(line))
        except OSError as error:
            answer = {"error": str(error), "full": "No space left" in str(error)}
        except Exception as error:  # noqa: BLE001 - the answer goes to the process that asked, which raises it
            answer = {"error": f"{type(error).__name__}: {error}", "full": False}
        print(json.dumps(answer), flush=True)


def _archive(job: dict[str, Any]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    rows = _name_series(_read(job["store"], job["query"], job["kinds"]), job["names"])
    file = Path(job["file"])
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    pq.write_table(
        rows,
        part,
        compression="zstd",
        compression_level=3,
        use_dictionary=[name for name in rows.column_names if name not in ("ts", "id")],
        column_encoding={"ts": "DELTA_BINARY_PACKED"} if "ts" in rows.column_names else None,
    )
    if not _same(pq.read_table(part), rows):
        raise ValueError("what was read back differs from what was written")
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    part.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return {"rows": rows.num_rows, "size": file.stat().st_size, "sha256": digest}


def _read(store: str, query: str, kinds: dict[str, str]) -> Any:
    if store.startswith("postgresql "):
        return _read_postgresql(store.split(" ", 1)[1], query, kinds)
    # SQLite holds truths as numbers and moments as words.
    stored = {name: {"truth": "whole", "moment": "text"}.get(kind, kind) for name, kind in kinds.items()}
    with closing(sqlite3.connect(f"{Path(store).as_uri()}?mode=ro", uri=True)) as connection:
        return _to_type(_table(connection.execute(query), stored), kinds)


def _read_postgresql(source: str, query: str, kinds: dict[str, str]) -> Any:
    import sqlalchemy as sa

    from adapters.stores.postgresql import connect

    options = json.loads(source)
    file = None if options["password_file"] is None else Path(options["password_file"])
    with connect(sa.make_url(options["url"]), file, 0.0) as connection:
        connection.execute(f"SET search_path TO {options['schema']}")
        return _table(connection.execute(query.encode(), binary=True), kinds)


def _table(cursor: Any, kinds: dict[str, str]) -> Any:
    import pyarrow as pa

    types = _types()
    columns = [(column[0], types[kinds[column[0]]]) for column in cursor.description]
    parts: list[list[Any]] = [[] for _ in columns]
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        for part, values, (_, kind) in zip(parts, zip(*rows, strict=True), columns, strict=True):
            part.append(pa.array(values, kind))
    return pa.table({name: pa.chunked_array(part, kind) for part, (name, kind) in zip(parts, columns, strict=True)})


def _same(back: Any, rows: Any) -> bool:
    """Whether two tables hold the same; words are compared by their numbers, since there are few of them."""
    import pyarrow as pa

    if back.column_names != rows.column_names or back.num_rows != rows.num_rows:
        return False
    if rows.num_rows == 0:
        return True
    for name in rows.column_names:
        column, other = back[name].combine_chunks(), rows[name].combine_chunks()
        if pa.types.is_dictionary(other.type):
            numbers = pa.compute.index_in(column.dictionary, value_set=other.dictionary)
            column, other = numbers.take(column.indices), other.indices
        if not column.equals(other):
            return False
    return True


def _name_series(rows: Any, names: list[list[Any]] | None) -> Any:
    if names is None:
        return rows
    import pyarrow as pa

    rows = rows.sort_by([("series", "ascending"), ("ts", "ascending")]).combine_chunks()
    series = pa.compute.index_in(rows["series"], pa.array([row[0] for row in names], pa.int64()))
    named = {"ts": rows["ts"].cast(pa.timestamp("ms", "UTC"))}
    for place, column in enumerate(("environment", "service", "metric"), start=1):
        words = list(dict.fromkeys(row[place] for row in names))
        numbers = {word: number for number, word in enumerate(words)}
        of_series = pa.array([numbers[row[place]] for row in names], pa.int32())
        codes = of_series.take(series).combine_chunks()
        named[column] = pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string()))
    return pa.table(named | {"value": rows["value"]})


def _to_type(rows: Any, kinds: dict[str, str]) -> Any:
    import pyarrow as pa

    types, columns = _types(), {}
    for name in rows.column_names:
        # Words without a zone are of UTC, and no zone can be read from them.
        column = rows[name].cast(pa.timestamp("us")) if kinds[name] == "moment" else rows[name]
        columns[name] = column.cast(types[kinds[name]])
    return pa.table(columns)


def _types() -> dict[str, Any]:
    """The type of each kind of column in a file."""
    import pyarrow as pa

    return {
        "text": pa.string(),
        "whole": pa.int64(),
        "real": pa.float64(),
        "truth": pa.bool_(),
        "bytes": pa.binary(),
        "moment": pa.timestamp("us", "UTC"),
    }


if __name__ == "__main__":
    _serve()
