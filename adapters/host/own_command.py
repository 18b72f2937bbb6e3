"""Run a `roas` command in a process of its own, for a program that offers commands to others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from adapters.host.oom_score import spare_as_before

ENTRY = (sys.executable, "-P", "-m", "cli.entry")
"""Runs a module or function of Python, named behind it: in the warm process, or else in a process of its own."""

_RUN = "import sys; sys.argv[0] = 'roas'; from cli.entry import main; main()"
_CANCELLED_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended: its exit code, standard output and the lines of standard error."""

    code: int
    out: str
    lines: tuple[str, ...]

    @property
    def error(self) -> str:
        """The command's error in one line; empty if it printed none."""
        errors = [line.removeprefix("roas: ") for line in self.lines if line.startswith("roas: ")]
        return errors[-1] if errors else ""


class BegunCommand:
    """A command that goes on when this process ends. Its output is kept as long as this object."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process, self._output, self._ended = process, output, threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.returncode

    def wait(self, seconds: float) -> None:
        """Wait for its end, at most so many seconds."""
        self._ended.wait(seconds)

    def tail(self, most_bytes: int) -> tuple[str, ...]:
        """The last lines of its output, of at most so many bytes in all."""
        size = os.fstat(self._output.fileno()).st_size
        start = max(0, size - most_bytes)
        lines = os.pread(self._output.fileno(), most_bytes, start).decode(errors="backslashreplace").split("\n")
        # Its first line may have begun before.
        return tuple(line for line in lines[bool(start) :] if line.strip())

    def _wait(self) -> None:
        # A child that has ended stays on the kernel's list, as a zombie, until its parent has waited for it.
        self._process.wait()
        self._ended.set()


def begin_own_command(
    words: Sequence[str], *, variables: Mapping[str, str], folder: Path | None, descriptors: Sequence[int] = ()
) -> BegunCommand:
    """Begin `roas WORDS` with these variables alone, in a folder, and with these open descriptors.

    Raises:
        OSError: It cannot be begun.
    """
    # Without a name, so nothing is left of it; a pipe would end the command where this process does.
    output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the command
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _RUN, *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=variables,
        cwd=folder,
        pass_fds=tuple(descriptors),
        start_new_session=True,
    )
    spare_as_before(process.pid)
    return BegunCommand(process, output)


async def run_own_command(
    words: Sequence[str], *, stdin: str = "", variables: Mapping[str, str], report: Callable[[str], None]
) -> CommandResult:
    """Run `roas WORDS` with `stdin` on standard input; `report` gets each line of its standard error.

    A cancelled call interrupts the command as Ctrl-C does, and waits until it has recorded that. The command is in a
    session of its own: what ends this process with its group does not cut an operation off.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", _RUN, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
        start_new_session=True,
    )
    output, errors = cast(asyncio.StreamReader, process.stdout), cast(asyncio.StreamReader, process.stderr)
    writer = cast(asyncio.StreamWriter, process.stdin)
    lines: list[str] = []

    async def read_errors(stream: asyncio.StreamReader) -> None:
        partial_line = b""
        while part := await stream.read(65536):
            *whole, partial_line = (partial_line + part).split(b"\n")
            for line in whole:
                lines.append(line.decode(errors="backslashreplace"))
                report(lines[-1])

    async def write(stream: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            stream.write(stdin.encode())
            await stream.drain()
        stream.close()

    try:
        out, _, _ = await asyncio.gather(output.read(), read_errors(errors), write(writer))
        code = await process.wait()
    except asyncio.CancelledError:
        await asyncio.shield(_interrupt(process))
        raise
    return CommandResult(code=code, out=out.decode(errors="backslashreplace"), lines=tuple(lines))


async def _interrupt(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(TimeoutError):
        # It is still being read: a full pipe would stop it.
        await asyncio.wait_for(process.communicate(), _CANCELLED_WITHIN_SECONDS)
