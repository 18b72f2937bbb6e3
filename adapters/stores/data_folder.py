"""Who may enter the data folder: its owner alone. One that an earlier version made wider is narrowed.

Another user who can open a store reads it; one who can open a lock file, if only for reading, holds the lock
and stops all recording. A folder of mode 0700 keeps both out, whatever the modes inside it.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from adapters.host.kept_files import MOUNTED

_OTHERS = 0o077
_OTHERS_WRITE = 0o022

_OURS = re.compile(
    r"(?:deployment_logs|monitoring|errors)\.db.*|\w+\.lock|waits|host\.json|fingerprint\.key.*"
    r"|spool|journal|archive|outlines|environments|prefect|held|logs|sealed|mounted|[\w.-]+\.log(?:\.\d+)?"
)
"""What lies at the top of a data folder. One that holds anything else may be shared with other programs, as /tmp
or a home folder is, so its own mode is not ours to change."""


@dataclass(slots=True)
class FolderAccess:
    """Modes and owners found in a data folder, and those that were narrowed."""

    narrowed: list[Path] = field(default_factory=list)
    """Files and folders that other users could open until now."""
    faults: list[str] = field(default_factory=list)
    """Why another user can still read the stores, or stop them."""
    remarks: list[str] = field(default_factory=list)
    """Files left unchanged, which are no danger by themselves."""

    @property
    def what_was_narrowed(self) -> str:
        """One sentence, empty where nothing was."""
        if not self.narrowed:
            return ""
        what = "1 file or folder," if len(self.narrowed) == 1 else f"{len(self.narrowed)} files and folders, such as"
        return f"other users could open {what} {self.narrowed[-1]}: narrowed"


def narrow_access(folder: Path, *, thorough: bool = False) -> FolderAccess:
    """Make a data folder and its content private to its owner. Links and files of others are only reported.

    Without `thorough` nothing inside of a folder is looked at that is its owner's alone already.
    """
    access = FolderAccess()
    try:
        status = folder.lstat()
        if stat.S_ISLNK(status.st_mode):
            _check_target(folder, access)
        elif status.st_uid != os.geteuid():
            access.faults.append(_foreign(folder, status))
        elif thorough or status.st_mode & _OTHERS:
            _narrow_folder(folder, access, thorough=thorough)
    except OSError as error:
        access.faults.append(f"modes in data folder {folder} cannot be narrowed: {error.strerror}")
    return access


def _check_target(folder: Path, access: FolderAccess) -> None:
    status, target = folder.stat(), folder.resolve()
    if status.st_uid != os.geteuid():
        access.faults.append(_foreign(target, status))
    elif status.st_mode & _OTHERS:
        access.faults.append(f"data folder {folder} is a link to {target}, which other users may enter: chmod 700 it")


def _narrow_folder(folder: Path, access: FolderAccess, *, thorough: bool) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        names = _names(handle)
        foreign = [name for name in names if not _OURS.fullmatch(name)]
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & _OTHERS and foreign:
            messages = access.faults if mode & _OTHERS_WRITE else access.remarks
            messages.append(
                f"data folder {folder} (mode {mode:o}) also holds {foreign[0]}, so its mode was left as it is: "
                "set ROAS_DATA_DIR to a folder of its own"
            )
        elif mode & _OTHERS:
            os.fchmod(handle, mode & ~_OTHERS)
            access.narrowed.append(folder)
            if os.fstat(handle).st_mode & _OTHERS:
                access.faults.append(
                    f"the file system of data folder {folder} keeps no modes: move it to one that does"
                )
                return
        for name in names:
            if name not in foreign:
                _narrow(handle, folder / name, access, thorough=thorough)
    finally:
        os.close(handle)


def _narrow(parent: int, path: Path, access: FolderAccess, *, thorough: bool) -> None:
    try:
        # By the path alone: closing a store that was opened would end SQLite's locks of this process.
        handle = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        # Another process has just written it into a store, or renamed it.
        return
    try:
        status = os.fstat(handle)
        wide = status.st_mode & _OTHERS
        if stat.S_ISLNK(status.st_mode):
            access.remarks.append(f"{path} is a link and was not followed")
        elif status.st_uid != os.geteuid():
            access.faults.append(_foreign(path, status))
        elif wide and not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            access.faults.append(f"{path} has another name somewhere and was left as it is: other users may read it")
        else:
            if wide:
                Path(f"/proc/self/fd/{handle}").chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
                access.narrowed.append(path)
            # Containers of other users read what is inside of that one: it has modes and owners of its own.
            if stat.S_ISDIR(status.st_mode) and (wide or thorough) and path.name != MOUNTED:
                _narrow_inside(handle, path, access, thorough=thorough)
    finally:
        os.close(handle)


def _narrow_inside(handle: int, path: Path, access: FolderAccess, *, thorough: bool) -> None:
    folder = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in _names(folder):
            _narrow(folder, path / name, access, thorough=thorough)
    finally:
        os.close(folder)


def _names(handle: int) -> list[str]:
    with os.scandir(handle) as entries:
        return sorted(entry.name for entry in entries)


def _foreign(path: Path, status: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    return f"{path} belongs to user {owner}, who can read and change it: chown it to the user that runs this system"
