"""Run programs and stream data from one into another, so that nothing of it lies on the disk of this machine."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO

from models.failures import SnapshotError

_CHUNK = 1024 * 1024
_STDERR_BYTES = 16 * 1024
_OUTPUT_BYTES = 8 * 1024 * 1024
_LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with arguments, none of which is a secret, and its whole environment, which may hold some.

    `what` names for messages what it does, such as "pg_dump in db".
    """

    what: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: its exit code, and the last of what it printed on standard error and output."""

    exit_code: int
    error: str
    output: str = ""

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
        super().__init__(f"{command.what} failed with exit code {ended.exit_code}{words}.")
        self.command = command
        self.ended = ended


class Limit:
    """How long programs may take: until a time has passed, or until nobody waits for them any more."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.cancelled = threading.Event()

    def reached(self) -> str | None:
        """Why a program must end now; None where it need not."""
        if self.cancelled.is_set():
            return "was cancelled"
        return "did not end in time" if time.monotonic() > self.deadline else None


def run(command: Command, limit: Limit, given: bytes = b"") -> Ended:
    """Run a program to its end, and keep the last of what it prints.

    Raises:
        SnapshotError: It is not installed, or did not end in time.
    """
    with _started(limit, (command, True)) as (program,):
        output = _Tail(program.stdout, _OUTPUT_BYTES)
        with suppress(BrokenPipeError):
            program.write(given)
        program.close_input()
        return program.end(output)


def read(command: Command, limit: Limit, into: Callable[[bytes], object]) -> int:
    """Give what a program prints to `into`; how many bytes that were.

    Raises:
        StreamFailedError: It failed, so what it printed is not complete.
        SnapshotError: It is not installed, or did not end in time.
    """
    count = 0
    with _started(limit, (command, False)) as (program,):
        for chunk in program.chunks():
            into(chunk)
            count += len(chunk)
        program.end().check(command)
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """Result of a stream: the bytes that the source printed, and what the receiver printed."""

    bytes: int
    output: str


def stream(
    source: Command,
    receiver: Command,
    limit: Limit,
    *,
    inspect: Callable[[bytes], object] | None = None,
    finish: Callable[[], object] | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> Streamed:
    """Give what a source prints to a receiver, between `before` and `after`.

    The receiver reads an end only once the source has ended well and `finish` has raised nothing; else it is killed
    first. So a receiver that acts at the end of its input never acts on a part of it. `inspect` gets every chunk.

    Raises:
        StreamFailedError: One of them failed.
        SnapshotError: One is not installed, or did not end in time; or as `inspect` and `finish`.
    """
    count = 0
    with _started(limit, (receiver, True), (source, False)) as (writing, reading):
        output = _Tail(writing.stdout, _OUTPUT_BYTES)
        try:
            writing.write(before)
            for chunk in reading.chunks():
                if inspect is not None:
                    inspect(chunk)
                writing.write(chunk)
                count += len(chunk)
            reading.end().check(source)
            if finish is not None:
                finish()
            writing.write(after)
        except BrokenPipeError:
            ended = writing.end(output)
            raise StreamFailedError(receiver, ended) from None
        writing.close_input()
        ended = writing.end(output)
        ended.check(receiver)
        return Streamed(bytes=count, output=ended.output)


class _Tail:
    """Reads a stream in a thread, and keeps the last of it."""

    def __init__(self, source: IO[bytes] | None, most: int) -> None:
        self._kept, self._source, self._most = bytearray(), source, most
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._source is None:
            return
        with suppress(ValueError, OSError):
            while chunk := os.read(self._source.fileno(), 65_536):
                self._kept += chunk
                del self._kept[: -self._most]

    def text(self) -> str:
        """All that was kept, once the stream has ended."""
        self._thread.join()
        return self._kept.decode(errors="replace")


class _Program:
    """A program that runs, in a group of its own with all that it starts."""

    def __init__(self, command: Command, limit: Limit, *, with_input: bool) -> None:
        try:
            self._process = subprocess.Popen(
                command.arguments,
                env={"PATH": os.defpath, **command.variables},
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except FileNotFoundError as error:
            raise missing(command.arguments[0]) from error
        self._command, self._limit = command, limit
        self.stdout = self._process.stdout
        self._errors = _Tail(self._process.stderr, _STDERR_BYTES)
        for pipe in (self._process.stdin, self.stdout):
            # Fewer turns between two programs; a user's limit may refuse it.
            with suppress(OSError):
                if pipe is not None:
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _CHUNK)

    def write(self, data: bytes) -> None:
        """Write all of it to its input."""
        left = memoryview(data)
        while left and self._process.stdin is not None:
            left = left[os.write(self._process.stdin.fileno(), left) :]

    def close_input(self) -> None:
        """Let it read the end of its input."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

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
        if reached := self._limit.reached():
            advice = "" if "cancelled" in reached else "data.timeout_seconds of the environment allows more."
            raise SnapshotError(f"{self._command.what} {reached}.", advice=advice)
        return Ended(exit_code=exit_code, error=self._errors.text(), output=output.text() if output else "")

    def kill(self) -> None:
        """End it, and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for its end, and close what leads to it."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


@contextmanager
def _started(limit: Limit, *commands: tuple[Command, bool]) -> Iterator[Sequence[_Program]]:
    """Programs that are killed at the end, or where the limit is reached."""
    programs: list[_Program] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_SECONDS):
            if limit.reached():
                for program in programs:
                    program.kill()

    watching = threading.Thread(target=watch, daemon=True)
    try:
        programs.extend(_Program(command, limit, with_input=with_input) for command, with_input in commands)
        watching.start()
        yield programs
    finally:
        over.set()
        for program in programs:
            program.kill()
        for program in programs:
            program.close()


def missing(program: str) -> SnapshotError:
    """The error for a program that is not installed."""
    package = {"docker": "docker-cli"}.get(program, program)
    return SnapshotError(
        f"The program {program} is not installed on this machine;",
        advice=f"install it, on Debian by `apt-get install {package}`.",
    )
