"""Run programs and stream data from one into another, so that nothing of it lies on the disk of this machine."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Protocol

from adapters.host.programs import kills_for_memory
from core.common.exit_codes import KILLED, MORE_MEMORY, describe_end
from models.failures import SnapshotError

_CHUNK = 1024 * 1024
_SPLICE_BYTES = 64 * 1024
_STDERR_BYTES = 16 * 1024
_OUTPUT_BYTES = 8 * 1024 * 1024
_LOOK_EVERY_SECONDS = 0.2
_ENDS_WITHIN_SECONDS = 5.0
_LAST_WORDS = (b'"message_type":"exit_error"', b"no space left on device")
"""In what restic prints before it ends with a failure; where its disk is full, sometimes the second alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with arguments, none of which is a secret, and its whole environment, which may hold some.

    `what` names for messages what it does, such as "pg_dump in db". One that `outlives` this process runs to its end
    even where this process is killed.
    """

    what: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    outlives: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: its exit code, and the last of what it printed on standard error and output."""

    exit_code: int
    error: str
    output: str = ""
    memory_ran_out: bool = False
    """Whether the kernel killed a process of this machine while it ran because memory ran out."""

    @property
    def was_killed(self) -> bool:
        """Whether another one ended it, or the kernel did so in a container."""
        return self.exit_code < 0 or (self.memory_ran_out and self.exit_code in KILLED)

    @property
    def ending(self) -> str:
        """How it ended, as a clause."""
        return describe_end(self.exit_code, memory_ran_out=self.memory_ran_out)

    @property
    def advice(self) -> str:
        """What to do where it was killed because memory ran out."""
        return MORE_MEMORY if self.memory_ran_out else ""

    def check(self, command: Command) -> None:
        """Raise StreamFailedError where it failed."""
        if self.exit_code != 0:
            raise StreamFailedError(command, self)


class StreamFailedError(SnapshotError):
    """A program failed."""

    def __init__(self, command: Command, ended: Ended) -> None:
        """Name the program and its last words."""
        lines = [line.strip() for line in ended.error.splitlines() if line.strip()]
        words = f": {lines[-1].rstrip('.')}" if lines else ""
        if ended.was_killed:
            super().__init__(f"{command.what} {ended.ending}{words}.", advice=ended.advice)
        else:
            super().__init__(f"{command.what} failed with exit code {ended.exit_code}{words}.")
        self.command = command
        self.ended = ended

    @property
    def is_by_broker(self) -> bool:
        """Whether the broker in front of the engine refused it."""
        return "engine broker:" in self.ended.error


class Limit:
    """How long programs may take: until a time has passed, or until no caller waits for them any more."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.cancelled = threading.Event()

    def end_reason(self) -> str | None:
        """Why a program must end now; None where it need not."""
        if self.cancelled.is_set():
            return "was cancelled"
        return "did not end in time" if time.monotonic() > self.deadline else None


def run(command: Command, limit: Limit, data: bytes = b"") -> Ended:
    """Run a program to its end, and keep the last of what it prints.

    Raises:
        SnapshotError: It is not installed, or did not end in time.
    """
    with _Pipe() as pipe, _start_commands(limit) as start:
        program = start(command, pipe.reading, None)
        output = _Tail(program.stdout, _OUTPUT_BYTES)
        pipe.close_reading()
        with suppress(BrokenPipeError):
            pipe.write(data)
        pipe.close()
        return program.end(output)


def read(command: Command, limit: Limit, into: Callable[[bytes], object]) -> int:
    """Give what a program prints to `into`; how many bytes that were.

    Raises:
        StreamFailedError: It failed, so what it printed is not complete.
        SnapshotError: It is not installed, or did not end in time.
    """
    count = 0
    with _start_commands(limit) as start:
        program = start(command, None, None)
        for chunk in program.chunks():
            into(chunk)
            count += len(chunk)
        program.end().check(command)
    return count


class Inspector(Protocol):
    """Follows a stream while it passes. Of the next `unseen` bytes it needs to know only that they passed."""

    @property
    def unseen_bytes(self) -> int:
        """How many of the next bytes it need not see."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def skip(self, count: int) -> None:
        """Take note that so many bytes passed, at most `unseen`."""

    def finish(self) -> None:
        """Raise where the stream is not complete."""


