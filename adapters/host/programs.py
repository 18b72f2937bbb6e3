"""Run a program without a shell: with limits of its time and of what it prints, and killed with its children."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

_PART = 65_536
_ENDS_WITHIN_SECONDS = 1.0
"""How long a child that left the group may keep an output open after the program has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """How a program ended. `code` is None where it was killed at a limit or on a stop.

    Outputs are cut at their limit; `is_cut` says so of standard output. They may hold secrets, so no representation
    has them.
    """

    code: int | None
    output: bytes = field(default=b"", repr=False)
    errors: bytes = field(default=b"", repr=False)
    is_cut: bool = False

    @property
    def out(self) -> str:
        """Standard output; bytes that are not UTF-8 become U+FFFD."""
        return self.output.decode(errors="replace")

    @property
    def err(self) -> str:
        """Standard error; bytes that are not UTF-8 become U+FFFD."""
        return self.errors.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """A program to run, with exactly these variables. `passed` are open files that it gets; `umask` is -1 for ours.

    What it prints beyond `most_bytes` of each output is read and dropped, or, with `stop_when_cut`, ends it.
    """

    words: Sequence[str]
    variables: Mapping[str, str] = field(repr=False)
    limit_seconds: float
    most_bytes: int
    given: bytes = field(default=b"", repr=False)
    folder: Path | None = None
    passed: Sequence[int] = ()
    umask: int = -1
    stop_when_cut: bool = False


def run_to_end(program: ProgramRun, stop: int | None = None) -> ProgramResult:
    """Run a program with `given` on standard input, and kill it with its children at its time limit.

    It is killed as well once the open file `stop` can be read, and where the caller is interrupted.

    Raises:
        OSError: It cannot be run: it is not there, or no program.
        ValueError: An argument has NUL in it.
    """
    with _file_of(program.given) as stdin, _pipe() as (out_end, out), _pipe() as (err_end, err):
        process = subprocess.Popen(
            list(program.words),
            stdin=stdin,
            stdout=out,
            stderr=err,
            cwd=program.folder,
            env=dict(program.variables),
            start_new_session=True,
            pass_fds=tuple(program.passed),
            umask=program.umask,
        )
        out.close()
        err.close()
        outputs = [
            _Output(out_end.fileno(), program.most_bytes, ends_program=program.stop_when_cut),
            _Output(err_end.fileno(), program.most_bytes),
        ]
        try:
            ended = _read(process.pid, outputs, stop, program.limit_seconds)
        finally:
            _kill(process.pid)
            process.wait()
    code = process.returncode if ended else None
    return ProgramResult(
        code=code, output=bytes(outputs[0].data), errors=bytes(outputs[1].data), is_cut=outputs[0].is_cut
    )


def _read(process_id: int, outputs: Sequence[_Output], stop: int | None, seconds: float) -> bool:
    """Read outputs to the end of a program, and kill what is left; False where it did not end by itself."""
    with selectors.DefaultSelector() as waiting, _ending(process_id) as end:
        for output in outputs:
            waiting.register(output.file, selectors.EVENT_READ, output)
        files = [file for file in (end, stop) if file is not None]
        for file in files:
            waiting.register(file, selectors.EVENT_READ)
        try:
            ended = _read_until(waiting, end, stop, seconds)
        finally:
            _kill(process_id)
        for file in files:
            waiting.unregister(file)
        _read_until(waiting, None, None, _ENDS_WITHIN_SECONDS)
    return ended


def _kill(process_id: int) -> None:
    """Kill a program and its children. It is not waited for yet, so no other process can have its number."""
    with suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


class _Output:
    """One output of a program, of which the first bytes are kept."""

    def __init__(self, file: int, most: int, *, ends_program: bool = False) -> None:
        self.file = file
        self._most, self._ends_program = most, ends_program
        self.data = bytearray()
        self.is_cut = False

    @property
    def is_over(self) -> bool:
        """Whether its program is to be killed."""
        return self.is_cut and self._ends_program

    def read(self) -> bool:
        """Read what is there; False at its end."""
        part = os.read(self.file, _PART)
        free = self._most - len(self.data)
        self.data += part[:free]
        self.is_cut |= len(part) > free
        return bool(part)


def _read_until(waiting: selectors.BaseSelector, end: int | None, stop: int | None, seconds: float) -> bool:
    """Read outputs until the program ends; False where it was stopped, or its time is over.

    Without `end`, until the outputs end.
    """
    deadline = time.monotonic() + seconds
    while waiting.get_map():
        remaining_seconds = deadline - time.monotonic()
        ready = {key.fileobj: key.data for key, _ in waiting.select(max(0.0, remaining_seconds))}
        for file, output in ready.items():
            if output is not None and not output.read():
                waiting.unregister(file)
        if end is not None and end in ready:
            return True
        is_over = any(output.is_over for output in ready.values() if output is not None)
        if remaining_seconds <= 0 or is_over or (stop is not None and stop in ready):
            return False
    return True


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    read_end, write_end = os.pipe()
    with FileIO(read_end, "r") as reader, FileIO(write_end, "w") as writer:
        yield reader, writer


@contextmanager
def _ending(process_id: int) -> Iterator[int]:
    """A file that can be read once the process has ended."""
    file = os.pidfd_open(process_id)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _file_of(content: bytes) -> Iterator[int]:
    """A file in memory: a program that reads slowly or not at all keeps no writer waiting."""
    with os.fdopen(os.memfd_create("given", os.MFD_CLOEXEC), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()
