"""Backups: the three stores as they were at one moment, copied while the system runs, and put back."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from adapters.host.private_files import (
    MIB,
    make_private_folder,
    open_private,
    read_regular,
    sync_folder,
    write_private,
)
from adapters.host.processes import this_user
from adapters.stores.audit import AUDITED, append, file_digest, head
from adapters.stores.database import SqliteDatabase
from adapters.stores.migrate import HEADS, STORES, is_known, revision_of
from adapters.stores.sqlite_file import driver_of
from adapters.stores.stores import Stores, mark_in_use
from adapters.stores.trouble import OurWords
from core.storage.audit import NO_HASH
from models.failures import BadInputError, StoreCorruptError, StoreFullError, StoreTooNewError
from models.settings import Settings
from models.storage import Backup

log = logging.getLogger("roas")

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class _Copied:
    """What the manifest says of one store's copy."""

    revision: str
    bytes: int
    sha256: str
    audit_head: str = ""


@dataclass(frozen=True, slots=True)
class _Manifest:
    made_at: datetime
    stores: dict[Literal["deployment_logs", "monitoring", "errors"], _Copied]
    gone: tuple[str, ...] = ()


_MANIFEST_JSON = TypeAdapter(_Manifest)


def backup(stores: Stores, folder: Path, now: datetime, tell: Callable[[str], None] = log.info) -> Backup:
    """Copy the three stores, consistent with each other, and the archives. Writers do not wait.

    `tell` gets each step as it begins, and archives that are gone.

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
    make_private_folder(folder)
    _look_for_room(stores, folder)
    # Rows that wait for a batch were accepted, so the backup must have them.
    stores.writer.flush()
    facts: dict[str, dict[str, Any]] = {}
    with stores.read_one_moment() as moment:
        for name, database in moment.databases.items():
            with database.read() as connection:
                facts[name] = {"revision": revision_of(connection)}
                if name in AUDITED:
                    # Kept apart from the store: `roas history --verify --expect` proves later that it still holds.
                    facts[name]["audit_head"] = head(connection)
                tell(f"copying {name}")
                # The copy sees the transaction the connection is in, however long it takes.
                _copy(driver_of(connection), folder / f"{name}.db")
    for name, entry in facts.items():
        copy = folder / f"{name}.db"
        tell(f"reading the copy of {name} back")
        _check_copy(copy)
        entry |= {"bytes": copy.stat().st_size, "sha256": file_digest(copy)}
    archives = stores.folder / "archive"
    if archives.exists():
        tell("copying the archives")
        _copy_archives(archives, folder / "archive")
    missing_archives = [name for name, _ in _archives_of(folder) if not (folder / "archive" / name).exists()]
    for name in missing_archives:
        tell(f"archive {name} is gone; this backup has not got it either")
    _check_archives(folder, missing_archives)
    manifest = {"made_at": now.isoformat(), "stores": facts, "gone": missing_archives}
    # The manifest comes last: a folder without one is a backup that was not finished.
    write_private(folder / _MANIFEST, json.dumps(manifest, indent=2).encode())
    sync_folder(folder)
    return Backup(folder=folder, made_at=now, files={name: entry["bytes"] for name, entry in facts.items()})


def restore(settings: Settings, folder: Path, tell: Callable[[str], None] = log.info) -> Backup:
    """Put a backup in the place of the stores, once it is verified; the replaced files are kept beside it.

    `tell` gets each step as it begins.

    Raises:
        BadInputError: The stores are in PostgreSQL, or the folder holds no finished backup.
        StoreCorruptError: The backup was changed after it was made.
        StoreTooNewError: A later version of this program made it.
        StoreBusyError: The system runs.
    """
    if settings.stores_url is not None:
        raise _not_files("ROAS_STORES_URL")
    manifest = _read_manifest(folder)
    make_private_folder(settings.data_dir)
    _check_files(folder, manifest, settings.data_dir)
    for name, facts in manifest.stores.items():
        copy = folder / f"{name}.db"
        tell(f"verifying {name}")
        if not copy.exists() or file_digest(copy) != facts.sha256:
            raise StoreCorruptError(f"{copy} is not the file that was backed up;", advice="use another backup.")
        _check_copy(copy)
        if not is_known(facts.revision, name):
            raise StoreTooNewError(
                f"{copy} is at revision {facts.revision}, this program knows up to {HEADS[name]};",
                advice="install the later version of this program first.",
            )
    tell("verifying the archives")
    _check_archives(folder, manifest.gone)
    alone = mark_in_use(settings.data_dir, alone=True)
    try:
        replaced = _audit_heads(settings)
        _put_in_place(settings, folder, manifest, tell)
    finally:
        os.close(alone)
    _record_restore(settings, manifest.made_at.isoformat(), replaced)
    files: dict[str, int] = {name: facts.bytes for name, facts in manifest.stores.items()}
    return Backup(folder=folder, made_at=manifest.made_at, files=files)


def _record_restore(settings: Settings, made_at: str, replaced: dict[str, str]) -> None:
    """Append to each audit log who restored which backup, and how far the log went that it replaced."""
    with Stores.open(settings) as stores, stores.together() as inside:
        for name in AUDITED:
            with inside.databases[name].write() as connection:
                subject, head_before = f"backup of {made_at}", replaced.get(name)
                append(connection, "restored", subject, {}, actor=this_user(), replaced_head=head_before)


def _audit_heads(settings: Settings) -> dict[str, str]:
    """The last hash of each audit log before its store is replaced, as far as it can be read."""
    heads = {}
    for name in AUDITED:
        with suppress(sqlite3.Error), closing(_open(settings.store_path(name))) as store:
            last = store.execute("SELECT hash FROM audit_log ORDER BY seq DESC LIMIT 1").fetchone()
            heads[name] = str(last[0]) if last else NO_HASH
    return heads


def _not_files(place: str) -> BadInputError:
    return BadInputError(
        f"The stores are in PostgreSQL ({place}), not in files that could be copied;",
        advice="`pg_dump --format=custom --schema=deployment_logs --schema=monitoring --schema=errors` copies them "
        "at one moment while all runs, `pg_restore --clean` puts them back; copy the folder `archive` too.",
    )


def _look_for_room(stores: Stores, folder: Path) -> None:
    needed = sum(sum(store.sizes().values()) for store in stores.databases.values())
    needed += sum(file.stat().st_size for file in (stores.folder / "archive").glob("**/*.parquet"))
    _check_room("A backup", needed, folder, "give a folder on a larger disk.")


def _check_room(what: str, needed: int, folder: Path, advice: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFullError(f"{what} takes {needed:,} bytes, {folder} has {free:,} free;", advice=advice)


def _archives_of(folder: Path) -> list[tuple[str, str]]:
    """Name and checksum of every archive that the stores of a backup note."""
    noted: list[tuple[str, str]] = []
    for name in STORES:
        file = folder / f"{name}.db"
        with OurWords(f"Backup {file}"), closing(_open(file)) as copy:
            noted += copy.execute("SELECT CAST(file AS TEXT), sha256 FROM archives").fetchall()
    return noted


def _check_archives(folder: Path, missing_archives: Sequence[str]) -> None:
    for name, digest in _archives_of(folder):
        file = folder / "archive" / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StoreCorruptError(f"A store of {folder} names {name} as an archive;", advice="use another backup.")
        if name not in missing_archives and (not file.exists() or file_digest(file) != digest):
            raise StoreCorruptError(f"{file} is not the archive that was backed up;", advice="use another backup.")


def _put_in_place(settings: Settings, folder: Path, manifest: _Manifest, tell: Callable[[str], None]) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    paths = {name: settings.store_path(name) for name in manifest.stores}
    for name, path in paths.items():
        _copy_file(folder / f"{name}.db", _part(path))
    for name, path in paths.items():
        for suffix in ("-wal", "-shm", ""):
            old = path.with_name(path.name + suffix)
            if old.exists():
                aside = path.with_name(f"{path.name}.before-restore-{stamp}{suffix}")
                old.rename(aside)
                if not suffix:
                    tell(f"{name} as it was is kept as {aside}")
        _part(path).rename(path)
    if (folder / "archive").exists():
        _copy_archives(folder / "archive", settings.data_dir / "archive")
    sync_folder(settings.data_dir)
    log.info("backup %s of %s is in place", folder, manifest.made_at)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _copy(source: sqlite3.Connection, file: Path) -> None:
    os.close(open_private(file, os.O_WRONLY | os.O_EXCL))
    with OurWords(f"Backup {file}"), closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
        # One file that needs nothing beside it.
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
    sync_folder(file)


def _check_copy(file: Path) -> None:
    with OurWords(f"Backup {file}"), closing(_open(file)) as copy:
        lines = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
    if lines != ["ok"]:
        raise StoreCorruptError(f"Backup {file} has faults: {'; '.join(lines)};", advice="use another backup.")


def _open(file: Path) -> sqlite3.Connection:
    # Immutable: SQLite then reads no journal beside it, which might be a link to anything.
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _read_manifest(folder: Path) -> _Manifest:
    try:
        manifest = _MANIFEST_JSON.validate_json(read_regular(folder / _MANIFEST))
        missing = sorted(set(STORES) - manifest.stores.keys())
        if not missing:
            return manifest
        reason = f"{_MANIFEST} names no copy of {missing[0]}"
    except OSError as error:
        reason = f"{_MANIFEST}: {error.strerror}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = f"{_MANIFEST}: {'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}"
    except ValueError as error:
        reason = str(error)
    raise BadInputError(
        f"Folder {folder} holds no finished backup ({reason});", advice="give the folder `roas backup` wrote."
    )


def _check_files(folder: Path, manifest: _Manifest, data_dir: Path) -> None:
    """Refuse links, devices and the like: a backup that somebody else touched may name any file of this machine."""
    for name, facts in manifest.stores.items():
        file = folder / f"{name}.db"
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise _not_regular(file)
        if file.exists() and file.stat().st_size != facts.bytes:
            raise StoreCorruptError(f"{file} is not the file that was backed up;", advice="use another backup.")
    archives = folder / "archive"
    if archives.is_symlink() or (archives.exists() and not archives.is_dir()):
        raise _not_regular(archives)
    archived = sum((archives / name).stat().st_size for name in _archive_files(archives))
    needed = archived + sum(facts.bytes for facts in manifest.stores.values())
    _check_room("The backup", needed, data_dir, "free some, or use another disk.")


def _archive_files(archives: Path) -> Iterator[Path]:
    """The files below a folder of archives, by their place in it.

    Raises:
        BadInputError: One is a link, a device or the like.
    """
    for folder, folders, files in os.walk(archives):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise _not_regular(path)
            if stat.S_ISREG(status.st_mode) and path.suffix != ".part":
                yield path.relative_to(archives)


def _not_regular(path: Path) -> BadInputError:
    return BadInputError(
        f"{path} is a link or a special file, which no backup and no archive holds;",
        advice="remove it, or put the file itself in its place.",
    )


def _copy_archives(source: Path, target: Path) -> None:
    make_private_folder(target)
    for name in _archive_files(source):
        make_private_folder((target / name).parent)
        _copy_file(source / name, target / name)


def _copy_file(source: Path, target: Path) -> None:
    """Copy a regular file, never what a link leads to, into a private one that is whole or not there."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_regular(source) from error
        raise
    with os.fdopen(handle, "rb") as content:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _not_regular(source)
        part = _part(target)
        part.unlink(missing_ok=True)
        with os.fdopen(open_private(part, os.O_WRONLY | os.O_EXCL), "wb") as copy:
            shutil.copyfileobj(content, copy, MIB)
            copy.flush()
            os.fsync(copy.fileno())
    part.rename(target)
