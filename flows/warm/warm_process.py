"""The warm process: it imports the program once, and forks for each request (adapters/host/warm_client.py asks).

It has one thread, no event loop, no client and no database: a fork copies only the calling thread, and whatever others
held would stay locked. It reads no request itself; it forks, forwards signals, and reports how each fork ended.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import pkgutil
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.host.oom_score import end_before_others, spare_as_before
from adapters.host.warm_client import ENDED, SENT_TO_A_JOB, STOPPED, end_with_parent, user_of
from flows.common.memory import give_back
from flows.server.engine_settings import prepare_for_forks
from flows.warm.warm_child import BEGUN, run_request

_PACKAGES = ("adapters", "cli", "core", "flows", "models", "tasks")
_KILL_AFTER_SECONDS = 10.0
"""From the SIGTERM to a program whose client is gone; an operation under way records its end meanwhile."""

_BACKLOG = 128


def main(options: dict[str, Any]) -> None:
    """Serve until no command has come for a while, or the code changed; `options` comes from `start_warm_process`."""
    os.closerange(3, 65536)
    os.chdir("/")
    lock = _take_lock(f"{options['socket']}.lock")
    if lock is None:
        return
    stamp = code_stamp()
    _import(options["modules"])
    if code_stamp() != stamp:
        return
    _serve(options, lock, stamp)


def serve_in_fork(options: dict[str, Any], stamp: int) -> None:
    """Serve in a fork of a process that had `import_before_fork` import the modules, when the code had this stamp."""
    os.closerange(3, 65536)
    os.chdir("/")
    lock = _take_lock(f"{options['socket']}.lock")
    if lock is not None and code_stamp() == stamp:
        _serve(options, lock, stamp)


def _serve(options: dict[str, Any], lock: int, stamp: int) -> None:
    listening = _listen(options["socket"])
    place = _Place(options["socket"], listening, lock)
    try:
        WarmProcess(place, options["identity"], stamp, options["idle"]).serve()
    finally:
        place.leave()


def code_stamp() -> int:
    """A number that changes when a file of the program changes, or the interpreter, or a library comes or goes."""
    root = Path(__file__).parents[2]
    stamps: list[tuple[str, int, int]] = []
    for package in (*_PACKAGES, "patterns"):
        for folder, _, names in os.walk(root / package):
            if not folder.endswith("__pycache__"):
                stamps.extend(map(_stamp_of, (f"{folder}/{name}" for name in names)))
    libraries = [path for path in sys.path if path.endswith("-packages")]
    stamps.extend(map(_stamp_of, (sys.executable, *libraries)))
    return hash(tuple(sorted(stamps)))


def _stamp_of(path: str) -> tuple[str, int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return path, 0, 0
    return path, status.st_mtime_ns, status.st_size


def _import(modules: list[str]) -> None:
    """Import modules, and packages of ours whole, and leave logging as a command finds it in its own process."""
    import logging

    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    import_before_fork(modules)
    # Prefect sets logging up when it is imported, with settings that are not those of a request.
    root.setLevel(level)
    root.handlers[:] = handlers
    if not has_one_thread():
        sys.exit("A module has started a thread when it was imported, so this process cannot fork.")


def import_before_fork(modules: Sequence[str]) -> None:
    """Import modules, and packages of ours whole, and make ready what each fork needs."""
    for name in modules:
        module = importlib.import_module(name)
        for inner in pkgutil.walk_packages(module.__path__, f"{name}.") if name in _PACKAGES else ():
            importlib.import_module(inner.name)
    prepare_for_forks()
    gc.collect()
    give_back()
    # The collector would write into pages that forks share.
    gc.freeze()


def has_one_thread() -> bool:
    """Whether this process can fork: a fork has the calling thread only."""
    return threading.active_count() == 1 and len(list(Path("/proc/self/task").iterdir())) == 1


def _take_lock(path: str) -> int | None:
    """The lock of the one warm process at a place; None where another process holds it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before removed the file between the two calls: then no process has this lock.
            with suppress(FileNotFoundError):
                if Path(path).stat().st_ino == os.fstat(lock).st_ino:
                    return lock
        except BlockingIOError:
            os.close(lock)
            return None
        os.close(lock)


