"""The database of a new Prefect server: copied from one that was made before, as this user's first server keeps it.

To make its tables by Prefect's migrations takes longer than all else of a server's first start. What is kept has
nothing of a user: it is taken before the server answers anyone, and the key of its blocks is in no database.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from adapters.host.private_files import make_private_folder

DATABASE_ELSEWHERE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Variables that name another database than the one in the server's folder."""

_DATABASE, _MEMO = "prefect.db", "memo_store.toml"
"""The second says which blocks are registered in the first, so it never comes without it."""


_PREFIX = ".made-"
_UNFINISHED = re.compile(rf"{re.escape(_PREFIX)}[a-z0-9_]{{8}}")
"""The folder in which a process makes a database to keep; it ends with the process, unless that is killed."""
_LEFT_AFTER_SECONDS = 3600
"""To make one takes seconds. An earlier version of this program does so without the lock."""


def new_database(home: Path) -> Callable[[], None]:
    """Give a server's folder that has no database a copy of one; returns what to do once the server has started."""
    template = _template_path()
    if (home / _DATABASE).exists() or any(map(os.environ.get, DATABASE_ELSEWHERE)):
        return lambda: None
    _remove_unfinished(template.parent)
    if _copy(template, home):
        return lambda: None
    return lambda: _keep(home, template)


def _copy(template: Path, home: Path) -> bool:
    """Copy what is kept; what is not whole is removed, with the copy."""
    if not _is_ours(template):
        return False
    copy = home / f".{_DATABASE}-{os.getpid()}"
    try:
        shutil.copyfile(template / _DATABASE, copy)
        with closing(sqlite3.connect(copy)) as database:
            whole = database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        if whole:
            copy.rename(home / _DATABASE)
            shutil.copyfile(template / _MEMO, home / _MEMO)
            return True
    except (OSError, sqlite3.Error):
        pass
    copy.unlink(missing_ok=True)
    shutil.rmtree(template, ignore_errors=True)
    return False


def _keep(home: Path, template: Path) -> None:
    """Keep what a server has just made, unless one of this version of Prefect is kept already."""
    with suppress(OSError, sqlite3.Error):
        make_private_folder(template.parent)
        if template.exists() or not _is_ours(template.parent):
            return
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=template.parent) as folder, _lock(Path(folder)):
            made = Path(folder) / "made"
            made.mkdir(mode=0o700)
            with closing(sqlite3.connect(f"{(home / _DATABASE).absolute().as_uri()}?mode=ro", uri=True)) as database:
                database.execute("VACUUM INTO ?", [str(made / _DATABASE)])
            shutil.copyfile(home / _MEMO, made / _MEMO)
            made.rename(template)


def _remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have left half made."""
    with suppress(OSError):
        for entry in folder.iterdir():
            status = entry.lstat()
            is_old = time.time() - status.st_mtime > _LEFT_AFTER_SECONDS
            if _UNFINISHED.fullmatch(entry.name) and entry.is_dir() and status.st_uid == os.geteuid() and is_old:
                with suppress(OSError), _lock(entry):
                    shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a folder, which ends with this process.

    Raises:
        OSError: Another process holds it, or it is no folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _is_ours(folder: Path) -> bool:
    """Whether no other user may have put something into a folder: a database has what servers run."""
    try:
        statuses = folder.stat(), folder.parent.stat()
    except OSError:
        return False
    return all(status.st_uid == os.geteuid() and not status.st_mode & 0o022 for status in statuses)


def _template_path() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches / "roas" / f"prefect-{version('prefect')}"
