"""A warm process for the runs that `roas serve` or a worker starts; it ends with them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from adapters.host.own_command import ENTRY
from adapters.host.warm_client import (
    ONE_THREAD,
    RUN_MODULES,
    SWITCH,
    identity,
    is_switched_on,
    private_folder,
    start_warm_process,
    variables_of_warm_process,
)

log = logging.getLogger("roas")

RUN_COMMAND = (*ENTRY, "prefect.engine")
"""Runs a flow run that PREFECT__FLOW_RUN_ID names, in the warm process or else in a process of its own."""

_MODULES = ("flows", "tasks", *RUN_MODULES)
_CHECKED_EVERY_SECONDS = 2.0
_LISTENS_WITHIN_SECONDS = 30.0


class WarmKeeper:
    """Starts a warm process, and another one when it has ended or its code is no longer current."""

    def __init__(self, folder: str) -> None:
        self._socket = Path(folder, f"runs-{os.getpid()}.sock")
        self._ended = threading.Event()
        self._kept: list[int] = []
        self._thread = threading.Thread(target=self._keep, name="warm-keeper", daemon=True)
        self.processes: set[int] = set()
        """The process ids of the warm processes; flow runs are their children."""

    @property
    def socket(self) -> str:
        """The socket's path, which clients get in ROAS_WARM."""
        return str(self._socket)

    def start(self, *, fork: bool = False) -> None:
        """Start the first one at once, and look after it.

        `fork`: it shares the memory of what it imports with this process, which imports that for it.
        """
        if not (fork and self._fork()):
            self._start()
        self._thread.start()

    def wait(self) -> None:
        """Wait until the first one listens: a run that begins before would hold all imports for as long as it runs."""
        first, deadline = set(self.processes), time.monotonic() + _LISTENS_WITHIN_SECONDS
        while first & self.processes and not self._socket.exists() and time.monotonic() < deadline:
            time.sleep(0.1)

    def end(self) -> None:
        """Let the warm processes end when their runs have."""
        self._ended.set()
        for descriptor in self._kept:
            os.close(descriptor)
        self._kept.clear()

    def _start(self) -> None:
        try:
            process, descriptor = start_warm_process(self.socket, identity(), _MODULES, idle_seconds=None)
        except OSError as error:
            log.warning("runs start without a warm process: %s", error)
            return
        self.processes.add(process)
        self._kept.append(descriptor)

    def _fork(self) -> bool:
        """Import the modules and fork the warm process from this one; False where this process cannot fork."""
        from flows.warm.warm_process import code_stamp, has_one_thread, import_before_fork

        stamp, before = code_stamp(), dict(os.environ)
        os.environ |= ONE_THREAD
        try:
            import_before_fork(_MODULES)
        finally:
            for name in ONE_THREAD.keys() - before.keys():
                del os.environ[name]
        if not has_one_thread():
            return False
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            _become_warm_process(self.socket, reading, stamp)
        os.close(reading)
        self.processes.add(process)
        self._kept.append(writing)
        return True

    def _keep(self) -> None:
        listened = False
        while not self._ended.wait(_CHECKED_EVERY_SECONDS):
            ended = {process for process in self.processes if _has_ended(process)}
            self.processes -= ended
            listens = self._socket.exists()
            if not self.processes or (listened and not listens):
                self._start()
            listened = listens


def _become_warm_process(path: str, stdin: int, stamp: int) -> NoReturn:
    """In a fork: leave all that is the other process's own, serve until it is gone, and end."""
    from flows.warm.warm_process import serve_in_fork

    try:
        os.setsid()
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError):
                signal.signal(signum, signal.SIG_DFL)
        log_to = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        for number, descriptor in enumerate((stdin, os.open(os.devnull, os.O_WRONLY), log_to)):
            os.dup2(descriptor, number)
        options = {"socket": path, "identity": identity(), "idle": 0.0}
        variables = variables_of_warm_process(path)
        os.environ.clear()
        os.environ.update(variables)
        # Prefect has set logging up as this service wants it; a request has its own way.
        root = logging.getLogger()
        root.setLevel(logging.WARNING)
        root.handlers.clear()
        serve_in_fork(options, stamp)
    except BaseException:  # noqa: BLE001 - nothing of the process that it was forked from may run here
        traceback.print_exc()
    finally:
        os._exit(0)


def _has_ended(process: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(process, os.WNOHANG)[0] != 0
    return True


@contextmanager
def keep_warm_process(*, fork: bool = False) -> Iterator[WarmKeeper | None]:
    """Keep a warm process during the block, and name it to the processes that are started in it.

    `fork`: the first one is forked from this process, which must have one thread still.
    """
    folder = private_folder() if is_switched_on() else None
    if folder is None:
        yield None
        return
    keeper = WarmKeeper(folder)
    before = os.environ.get(SWITCH)
    keeper.start(fork=fork)
    os.environ[SWITCH] = keeper.socket
    try:
        yield keeper
    finally:
        keeper.end()
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
