"""The Prefect server that a command leaves for later ones: one for each data folder, until it was not used for long.

Files in the server's folder connect the commands with it: a record of where it listens, a lock that each command shares
while it uses the server, and one while it looks for it or starts it. The kernel frees the locks of a killed command.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from adapters.host.listeners import listening_users
from adapters.host.private_files import FILE_MODE, write_private
from adapters.host.processes import process_started

IDLE_SECONDS = 600.0

_CHECKED_EVERY_SECONDS = 2.0
_SETTLES_AFTER_SECONDS = 10.0
_ENDS_WITHIN_SECONDS = 10.0
_RECORD, _USED, _STARTING = "server.json", "server.used", "server.starting"
_SETTINGS = ("PREFECT_", "ROAS_")
_OF_ONE_COMMAND = ("PREFECT_API_URL", "PREFECT_CLIENT_", "PREFECT_LOGGING_", "PREFECT__", "ROAS_WARM")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """Where a left server listens, which process it is, and what it was started with."""

    port: int
    process: int
    process_started: int
    """The kernel's start time, since process ids are used again."""
    stamp: str

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs."""
        return process_started(self.process) == self.process_started

    @property
    def listens(self) -> bool:
        """Whether this user alone listens on its port: our password is sent there."""
        return listening_users(self.port) == {os.geteuid()}


Start = Callable[[int], tuple[int, int]]
"""Starts a server at a port, 0 for any free one; returns its port and process id, or raises OSError."""


@contextmanager
def shared_server(home: Path, stamp: str, start: Start) -> Iterator[int | None]:
    """The port of the folder's server during the block; where it is killed meanwhile, it is started anew there.

    None while others use a server that was started with other settings, or by other code.
    """
    with hold_server(home) as used:
        with _lock_file(home / _STARTING) as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            record = _read(home)
            if record is not None and (record.stamp != stamp or not record.listens):
                if not _end_unused(home, record, used):
                    yield None
                    return
                record = None
            if record is None:
                record = _begin(home, stamp, start, 0)
        ended = threading.Event()
        threading.Thread(target=_keep, args=(home, record, start, ended), daemon=True).start()
        try:
            yield record.port
        finally:
            ended.set()


def _keep(home: Path, record: ServerRecord, start: Start, ended: threading.Event) -> None:
    """Start it anew at its place where it is killed: clients ask there for a minute, and then give up."""
    while not ended.wait(_CHECKED_EVERY_SECONDS):
        # It is a child of the command that started it.
        with suppress(ChildProcessError):
            os.waitpid(record.process, os.WNOHANG)
        if record.is_alive:
            continue
        with suppress(OSError), _lock_file(home / _STARTING) as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            present = _read(home)
            if ended.is_set() or (present is not None and present.port != record.port):
                return
            record = present or _begin(home, record.stamp, start, record.port)


@contextmanager
def hold_server(home: Path) -> Iterator[int]:
    """Use the folder's server during the block, and as long as a child has the descriptor.

    It may have to wait for the server to settle, so the server's own loop must not call it.
    """
    with _lock_file(home / _USED) as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        os.utime(used)
        yield used


def end_unused_server(home: Path) -> None:
    """End the folder's server unless a command uses it; `roas serve` takes its place."""
    with _lock_file(home / _USED) as used:
        record = _read(home)
        if record is not None:
            _end_unused(home, record, used)


def left_port(home: Path) -> int | None:
    """The port of the folder's server; None where none runs."""
    record = _read(home)
    return None if record is None else record.port


def stamp_of(environment: Mapping[str, str]) -> str:
    """A hash of what a server is started with: settings, Prefect's version, our own code of it."""
    settings = {
        name: value
        for name, value in environment.items()
        if name.startswith(_SETTINGS) and not name.startswith(_OF_ONE_COMMAND)
    }
    # The port is another one at each start.
    settings.pop("PREFECT_UI_API_URL", None)
    settings.pop("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", None)
    own_folder = Path(__file__).parent
    files = [*(own_folder / name for name in ("server_process.py", "shared_server.py")), *_files_of_page(own_folder)]
    code = max(file.stat().st_mtime_ns for file in files)
    return sha256(json.dumps([settings, version("prefect"), sys.prefix, code], sort_keys=True).encode()).hexdigest()


def _files_of_page(own_folder: Path) -> Iterator[Path]:
    return (path for path in (own_folder.parent / "page").rglob("*") if path.suffix in (".py", ".j2"))


def end_when_unused(home: Path, end: Callable[[], None], idle_seconds: float, settle: Callable[[int], bool]) -> None:
    """In the server: call `end` once no command has used it for `idle_seconds`, or when its record is gone.

    `settle` gets the port, once after each use, while no command can begin another one; if it returns False, again.
    """
    threading.Thread(target=_watch, args=(home, end, idle_seconds, settle), daemon=True).start()


def _watch(home: Path, end: Callable[[], None], idle_seconds: float, settle: Callable[[int], bool]) -> None:
    idle_since, settled, used_before = time.monotonic(), 0.0, 0.0
    with suppress(OSError), _lock_file(home / _USED) as used:
        while True:
            time.sleep(_CHECKED_EVERY_SECONDS)
            record = _read(home)
            if record is None or record.process != os.getpid():
                break
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                idle_since = time.monotonic()
                continue
            last_use = os.fstat(used).st_mtime
            if last_use != used_before:
                # A use that was over between two checks, such as that of a page.
                idle_since, used_before = time.monotonic(), last_use
            # Not between commands that follow each other: the next one would wait.
            is_quiet = time.time() - last_use >= _SETTLES_AFTER_SECONDS
            if is_quiet and last_use != settled and settle(record.port):
                settled = last_use
            if time.monotonic() - idle_since >= idle_seconds:
                # A command that comes now waits for the lock, and finds no record any more.
                (home / _RECORD).unlink(missing_ok=True)
                end()
                return
            fcntl.flock(used, fcntl.LOCK_UN)
    end()


def _begin(home: Path, stamp: str, start: Start, port: int) -> ServerRecord:
    port, process = start(port)
    record = ServerRecord(port=port, process=process, process_started=process_started(process) or 0, stamp=stamp)
    write_private(home / _RECORD, json.dumps(asdict(record)).encode())
    return record


def _read(home: Path) -> ServerRecord | None:
    """The record of a server whose process runs."""
    try:
        record = ServerRecord(**json.loads((home / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.is_alive else None


def _end_unused(home: Path, record: ServerRecord, used: int) -> bool:
    try:
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # A failed change of the lock has given it up.
        fcntl.flock(used, fcntl.LOCK_SH)
        return False
    with suppress(ProcessLookupError):
        os.kill(record.process, signal.SIGTERM)
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    while record.is_alive:
        if time.monotonic() > deadline:
            os.kill(record.process, signal.SIGKILL)
        time.sleep(0.05)
    (home / _RECORD).unlink(missing_ok=True)
    fcntl.flock(used, fcntl.LOCK_SH)
    return True


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
