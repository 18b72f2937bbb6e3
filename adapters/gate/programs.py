"""Run a program of a gate: without a shell, with a limit of its time and of what it prints."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

_PART = 65_536
_ENDS_WITHIN_SECONDS = 1.0
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
              "SSL_CERT_FILE", "SSL_CERT_DIR",
              "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """How a program ended. `code` is None where it was killed at its time limit; outputs are cut at their limit."""

    code: int | None
    out: str
    err: str
    is_cut: bool = False


def variables_of_programs(*prefixes: str) -> dict[str, str]:
    """The variables that a program of a gate gets: no secret of an environment, and those with one of the prefixes."""
    return {"PATH": os.defpath} | {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or (prefixes and name.startswith(prefixes))
    }


async def run_program(
    words: Sequence[str],
    *,
    limit_seconds: float,
    most_bytes: int,
    given: bytes = b"",
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> ProgramResult:
    """Run a program with `given` on standard input, and kill it with its children at its time limit or on a cancel.

    What it prints beyond `most_bytes` is read and dropped.

    Raises:
        OSError: It cannot be run: it is not there, or no program.
        ValueError: An argument has NUL in it.
    """
    with _file_of(given) as stdin, _pipe() as (out_end, out), _pipe() as (err_end, err):
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=stdin,
            stdout=out,
            stderr=err,
            cwd=folder,
            env=dict(variables_of_programs() if variables is None else variables),
            start_new_session=True,
        )
        out.close()
        err.close()
        # Pipes of asyncio's own would keep it waiting for a child that left the group and holds them.
        outputs = [await _Output.of(end, most_bytes) for end in (out_end, err_end)]
        reading = [asyncio.create_task(one.read()) for one in outputs]
        code: int | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_seconds):
                    code = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await asyncio.wait(reading, timeout=_ENDS_WITHIN_SECONDS)
            for one, task in zip(outputs, reading, strict=True):
                task.cancel()
                one.close()
            await asyncio.wait(reading)
    return ProgramResult(code=code, out=outputs[0].text, err=outputs[1].text, is_cut=outputs[0].is_cut)


@contextmanager
def _file_of(given: bytes) -> Iterator[int]:
    """A file in memory: a program that reads slowly or not at all keeps no writer waiting."""
    with os.fdopen(os.memfd_create("given", os.MFD_CLOEXEC), "w+b") as file:
        file.write(given)
        file.seek(0)
        yield file.fileno()


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    read_end, write_end = os.pipe()
    with FileIO(read_end, "r") as reader, FileIO(write_end, "w") as writer:
        yield reader, writer


class _Output:
    """One output of a program, of which the first bytes are kept."""

    def __init__(self, stream: asyncio.StreamReader, transport: asyncio.ReadTransport, most_bytes: int) -> None:
        self._stream = stream
        self._transport = transport
        self._most = most_bytes
        self._kept = bytearray()
        self.is_cut = False

    @classmethod
    async def of(cls, end: FileIO, most_bytes: int) -> _Output:
        """Read from the end of a pipe, which it then owns."""
        loop, stream = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), end)
        return cls(stream, transport, most_bytes)

    def close(self) -> None:
        """Read no further."""
        self._transport.close()

    async def read(self) -> None:
        """Read to the end."""
        while part := await self._stream.read(_PART):
            free = self._most - len(self._kept)
            self._kept += part[:free]
            self.is_cut |= len(part) > free

    @property
    def text(self) -> str:
        """What was kept; bytes that are not UTF-8 become U+FFFD."""
        return self._kept.decode(errors="replace")
