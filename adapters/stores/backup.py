"""Backups: the three stores as they were at one moment, copied while the system runs, and put back."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.stores.database import SqliteDatabase, driver_of
from adapters.stores.migrate import FOLDER, HEADS, revision_of
from adapters.stores.stores import Stores, in_use
from adapters.stores.trouble import our_words
from models.failures import BadInputError, StoreCorruptError, StoreTooNewError
from models.settings import Settings
from models.upkeep import Backup

log = logging.getLogger("roas")

_MANIFEST = "manifest.json"


def backup(stores: Stores, folder: Path, now: datetime) -> Backup:
    """Copy the three stores, consistent with each other, and the archives. Writers do not wait.

    Raises:
        BadInputError: The stores are in PostgreSQL, or the folder holds something already.
        StoreCorruptError: A copy does not pass its check.
        StoreError: A store cannot be read, or a copy cannot be written.
    """
    for store in stores.databases.values():
        if not isinstance(store, SqliteDatabase):
            raise _not_files(store.place)
    if folder.exists() and any(folder.iterdir()):
        raise BadInputError(f"Folder {folder} is not empty;", advice="give each backup a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {"made_at": now.isoformat(), "stores": {}}
    with stores.at_one_moment() as moment:
        for name, database in moment.databases.items():
            with database.read() as connection:
                manifest["stores"][name] = {"revision": revision_of(connection)}
                # The copy sees the transaction the connection is in, however long it takes.
                _copy(driver_of(connection), folder / f"{name}.db")
    for name, facts in manifest["stores"].items():
        copy = folder / f"{name}.db"
        _check_copy(copy)
        facts |= {"bytes": copy.stat().st_size, "sha256": _digest(copy)}
    archives = stores.folder / "archive"
    if archives.exists():
        shutil.copytree(archives, folder / "archive", ignore=shutil.ignore_patterns("*.part"))
    # The manifest comes last: a folder without one is a backup that was not finished.
    _write_synced(folder / _MANIFEST, json.dumps(manifest, indent=2).encode())
    return Backup(
        folder=folder,
        made_at=now,
        files={name: facts["bytes"] for name, facts in manifest["stores"].items()},
    )


def restore(settings: Settings, folder: Path) -> Backup:
    """Put a backup in the place of the stores, once it is verified; what was there is kept beside it.

    Raises:
        BadInputError: The stores are in PostgreSQL, or the folder holds no finished backup.
        StoreCorruptError: The backup is not what was made.
        StoreTooNewError: A later version of this program made it.
        StoreBusyError: The system runs.
    """
    if settings.stores_url is not None:
        raise _not_files("ROAS_STORES_URL")
    manifest = _read_manifest(folder)
    for name, facts in manifest["stores"].items():
        copy = folder / f"{name}.db"
        if not copy.exists() or _digest(copy) != facts["sha256"]:
            raise StoreCorruptError(f"{copy} is not the file that was backed up;", advice="use another backup.")
        _check_copy(copy)
        if facts["revision"] not in _revisions(name):
            raise StoreTooNewError(
                f"{copy} is at revision {facts['revision']}, this program knows up to {HEADS[name]};",
                advice="install the later version of this program first.",
            )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    alone = in_use(settings.data_dir, alone=True)
    try:
        _put_in_place(settings, folder, manifest)
    finally:
        os.close(alone)
    return Backup(
        folder=folder,
        made_at=datetime.fromisoformat(manifest["made_at"]),
        files={name: facts["bytes"] for name, facts in manifest["stores"].items()},
    )


def _not_files(place: str) -> BadInputError:
    return BadInputError(
        f"The stores are in PostgreSQL ({place}), not in files that could be copied;",
        advice="`pg_dump --format=custom --schema=deployment_logs --schema=monitoring --schema=errors` copies them "
        "at one moment while all runs, `pg_restore --clean` puts them back; copy the folder `archive` too.",
    )


def _put_in_place(settings: Settings, folder: Path, manifest: dict[str, Any]) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    paths = {
        "deployment_logs": settings.deployment_logs_path,
        "monitoring": settings.monitoring_path,
        "errors": settings.errors_path,
    }
    for name in manifest["stores"]:
        shutil.copyfile(folder / f"{name}.db", _part(paths[name]))
        _sync(_part(paths[name]))
    for name in manifest["stores"]:
        path = paths[name]
        for suffix in ("-wal", "-shm", ""):
            old = path.with_name(path.name + suffix)
            if old.exists():
                old.rename(path.with_name(f"{path.name}.before-restore-{stamp}{suffix}"))
        _part(path).rename(path)
    if (folder / "archive").exists():
        shutil.copytree(folder / "archive", settings.data_dir / "archive", dirs_exist_ok=True)
    _sync(settings.data_dir)
    log.info("backup %s of %s is in place", folder, manifest["made_at"])


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _copy(source: sqlite3.Connection, file: Path) -> None:
    with our_words(f"Backup {file}"), closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
        # One file that needs nothing beside it.
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
    _sync(file)


def _check_copy(file: Path) -> None:
    with our_words(f"Backup {file}"), closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as copy:
        said = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
    if said != ["ok"]:
        raise StoreCorruptError(f"Backup {file} has faults: {'; '.join(said)};", advice="use another backup.")


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"Folder {folder} holds no finished backup ({error});", advice="give the folder `roas backup` wrote."
        ) from error
    return manifest


def _revisions(name: str) -> set[str]:
    return {file.name[1:5] for file in (FOLDER / name).glob("r*.py")}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_synced(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    _sync(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