def stream(source: Command, receiver: Command, limit: Limit, *, before: bytes = b"", after: bytes = b"") -> str:
    """Let a source print into a receiver, between `before` and `after`; what the receiver printed.

    Both have the ends of one pipe, so nothing of the stream passes through this process. The receiver reads an end only
    once the source has ended well; else it is killed first. So a receiver that acts at the end of its input never acts
    on a part of it.

    Raises:
        StreamFailedError: One of them failed.
        SnapshotError: One is not installed, or did not end in time.
    """
    with _Pipe() as pipe, _start_commands(limit) as start:
        writing = start(receiver, pipe.reading, None)
        output = _Tail(writing.stdout, _OUTPUT_BYTES)
        pipe.close_reading()
        try:
            pipe.write(before)
            # This process keeps its own end for writing: while it is open, the receiver reads no end.
            ended = start(source, None, pipe.writing).end()
            if ended.exit_code != 0 and pipe.is_broken():
                raise BrokenPipeError
            ended.check(source)
            pipe.write(after)
        except BrokenPipeError:
            raise StreamFailedError(receiver, writing.end(output)) from None
        pipe.close()
        return _ended_well(writing, output, receiver)


def inspected_stream(source: Command, receiver: Command, limit: Limit, inspector: Inspector) -> str:
    """As `stream`, with an inspector that sees what passes; what it need not see passes inside the kernel.

    Raises:
        StreamFailedError: One of them failed.
        SnapshotError: One is not installed, or did not end in time; or as the inspector.
    """
    with _Pipe() as pipe, _start_commands(limit) as start:
        writing = start(receiver, pipe.reading, None)
        output = _Tail(writing.stdout, _OUTPUT_BYTES)
        pipe.close_reading()
        reading = start(source, None, None)
        try:
            _pass_on(reading.stdout, pipe, inspector)
            reading.end().check(source)
            inspector.finish()
        except BrokenPipeError:
            raise StreamFailedError(receiver, writing.end(output)) from None
        pipe.close()
        return _ended_well(writing, output, receiver)


def _pass_on(source: IO[bytes] | None, pipe: _Pipe, inspector: Inspector) -> None:
    while source is not None:
        if inspector.unseen_bytes >= _SPLICE_BYTES:
            count = os.splice(source.fileno(), pipe.writing, min(inspector.unseen_bytes, _CHUNK))
            inspector.skip(count)
        else:
            chunk = os.read(source.fileno(), inspector.unseen_bytes + _SPLICE_BYTES)
            count = len(chunk)
            inspector.feed(chunk)
            pipe.write(chunk)
        if not count:
            return


def _ended_well(receiver: _Program, output: _Tail, command: Command) -> str:
    ended = receiver.end(output)
    ended.check(command)
    return ended.output


