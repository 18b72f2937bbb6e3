"""Run a program without a shell: with limits of its time and of what it prints, and killed with its children.

Streams between programs are in adapters/snapshots/streams.py: nothing of those passes through this process.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from core.common.exit_codes import describe_end

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
    memory_ran_out: bool = False
    """Whether the kernel killed a process of this machine while it ran because memory ran out."""

    @property
    def out(self) -> str:
        """Standard output; bytes that are not UTF-8 become U+FFFD."""
        return self.output.decode(errors="replace")

    @property
    def err(self) -> str:
        """Standard error; bytes that are not UTF-8 become U+FFFD."""
        return self.errors.decode(errors="replace")

    @property
    def ending(self) -> str:
        """How it ended, as a clause."""
        assert self.code is not None  # noqa: S101 - the caller knows what its limit means
        return describe_end(self.code, memory_ran_out=self.memory_ran_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """A program to run, with exactly these variables. `passed` are open files that it gets; `umask` is -1 for ours.

    What it prints beyond `most_bytes` of each output is read and dropped, or, with `stop_when_cut`, ends it. Of one
    that `writes_log` both outputs are one, whose last bytes are kept; it ends once no child holds that open, and
    children that do not may outlive it. A `user` other than this one needs root.
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
    writes_log: bool = False
    user: str | None = None


def run_to_end(program: ProgramRun, stop: int | None = None) -> ProgramResult:
    """Run a program with `given` on standard input, and kill it with its children at its time limit.

    It is killed as well once the open file `stop` can be read, and where the caller is interrupted.

    Raises:
        OSError: It cannot be run: it is not there, or no program.
        ValueError: An argument has NUL in it.
        KeyError: There is no such user.
    """
    group = None if program.user is None else pwd.getpwnam(program.user).pw_gid
    kills = kills_for_memory()
    with _file_of(program.given) as stdin, _pipe() as (out_end, out), _pipe() as (err_end, err):
        process = subprocess.Popen(
            list(program.words),
            stdin=stdin,
            stdout=out,
            stderr=subprocess.STDOUT if program.writes_log else err,
            cwd=program.folder,
            env=dict(program.variables),
            start_new_session=True,
            pass_fds=tuple(program.passed),
            umask=program.umask,
            user=program.user,
            group=group,
            extra_groups=None if program.user is None else [],
        )
        out.close()
        err.close()
        outputs = [_Output(out_end.fileno(), program, ends_program=program.stop_when_cut)]
        outputs.append(_Output(err_end.fileno(), program))
        ended = False
        try:
            ended = _read(process.pid, outputs, stop, program)
        finally:
            if not ended:
                _kill(process.pid)
            process.wait()
    code = process.returncode if ended else None
    return ProgramResult(
        code=code,
        output=bytes(outputs[0].data),
        errors=bytes(outputs[1].data),
        is_cut=outputs[0].is_cut,
        memory_ran_out=kills_for_memory() > kills,
    )


def kills_for_memory() -> int:
    """How many processes the kernel has killed since it started because memory ran out; 0 where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


async def run_beside(program: ProgramRun) -> ProgramResult:
    """As `run_to_end`, beside others; where the caller is cancelled, the program is killed first."""
    stop, stopping = os.pipe()
    # A thread of its own: those of the loop are few, and programs may run for minutes.
    with ThreadPoolExecutor(1, thread_name_prefix="program") as pool:
        running = asyncio.get_running_loop().run_in_executor(pool, run_to_end, program, stop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            os.write(stopping, b".")
            await _wait_for_end(running)
            raise
        finally:
            os.close(stopping)
            os.close(stop)


async def _wait_for_end(running: asyncio.Future[ProgramResult]) -> None:
    """Wait until a program that is being killed has ended, also where the caller is cancelled again."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    running.exception()


def _read(process_id: int, outputs: Sequence[_Output], stop: int | None, program: ProgramRun) -> bool:
    """Read outputs to the end of a program, and kill what is left; False where it did not end by itself."""
    files = {output.file for output in outputs}
    with selectors.DefaultSelector() as waiting, _watch_end(process_id) as end:
        for output in outputs:
            waiting.register(output.file, selectors.EVENT_READ, output)
        for file in (end, stop):
            if file is not None:
                waiting.register(file, selectors.EVENT_READ)
        ended = _read_until(waiting, files | {end} if program.writes_log else {end}, stop, program.limit_seconds)
        if not (ended and program.writes_log):
            _kill(process_id)
        _read_until(waiting, files & waiting.get_map().keys(), None, _ENDS_WITHIN_SECONDS)
    return ended


def _kill(process_id: int) -> None:
    """Kill a program and its children. It is not waited for yet, so no other process can have its number."""
    with suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


class _Output:
    """One output of a program, of which the first bytes are kept, or the last of a log."""

    def __init__(self, file: int, program: ProgramRun, *, ends_program: bool = False) -> None:
        self.file, self._program, self._ends_program = file, program, ends_program
        self.data = bytearray()
        self.is_cut = False

    @property
    def is_over(self) -> bool:
        """Whether its program is to be killed."""
        return self.is_cut and self._ends_program

    def read(self) -> bool:
        """Read what it has printed; False at its end."""
        part, most = os.read(self.file, _PART), self._program.most_bytes
        self.data += part
        self.is_cut |= len(self.data) > most
        del self.data[slice(-most) if self._program.writes_log else slice(most, None)]
        return bool(part)


def _read_until(waiting: selectors.BaseSelector, awaited: set[int], stop: int | None, seconds: float) -> bool:
    """Read outputs until all that is awaited has ended; False where that was stopped, or its time is over."""
    deadline = time.monotonic() + seconds
    while awaited:
        remaining_seconds = deadline - time.monotonic()
        ready = {key.fd: key.data for key, _ in waiting.select(max(0.0, remaining_seconds))}
        for file, output in ready.items():
            if file != stop and (output is None or not output.read()):
                waiting.unregister(file)
                awaited = awaited - {file}
        is_over = any(output.is_over for output in ready.values() if output is not None)
        if awaited and (remaining_seconds <= 0 or is_over or stop in ready):
            return False
    return True


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    read_end, write_end = os.pipe()
    with FileIO(read_end, "r") as reader, FileIO(write_end, "w") as writer:
        yield reader, writer


@contextmanager
def _watch_end(process_id: int) -> Iterator[int]:
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
