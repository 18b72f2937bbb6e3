"""Run a program of a gate beside others: without a secret of an environment, and killed on a cancel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.host.programs import ProgramResult, ProgramRun, run_to_end

_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
              "SSL_CERT_FILE", "SSL_CERT_DIR",
              "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip


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
    stdin: bytes = b"",
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> ProgramResult:
    """Run a program with `stdin` on standard input, and kill it with its children at its time limit or on a cancel.

    What it prints beyond `most_bytes` is read and dropped.

    Raises:
        OSError: It cannot be run: it is not there, or no program.
        ValueError: An argument has NUL in it.
    """
    program = ProgramRun(
        words=words,
        variables=variables_of_programs() if variables is None else variables,
        limit_seconds=limit_seconds,
        most_bytes=most_bytes,
        given=stdin,
        folder=folder,
    )
    stop, stopping = os.pipe()
    # A thread of its own: those of the loop are few, and programs may run for minutes.
    with ThreadPoolExecutor(1, thread_name_prefix="program") as pool:
        running = asyncio.get_running_loop().run_in_executor(pool, run_to_end, program, stop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            os.write(stopping, b".")
            await _ended(running)
            raise
        finally:
            os.close(stopping)
            os.close(stop)


async def _ended(running: asyncio.Future[ProgramResult]) -> None:
    """Wait until a program that is being killed has ended, also where the caller is cancelled again."""
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            continue
    running.exception()