class _Pipe:
    """A pipe between two programs, of which this process has both ends at first.

    It must outlast the programs: where it is closed first, the receiver reads the end of a part before it is killed.
    """

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        _enlarge(self.writing)
        self._open = {self.reading, self.writing}

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Write all of it; raises BrokenPipeError where no program reads it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.writing, view) :]

    def is_broken(self) -> bool:
        """Whether no program reads it any more."""
        poll = select.poll()
        poll.register(self.writing, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def close_reading(self) -> None:
        """Leave the end for reading to the program that has it."""
        self._close(self.reading)

    def close(self) -> None:
        """Let the receiver read the end, once the source has closed its own end too."""
        for end in tuple(self._open):
            self._close(end)

    def _close(self, end: int) -> None:
        if end in self._open:
            self._open.discard(end)
            os.close(end)


class _Tail:
    """Reads a stream in a thread, and keeps the last of it."""

    def __init__(self, source: IO[bytes] | None, most: int) -> None:
        # A descriptor of its own: what the program's owner closes may be another program's before the next read.
        self._source = None if source is None else os.dup(source.fileno())
        self._kept, self._most = bytearray(), most
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._source is None:
            return
        try:
            while chunk := os.read(self._source, 65_536):
                self._kept += chunk
                del self._kept[: -self._most]
        finally:
            os.close(self._source)

    def has(self, words: bytes) -> bool:
        """Whether these were among the last of it, so far."""
        return words in self._kept

    def text(self) -> str:
        """All that was kept, once the stream has ended."""
        self._thread.join()
        return self._kept.decode(errors="replace")


class _Program:
    """A program that runs, in a group of its own with all that it starts."""

    def __init__(self, command: Command, limit: Limit, stdin: int | None, printed: int | None) -> None:
        """`stdin` and `printed` are descriptors of its input and output; without them there is none, and a pipe."""
        try:
            self._process = subprocess.Popen(
                command.arguments,
                env={"PATH": os.defpath, **command.variables},
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE if printed is None else printed,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
                preexec_fn=None if command.outlives else _EndWithParent(),
            )
        except FileNotFoundError as error:
            raise missing_program(command.arguments[0]) from error
        self._command, self._limit, self._kills = command, limit, kills_for_memory()
        self._ends_at: float | None = None
        self.stdout = self._process.stdout
        self._errors = _Tail(self._process.stderr, _STDERR_BYTES)
        if self.stdout is not None:
            _enlarge(self.stdout.fileno())

    def chunks(self) -> Iterator[bytes]:
        """What it prints, until its end."""
        while self.stdout is not None and (chunk := os.read(self.stdout.fileno(), _CHUNK)):
            yield chunk

    def end(self, output: _Tail | None = None) -> Ended:
        """Wait for its end.

        Raises:
            SnapshotError: It was killed since the limit was reached.
        """
        exit_code = self._process.wait()
        if reached := self._limit.end_reason():
            advice = "" if "cancelled" in reached else "data.timeout_seconds of the environment allows more."
            raise SnapshotError(f"{self._command.what} {reached}.", advice=advice)
        return Ended(
            exit_code=exit_code,
            error=self._errors.text(),
            output=output.text() if output else "",
            memory_ran_out=kills_for_memory() > self._kills,
        )

    def hangs(self) -> bool:
        """Whether it said some time ago why it ends, and has not ended.

        restic 0.18 does so now and then where its disk is full.
        """
        if self._ends_at is None and any(self._errors.has(words) for words in _LAST_WORDS):
            self._ends_at = time.monotonic()
        return self._ends_at is not None and time.monotonic() - self._ends_at > _ENDS_WITHIN_SECONDS

    def kill(self) -> None:
        """End it, and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for its end, and close what leads to it."""
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _EndWithParent:
    """Lets the kernel kill a program when this process ends, however that ends.

    Two programs with one pipe would go on without it, and take a part of the data for all of it, or write into a
    repository or folder that the next operation uses.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()

    def __call__(self) -> None:
        """Called in the new process before the program begins: no lock may be taken here."""
        _LIBC.prctl(_DEATH_SIGNAL_OPTION, signal.SIGKILL)
        if os.getppid() != self._parent:
            os._exit(1)


_LIBC = ctypes.CDLL(None)
_DEATH_SIGNAL_OPTION = 1
"""prctl's PR_SET_PDEATHSIG."""


def _enlarge(pipe: int) -> None:
    # Fewer turns between two programs; a user's limit may refuse it.
    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)


@contextmanager
def _start_commands(limit: Limit) -> Iterator[Callable[[Command, int | None, int | None], _Program]]:
    """Starts programs that are killed at the end, or where the limit is reached."""
    programs: list[_Program] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_SECONDS):
            for program in programs:
                if limit.end_reason() or program.hangs():
                    program.kill()

    def start(command: Command, stdin: int | None, printed: int | None) -> _Program:
        programs.append(_Program(command, limit, stdin, printed))
        return programs[-1]

    watching = threading.Thread(target=watch, daemon=True)
    try:
        watching.start()
        yield start
    finally:
        over.set()
        for program in programs:
            program.kill()
        for program in programs:
            program.close()


def missing_program(program: str) -> SnapshotError:
    """The error for a program that is not installed."""
    package = {"docker": "docker-cli"}.get(program, program)
    return SnapshotError(
        f"The program {program} is not installed on this machine;",
        advice=f"install it, on Debian by `apt-get install {package}`.",
    )