def _listen(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        # Of a warm process that was killed; no other process has the lock.
        Path(path).unlink()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    Path(path).chmod(0o600)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


@dataclass
class _Place:
    """The socket's path, and the lock that makes it ours, until we leave it to the next warm process."""

    path: str
    listening: socket.socket
    lock: int

    @property
    def is_left(self) -> bool:
        return self.lock < 0

    def leave(self) -> None:
        """Listen no more; the next warm process may come."""
        if self.is_left:
            return
        for path in (self.path, f"{self.path}.lock", f"{self.path}.log"):
            with suppress(OSError):
                Path(path).unlink()
        self.listening.close()
        os.close(self.lock)
        self.lock = -1


@dataclass
class _Child:
    """A fork that runs a program for a client."""

    process: int
    connection: socket.socket
    begun: int
    kill_at: float | None = None

    def send(self, number: int) -> None:
        """Send a signal as the kernel would to an ordinary command."""
        if number in SENT_TO_A_JOB:
            os.killpg(self.process, number)
        else:
            os.kill(self.process, number)

    def report(self, what: bytes, status: int) -> None:
        with suppress(OSError):
            self.connection.sendall(what + status.to_bytes(4, "big"))


@dataclass
class WarmProcess:
    """Accepts clients, forks for each, and looks after the forks."""

    place: _Place
    identity: str
    stamp: int
    idle_seconds: float
    """How long without a client until it ends; 0: until standard input ends."""

    _children: dict[int, _Child] = field(default_factory=dict)
    _events: selectors.BaseSelector = field(default_factory=selectors.PollSelector)
    _ends_at: float = 0.0

    def serve(self) -> None:
        """Serve until it is left and no fork runs any more."""
        with _child_ends() as ends:
            self._watch(ends, lambda: self._reap(ends))
            self._watch(self.place.listening, self._accept)
            if not self.idle_seconds:
                self._watch(0, self._leave)
            self._be_idle()
            while self._children or not self.place.is_left:
                for key, _ in self._events.select(self._timeout()):
                    # An event before it may have closed what this one is about.
                    if self._is_watched(key):
                        key.data()
                self._end_overdue()

    def _watch(self, what: int | socket.socket, then: Callable[[], None]) -> None:
        self._events.register(what, selectors.EVENT_READ, then)

    def _is_watched(self, key: selectors.SelectorKey) -> bool:
        try:
            return self._events.get_key(key.fileobj) is key
        except (KeyError, ValueError):
            return False

    def _be_idle(self) -> None:
        self._ends_at = time.monotonic() + self.idle_seconds
        if not self._children:
            end_before_others()

    def _timeout(self) -> float | None:
        ends = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        if self.idle_seconds and not self._children and not self.place.is_left:
            ends.append(self._ends_at)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.kill_at is not None and now >= child.kill_at:
                child.kill_at = None
                os.killpg(child.process, signal.SIGKILL)
        if self.idle_seconds and not self._children and not self.place.is_left and now >= self._ends_at:
            self._leave()

    def _leave(self) -> None:
        for what in (self.place.listening, 0):
            with suppress(KeyError, ValueError):
                self._events.unregister(what)
        self.place.leave()

    def _accept(self) -> None:
        try:
            connection, _ = self.place.listening.accept()
        except OSError:
            return
        if user_of(connection) != os.geteuid():
            connection.close()
            return
        if code_stamp() != self.stamp:
            connection.close()
            self._leave()
            return
        self._fork(connection)

    def _fork(self, connection: socket.socket) -> None:
        reading, writing = os.pipe()
        parent = os.getpid()
        spare_as_before()
        process = os.fork()
        if process == 0:
            _become_child(parent, (connection.fileno(), writing))
            run_request(connection, writing, self.identity)
        os.close(writing)
        with suppress(OSError):
            os.setpgid(process, process)
        child = _Child(process, connection, reading)
        self._children[process] = child
        self._watch(reading, lambda: self._begin(child))

    def _begin(self, child: _Child) -> None:
        """Serve the client's connection from here on: before, the fork itself reads its request."""
        begun = os.read(child.begun, 1)
        self._events.unregister(child.begun)
        os.close(child.begun)
        child.begun = -1
        if begun == BEGUN:
            self._watch(child.connection, lambda: self._forward(child))

    def _forward(self, child: _Child) -> None:
        try:
            numbers = child.connection.recv(512)
        except OSError:
            numbers = b""
        if not numbers:
            # The client was killed, and no client waits for the program any more.
            self._events.unregister(child.connection)
            child.send(signal.SIGTERM)
            child.send(signal.SIGCONT)
            child.kill_at = time.monotonic() + _KILL_AFTER_SECONDS
        for number in numbers:
            child.send(number)

    def _reap(self, ends: int) -> None:
        with suppress(BlockingIOError):
            os.read(ends, 512)
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if process == 0:
                return
            if os.WIFSTOPPED(status):
                self._children[process].report(STOPPED, status)
            else:
                self._forget(self._children.pop(process), status)

    def _forget(self, child: _Child, status: int) -> None:
        if child.begun >= 0:
            self._events.unregister(child.begun)
            os.close(child.begun)
        with suppress(KeyError):
            self._events.unregister(child.connection)
        child.report(ENDED, status)
        child.connection.close()
        self._be_idle()


@contextmanager
def _child_ends() -> Iterator[int]:
    """A descriptor that can be read when a fork has ended or stopped."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    yield reading


def _become_child(parent: int, descriptors: tuple[int, ...]) -> None:
    """Leave all that is the warm process's own: its signals, its group, its descriptors but the kept ones."""
    os.setpgid(0, 0)
    # A program that cannot be signalled any more, and whose end is not reported, must not go on.
    end_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    low = 3
    for number in (*sorted(descriptors), 65536):
        os.closerange(low, number)
        low = number + 1
