"""Files as a careful program handles them: private when written, regular and of bounded size when read."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

MIB = 1024 * 1024

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_private_folder(folder: Path) -> Path:
    """Make a folder that only its owner may enter, with the parents it lacks; one that is there keeps its mode.

    Raises:
        OSError: The folder cannot be made, or something else has its name.
    """
    missing = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for one in reversed(missing):
        one.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return folder


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    # mkstemp makes the file with mode 0600, whatever the umask.
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


def open_private(path: Path, flags: int) -> int:
    """Open a file by `os.open` flags; one that is made is its owner's alone, whatever the umask.

    Raises:
        OSError: The file cannot be opened or made.
    """
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def check_regular(path: Path, *, at_most: int = MIB) -> None:
    """Refuse what `read_regular` would refuse, for a program that reads the file itself.

    Raises:
        OSError: As for `read_regular`.
        ValueError: The path holds a NUL.
    """
    _check(path, path.stat(), at_most)


def keep_private(path: Path, data: bytes) -> bytes:
    """Write a private file unless it is there already; what it holds, also where another process was first.

    Raises:
        OSError: The file cannot be written or read.
    """
    if not path.exists():
        candidate = path.with_name(f".{path.name}.{os.getpid()}")
        write_private(candidate, data)
        try:
            # Unlike a rename, a link fails where the name is taken.
            os.link(candidate, path)
        except FileExistsError:
            pass
        finally:
            candidate.unlink()
    path.chmod(FILE_MODE)
    return read_regular(path)


def read_regular(path: Path, *, at_most: int = MIB) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        OSError: It cannot be read, is no regular file (a FIFO or a device would never end), or is larger; the
            error's `strerror` says which in words for a user.
        ValueError: The path holds a NUL.
    """
    # Without O_NONBLOCK the opening of a FIFO waits for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
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
