"""Backups: the three stores as they were at one moment, copied while the system runs, and put back."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.stores.database import SqliteDatabase, driver_of
from adapters.stores.migrate import FOLDER, HEADS, revision_of
from adapters.stores.stores import Stores, in_use
from adapters.stores.trouble import our_words
from models.failures import BadInputError, StoreCorruptError, StoreFullError, StoreTooNewError
from models.settings import Settings
from models.upkeep import Backup

log = logging.getLogger("roas")

_MANIFEST = "manifest.json"


def backup(stores: Stores, folder: Path, now: datetime, tell: Callable[[str], None] = log.info) -> Backup:
    """Copy the three stores, consistent with each other, and the archives. Writers do not wait.

    `tell` hears what is being done, and of archives that are gone.

    Raises:
        BadInputError: The stores are in PostgreSQL, or the folder holds something already.
        StoreFullError: The disk has no room for the copy; nothing was written.
        StoreCorruptError: A copy does not pass its check.
        StoreError: A store cannot be read, or a copy cannot be written.
    """
    for store in stores.databases.values():
        if not isinstance(store, SqliteDatabase):
            raise _not_files(store.place)
    if folder.exists() and any(folder.iterdir()):
        raise BadInputError(f"Folder {folder} is not empty;", advice="give each backup a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    _look_for_room(stores, folder)
    # What was accepted and waits in spools belongs to the moment that is copied.
    stores.writer.flush()
    manifest: dict[str, Any] = {"made_at": now.isoformat(), "stores": {}}
    with stores.at_one_moment() as moment:
        for name, database in moment.databases.items():
            with database.read() as connection:
                manifest["stores"][name] = {"revision": revision_of(connection)}
                tell(f"copying {name}")
                # The copy sees the transaction the connection is in, however long it takes.
                _copy(driver_of(connection), folder / f"{name}.db")
    for name, facts in manifest["stores"].items():
        copy = folder / f"{name}.db"
        tell(f"reading the copy of {name} back")
        _check_copy(copy)
        facts |= {"bytes": copy.stat().st_size, "sha256": _digest(copy)}
    archives = stores.folder / "archive"
    if archives.exists():
        tell("copying the archives")
        shutil.copytree(archives, folder / "archive", ignore=shutil.ignore_patterns("*.part"))
    manifest["gone"] = [name for name, _ in _archives_of(folder) if not (folder / "archive" / name).exists()]
    for name in manifest["gone"]:
        tell(f"archive {name} is gone; this backup has not got it either")
    _check_archives(folder, manifest["gone"])
    # The manifest comes last: a folder without one is a backup that was not finished.
    _write_synced(folder / _MANIFEST, json.dumps(manifest, indent=2).encode())
    return Backup(
        folder=folder,
        made_at=now,
        files={name: facts["bytes"] for name, facts in manifest["stores"].items()},
    )


def restore(settings: Settings, folder: Path, tell: Callable[[str], None] = log.info) -> Backup:
    """Put a backup in the place of the stores, once it is verified; what was there is kept beside it.

    `tell` hears what is being done.

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
        tell(f"verifying {name}")
        if not copy.exists() or _digest(copy) != facts["sha256"]:
            raise StoreCorruptError(f"{copy} is not the file that was backed up;", advice="use another backup.")
        _check_copy(copy)
        if facts["revision"] not in _revisions(name):
            raise StoreTooNewError(
                f"{copy} is at revision {facts['revision']}, this program knows up to {HEADS[name]};",
                advice="install the later version of this program first.",
            )
    tell("verifying the archives")
    _check_archives(folder, manifest.get("gone", ()))
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    alone = in_use(settings.data_dir, alone=True)
    try:
        _put_in_place(settings, folder, manifest, tell)
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


def _look_for_room(stores: Stores, folder: Path) -> None:
    needed = sum(sum(store.sizes().values()) for store in stores.databases.values())
    needed += sum(file.stat().st_size for file in (stores.folder / "archive").glob("**/*.parquet"))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFullError(
            f"A backup takes {needed:,} bytes, {folder} has {free:,} free;", advice="give a folder on a larger disk."
        )


def _archives_of(folder: Path) -> list[tuple[str, str]]:
    """Name and checksum of every archive that the stores of a backup note."""
    noted: list[tuple[str, str]] = []
    for name in HEADS:
        file = folder / f"{name}.db"
        with our_words(f"Backup {file}"), closing(_opened(file)) as copy:
            noted += copy.execute("SELECT file, sha256 FROM archives").fetchall()
    return noted


def _check_archives(folder: Path, gone: Sequence[str]) -> None:
    for name, digest in _archives_of(folder):
        file = folder / "archive" / name
        if name not in gone and (not file.exists() or _digest(file) != digest):
            raise StoreCorruptError(f"{file} is not the archive that was backed up;", advice="use another backup.")


def _put_in_place(settings: Settings, folder: Path, manifest: dict[str, Any], tell: Callable[[str], None]) -> None:
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
                aside = path.with_name(f"{path.name}.before-restore-{stamp}{suffix}")
                old.rename(aside)
                if not suffix:
                    tell(f"{name} as it was is kept as {aside}")
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
    with our_words(f"Backup {file}"), closing(_opened(file)) as copy:
        said = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
    if said != ["ok"]:
        raise StoreCorruptError(f"Backup {file} has faults: {'; '.join(said)};", advice="use another backup.")


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


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
