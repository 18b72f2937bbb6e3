"""Safe file access: private when written, regular and of limited size when read."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MIB = 1024 * 1024

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK the opening of a FIFO waits for a writer."""

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_private_folder(folder: Path) -> Path:
    """Create a folder that only its owner may enter, and missing parents; an existing one keeps its mode.

    Raises:
        OSError: The folder cannot be created, or something else has its name.
    """
    missing = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return folder


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder survive a power failure.

    Raises:
        OSError: The disk does not take it.
    """
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_private(path: Path, data: bytes) -> None:
    """Write a file atomically that only its owner may read.

    Raises:
        OSError: The file cannot be written.
    """
    # mkstemp creates the file with mode 0600, independent of the umask.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def replace_content(path: Path, data: bytes, check: Callable[[Path], None]) -> None:
    """Give a user's file other content at once, and keep its mode, its owner and a symbolic link.

    `check` is given the new file, and may raise to leave the old one.

    Raises:
        OSError: The file or its folder cannot be written.
    """
    target = path.resolve()
    before = target.stat()
    with tempfile.TemporaryDirectory(prefix=".roas-", dir=target.parent) as folder:
        new = Path(folder, target.name)
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(before.st_mode & 0o7777)
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(new, before.st_uid, before.st_gid)
        check(new)
        new.replace(target)
    sync_folder(target.parent)


def open_private(path: Path, flags: int) -> int:
    """Open a file by `os.open` flags; only its owner may read a new one, independent of the umask.

    Raises:
        OSError: The file cannot be opened or created.
    """
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def check_regular(path: Path, *, at_most: int = MIB) -> None:
    """Check a file as `read_regular` does, for a program that reads the file itself.

    Raises:
        OSError: As for `read_regular`.
        ValueError: The path holds a NUL.
    """
    _check(path, path.stat(), at_most)


def keep_private(path: Path, data: bytes) -> bytes:
    """Write a private file unless it exists; its content, also when another process wrote it first.

    Raises:
        OSError: The file cannot be written or read.
    """
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # Unlike a rename, a link fails where the name is taken.
            with suppress(FileExistsError):
                os.link(file.name, path)
    if path.stat().st_uid == os.geteuid():
        path.chmod(FILE_MODE)
    return read_regular(path)


def read_regular(path: Path, *, at_most: int = MIB) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        OSError: It cannot be read, is not a regular file (a FIFO or a device would never end), or is larger;
            `strerror` is a message for the user.
        ValueError: The path holds a NUL.
    """
    return read_open(os.open(path, READ_FLAGS), path, at_most=at_most)


def read_open(handle: int, path: Path, *, at_most: int = MIB) -> bytes:
    """Read a file that was opened with `READ_FLAGS`, and close it; `path` is for messages.

    Raises:
        OSError: As for `read_regular`.
    """
    try:
        _check(path, os.fstat(handle), at_most)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(at_most + 1)
    finally:
        os.close(handle)
    # It may have grown since.
    if len(data) > at_most:
        raise _too_large(path, at_most)
    return data


def _check(path: Path, status: os.stat_result, at_most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if status.st_size > at_most:
        raise _too_large(path, at_most)


def _too_large(path: Path, at_most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {at_most:,} bytes", str(path))
