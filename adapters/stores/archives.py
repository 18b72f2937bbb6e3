"""List and read archives, and put one back into its store."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.host.processes import this_user
from adapters.stores.audit import audit_put_back, file_digest
from adapters.stores.migrate import STORES
from adapters.stores.repositories.metrics import to_ms
from adapters.stores.series import series_ids
from adapters.stores.sql import insert_unless_there, metadata_of, table, tables_of, upsert
from adapters.stores.stores import Stores
from models.failures import BadInputError, NotFoundError, StoreCorruptError
from models.storage import ArchiveFile
from models.tables.columns import JsonText
from models.tables.monitoring import MetricSample


def archives(stores: Stores, store: str | None = None) -> list[ArchiveFile]:
    """Every archive file by the time it was made, oldest first.

    Raises:
        StoreError: A store cannot be read.
    """
    files = []
    for name in [store] if store else STORES:
        with stores.databases[name].read() as connection:
            rows = connection.execute(sa.select(tables_of(name)["archives"])).all()
        for row in rows:
            path = Path("archive") / row.file
            dated = row.source == table(MetricSample).name
            files.append(
                ArchiveFile(
                    store=name,
                    table=row.source,
                    path=path,
                    rows=row.rows,
                    size=row.bytes,
                    sha256=row.sha256,
                    archived_at=row.archived_at,
                    first=datetime.fromisoformat(row.first) if dated else None,
                    last=datetime.fromisoformat(row.last) if dated else None,
                    there=(stores.folder / path).exists(),
                )
            )
    return sorted(files, key=lambda file: (file.archived_at, file.path))


def archived_rows(
    stores: Stores, archive: ArchiveFile, *, conditions: Sequence[str] = (), columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of one archive that meet all conditions, by the names of their columns.

    A condition is a column, one of = != < <= > >= ~ and a value, such as `status=failed`; ~ finds the value
    anywhere in a text.

    Raises:
        BadInputError: A condition cannot be read, or names a column that the archive has not.
        NotFoundError: The file is not there.
        StoreCorruptError: The file was changed after it was written.
    """
    import pyarrow.dataset as ds

    file = _verify(stores, archive)
    dataset = ds.dataset(file, format="parquet")
    for name in columns or ():
        _column(dataset.schema, name, archive)
    expressions = [_condition(dataset.schema, condition, archive) for condition in conditions]
    meeting = reduce(operator.and_, expressions) if expressions else None
    for batch in dataset.to_batches(filter=meeting, columns=list(columns) if columns else None):
        yield from batch.to_pylist()


def owners_first(files: Sequence[ArchiveFile]) -> list[ArchiveFile]:
    """Archives in an order in which they can be put back: what others refer to comes first."""
    places = {target.name: place for store in STORES for place, target in enumerate(metadata_of(store).sorted_tables)}
    return sorted(files, key=lambda file: (file.store, places.get(file.table, 0), file.path))


def restore_archive(stores: Stores, archive: ArchiveFile) -> int:
    """Put the rows of an archive back into their store; tell how many were not there.

    Repeating it changes nothing.

    Raises:
        NotFoundError: The file is not there.
        StoreCorruptError: The file was changed after it was written.
        StoreConstraintError: A row refers to one that is not there: restore the archive with its owner first.
    """
    target = tables_of(archive.store).get(archive.table)
    if target is None:
        raise BadInputError(f"Store {archive.store} has no table {archive.table!r};", advice="see `roas archive list`.")
    rows = list(archived_rows(stores, archive))
    with stores.databases[archive.store].write() as connection:
        if target is table(MetricSample):
            return _put_samples_back(connection, rows)
        new = [row for row in rows if insert_unless_there(connection, target, _to_stored(target, row), keys=["id"])]
        audit_put_back(connection, archive.table, new, str(archive.path), this_user())
        return len(new)


def _put_samples_back(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> int:
    ids = series_ids(connection, {(row["environment"], row["service"], row["metric"]) for row in rows})
    count = sa.select(sa.func.count()).select_from(table(MetricSample))
    before = connection.scalar(count) or 0
    samples = [
        {
            "ts": to_ms(row["ts"]),
            "series": ids[row["environment"], row["service"], row["metric"]],
            "value": row["value"],
        }
        for row in rows
    ]
    upsert(connection, MetricSample, samples, keys=["ts", "series"])
    return (connection.scalar(count) or 0) - before


_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def _column(schema: Any, name: str, archive: ArchiveFile) -> Any:
    if name not in schema.names:
        raise BadInputError(
            f"Archive {archive.path.name} has no column {name!r};", advice=f"it has: {', '.join(schema.names)}."
        )
    return schema.field(name)


def _condition(schema: Any, text: str, archive: ArchiveFile) -> Any:
    """A condition as pyarrow evaluates it while it reads, so that what does not meet it is not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    match = re.fullmatch(r"\s*(\w+)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*", text)
    if match is None:
        raise BadInputError(
            f"Condition {text!r} cannot be read;", advice="write a column, one of = != < <= > >= ~, and a value."
        )
    name, sign, value = match.groups()
    kind = _column(schema, name, archive).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    column = pc.field(name)
    if sign == "~":
        return pc.match_substring(column.cast(pa.string()), value)
    try:
        operand = datetime.fromisoformat(value) if pa.types.is_timestamp(kind) else value
        if isinstance(operand, datetime):
            # A time without a zone is of UTC, as all of ours are shown.
            operand = operand if operand.tzinfo else operand.replace(tzinfo=UTC)
            return _SIGNS[sign](column, pa.scalar(operand, kind))
        return _SIGNS[sign](column.cast(kind), pa.scalar(operand, pa.string()).cast(kind))
    except (ValueError, pa.ArrowInvalid) as error:
        raise BadInputError(f"{value!r} is no value for column {name} ({kind}): {error};", advice="") from error


def _to_stored(target: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """JSON is text in an archive, and a value to its column."""
    return {
        name: json.loads(value) if isinstance(target.c[name].type, JsonText) and value is not None else value
        for name, value in row.items()
    }


def _verify(stores: Stores, archive: ArchiveFile) -> Path:
    file = stores.folder / archive.path
    if not file.exists():
        raise NotFoundError(f"Archive {file} is not there;", advice="was the folder moved? Restore it from a backup.")
    if file_digest(file) != archive.sha256:
        raise StoreCorruptError(f"Archive {file} is not what was written;", advice="restore it from a backup.")
    return file
