"""What is in the archives: list them, read them, and put one back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from adapters.stores.monitoring import series_ids, to_ms
from adapters.stores.sql import insert_unless_there, table, upsert
from adapters.stores.stores import Stores
from models.failures import BadInputError, NotFoundError, StoreCorruptError
from models.tables import deployment_logs, errors, monitoring
from models.tables.columns import JsonText
from models.tables.deployment_logs import DeploymentLogsArchive, DeploymentLogsRow
from models.tables.errors import ErrorsArchive, ErrorsRow
from models.tables.monitoring import MetricSample, MonitoringArchive, MonitoringRow
from models.upkeep import ArchiveFile

_MANIFESTS: dict[str, type[SQLModel]] = {
    "deployment_logs": DeploymentLogsArchive,
    "monitoring": MonitoringArchive,
    "errors": ErrorsArchive,
}
_BASES: dict[str, type[SQLModel]] = {
    "deployment_logs": DeploymentLogsRow,
    "monitoring": MonitoringRow,
    "errors": ErrorsRow,
}


def archives(stores: Stores, store: str | None = None) -> list[ArchiveFile]:
    """Every archive file by the time it was made, oldest first.

    Raises:
        StoreError: A store cannot be read.
    """
    found = []
    for name in [store] if store else _MANIFESTS:
        with stores.databases[name].read() as connection:
            rows = connection.execute(sa.select(table(_MANIFESTS[name]))).all()
        found += [
            ArchiveFile(
                store=name,
                table=row.source,
                path=Path("archive") / row.file,
                rows=row.rows,
                size=row.bytes,
                sha256=row.sha256,
                archived_at=row.archived_at,
            )
            for row in rows
        ]
    return sorted(found, key=lambda one: (one.archived_at, one.path))


def archived_rows(stores: Stores, archive: ArchiveFile) -> Iterator[dict[str, Any]]:
    """The rows of one archive, by the names of their columns.

    Raises:
        NotFoundError: The file is not there.
        StoreCorruptError: The file is not what was written.
    """
    import pyarrow.parquet as pq

    file = _verified(stores, archive)
    for batch in pq.ParquetFile(file).iter_batches():
        yield from batch.to_pylist()


def restore_archive(stores: Stores, archive: ArchiveFile) -> int:
    """Put the rows of an archive back into their store; tell how many were not there.

    Raises:
        NotFoundError: The file is not there.
        StoreCorruptError: The file is not what was written.
        StoreConstraintError: A row refers to one that is not there: restore the archive with its owner first.
    """
    row_type = _row_type(archive)
    rows = list(archived_rows(stores, archive))
    with stores.databases[archive.store].write() as connection:
        if row_type is MetricSample:
            ids = series_ids(connection, {(row["environment"], row["service"], row["metric"]) for row in rows})
            samples = [
                {
                    "ts": to_ms(row["ts"]),
                    "series": ids[row["environment"], row["service"], row["metric"]],
                    "value": row["value"],
                }
                for row in rows
            ]
            upsert(connection, MetricSample, samples, keys=["ts", "series"])
            return len(samples)
        return sum(insert_unless_there(connection, row_type, _stored(row_type, row), keys=["id"]) for row in rows)


def _stored(row_type: type[SQLModel], row: dict[str, Any]) -> dict[str, Any]:
    """JSON is text in an archive, and a value to its column."""
    columns = table(row_type).columns
    return {
        name: json.loads(value) if isinstance(columns[name].type, JsonText) and value is not None else value
        for name, value in row.items()
    }


def _row_type(archive: ArchiveFile) -> type[SQLModel]:
    for module in (deployment_logs, monitoring, errors):
        for one in vars(module).values():
            if (
                isinstance(one, type)
                and issubclass(one, _BASES[archive.store])
                and one is not _BASES[archive.store]
                and table(one).name == archive.table
            ):
                return one
    raise BadInputError(f"Store {archive.store} has no table {archive.table!r};", advice="see `roas archive list`.")


def _verified(stores: Stores, archive: ArchiveFile) -> Path:
    file = stores.folder / archive.path
    if not file.exists():
        raise NotFoundError(f"Archive {file} is not there;", advice="was the folder moved? Restore it from a backup.")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != archive.sha256:
        raise StoreCorruptError(f"Archive {file} is not what was written;", advice="restore it from a backup.")
    return file
