"""Files that releases keep: sealed in the data folder, and copied out of the seal where a container mounts them."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from adapters.host.fingerprints import Fingerprints
from adapters.host.private_files import READ_FLAGS, make_private_folder, read_open, read_regular, write_private
from core.deployment.kept_files import MOST_BYTES, MOST_FILES, KeptEntry

SEALED = "sealed"
MOUNTED = "mounted"
"""Folders of the data folder, with one for each environment."""

_MOST_SEALED = 4 * MOST_BYTES
_UNNAMED_FOR = timedelta(days=30)
"""So long a file stays that no release names: stores that are put back from a backup may name it."""


class KeptFiles:
    """The files that an environment's releases keep, by the fingerprint of their content."""

    def __init__(self, data_dir: Path, environment: str, prints: Fingerprints) -> None:
        self._sealed = data_dir.absolute() / SEALED / environment
        self._mounted = copies_folder(data_dir, environment)
        self._prints = prints

    def digests(self) -> frozenset[str]:
        """The fingerprints of all files that are kept."""
        try:
            return frozenset(path.name for path in self._sealed.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return frozenset()

    def seal(self, digest: str, entries: tuple[KeptEntry, ...]) -> None:
        """Keep a file or folder; one that is kept already stays as it is.

        Raises:
            OSError: It cannot be written.
        """
        from cryptography.fernet import Fernet

        if self.read_verified(digest) == entries:
            return
        make_private_folder(self._sealed)
        plain = [
            [
                entry.path,
                entry.mode,
                entry.uid,
                entry.gid,
                None if entry.data is None else _to_text(entry.data),
                entry.link,
            ]
            for entry in entries
        ]
        text = json.dumps({"digest": digest, "entries": plain})
        write_private(self._sealed / digest, Fernet(self._prints.sealing_key).encrypt(text.encode()))

    def read_verified(self, digest: str) -> tuple[KeptEntry, ...] | None:
        """What is kept under a fingerprint; None where nothing is, or this installation's key does not open it."""
        from cryptography.fernet import Fernet, InvalidToken

        try:
            sealed = read_regular(self._sealed / digest, at_most=_MOST_SEALED)
            content = json.loads(Fernet(self._prints.sealing_key).decrypt(sealed))
        except (OSError, InvalidToken):
            return None
        if content["digest"] != digest:
            return None
        return tuple(
            KeptEntry(
                path=path,
                mode=mode,
                uid=uid,
                gid=gid,
                data=None if data is None else base64.b64decode(data),
                link=link,
            )
            for path, mode, uid, gid, data, link in content["entries"]
        )

    def differs(self, digest: str, path: Path) -> bool:
        """Whether what is kept has another owner or mode than what is on disk; False where nothing is kept."""
        entries = self.read_verified(digest)
        try:
            return entries is not None and read_entries(path) != entries
        except OSError:
            return True

    def copy_out(self, digest: str, original: Path) -> Path | None:
        """A copy of what is kept of a file or folder, which others mount; None where it cannot be opened.

        It has the owner and the mode of the original then, in a folder that only this user enters.

        Raises:
            OSError: It cannot be written, or not be given to its owner.
        """
        entries = self.read_verified(digest)
        if entries is None:
            return None
        copy = self._mounted / digest / original.name
        with suppress(OSError):
            if [_key_without_owner(entry) for entry in read_entries(copy)] == [
                _key_without_owner(entry) for entry in entries
            ]:
                return copy
        make_private_folder(self._mounted)
        fresh = Path(tempfile.mkdtemp(prefix=".", dir=self._mounted))
        try:
            _write(fresh / "new" / original.name, entries, _context_of(original))
            if copy.parent.exists():
                # What a container has changed in it is not what was kept.
                copy.parent.rename(fresh / "old")
            (fresh / "new").rename(copy.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return copy

    def has_copies(self) -> bool:
        """Whether something is copied out of the seal."""
        return self._mounted.is_dir() and any(self._mounted.iterdir())

    def sweep_copies(self, used: Collection[str]) -> None:
        """Remove the copies that no container mounts any more; only the holder of the environment may do so."""
        folders = list(self._mounted.iterdir()) if self._mounted.is_dir() else []
        for folder in folders:
            if not any(Path(path).is_relative_to(folder) for path in used):
                shutil.rmtree(folder, ignore_errors=True)

    def sweep_sealed(self, named: Collection[str], *, at_once: bool = False) -> None:
        """Remove what no release has named for a while, or does not name now."""
        for digest in self.digests():
            path = self._sealed / digest
            with suppress(FileNotFoundError):
                if digest in named:
                    os.utime(path)
                elif at_once or path.stat().st_mtime < time.time() - _UNNAMED_FOR.total_seconds():
                    path.unlink()


def kept_environments(data_dir: Path) -> tuple[str, ...]:
    """The environments of which files are kept, also those that are declared no more."""
    folder = data_dir.absolute() / SEALED
    return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()


def copies_folder(data_dir: Path, environment: str) -> Path:
    """Where the copies of an environment's files are, each in a folder of its own and with its file's name."""
    return data_dir.absolute() / MOUNTED / environment


def is_copy(data_dir: Path, path: str) -> bool:
    """Whether a file is a copy that a release kept."""
    return Path(path).is_relative_to(data_dir.absolute() / MOUNTED)


def read_entries(path: Path) -> tuple[KeptEntry, ...]:
    """Read a file, or a folder with all below it; a link below it is not followed.

    Raises:
        OSError: It cannot be read, is too large, or holds something else than files, folders and links.
    """
    if not path.is_dir():
        _refuse_special(path.stat(), path)
        handle = os.open(path, READ_FLAGS)
        status = os.fstat(handle)
        return (_entry("", status, data=read_open(handle, path, at_most=MOST_BYTES)),)
    entries: list[KeptEntry] = []
    size = 0
    for entry in _entries_below(path):
        entries.append(entry)
        size += len(entry.data or b"")
        if len(entries) > MOST_FILES or size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it holds more than {MOST_FILES} files or {MOST_BYTES:,} bytes", str(path))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def time_of_change(path: Path) -> float:
    """When a file, or anything of a folder, was changed last, by the kernel; no program sets that time."""
    below = path.resolve().rglob("*") if path.is_dir() else ()
    return float(max(file.lstat().st_ctime for file in (path, path.resolve(), *below)))


def _entries_below(path: Path) -> Iterator[KeptEntry]:
    # The engine, too, follows a link that is mounted itself.
    path = path.resolve()
    for root, folders, files, handle in os.fwalk(path):
        at = Path(root).relative_to(path)
        if at == Path():
            yield _entry("", os.fstat(handle))
        for name in [*folders, *files]:
            status, place = os.stat(name, dir_fd=handle, follow_symlinks=False), str(at / name)
            if stat.S_ISLNK(status.st_mode):
                yield _entry(place, status, link=os.readlink(name, dir_fd=handle))
            elif stat.S_ISDIR(status.st_mode):
                yield _entry(place, status)
            else:
                _refuse_special(status, path / place)
                opened = os.open(name, READ_FLAGS | os.O_NOFOLLOW, dir_fd=handle)
                yield _entry(place, status, data=read_open(opened, path / place, at_most=MOST_BYTES))


def _refuse_special(status: os.stat_result, path: Path) -> None:
    """To open a device alone may do something."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it holds a socket, pipe or device", str(path))


def _entry(path: str, status: os.stat_result, *, data: bytes | None = None, link: str | None = None) -> KeptEntry:
    mode = stat.S_IMODE(status.st_mode)
    return KeptEntry(path=path, mode=mode, uid=status.st_uid, gid=status.st_gid, data=data, link=link)


def _key_without_owner(entry: KeptEntry) -> tuple[object, ...]:
    return (entry.path, entry.mode, entry.data, entry.link)


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write(top: Path, entries: tuple[KeptEntry, ...], context: bytes | None) -> None:
    top.parent.mkdir(mode=0o700)
    for entry in entries:
        place = top / entry.path if entry.path else top
        if entry.link is not None:
            place.symlink_to(entry.link)
        elif entry.data is None:
            place.mkdir(mode=0o700)
        else:
            write_private(place, entry.data)
    for entry in reversed(entries):
        place = top / entry.path if entry.path else top
        _give(place, entry)
        if context is not None and entry.link is None:
            os.setxattr(place, _SELINUX, context)


def _give(place: Path, entry: KeptEntry) -> None:
    """Give a copy the owner and mode of its original."""
    try:
        os.chown(place, entry.uid, entry.gid, follow_symlinks=False)
    except PermissionError:
        # Only root gives files away. What all may read can be read of another owner, too.
        if entry.link is None and not entry.mode & 0o004:
            raise
    if entry.link is None:
        place.chmod(entry.mode)


_SELINUX = "security.selinux"


def _context_of(path: Path) -> bytes | None:
    """The SELinux context of a file, by which containers may read it; None without SELinux."""
    try:
        return os.getxattr(path, _SELINUX)
    except OSError:
        return None
