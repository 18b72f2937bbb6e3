"""Processes of their own that begin at once: forks of one that has imported what they need, and holds nothing open.

A new interpreter takes 0.4 s of processor for the imports of an archiver or of a writer. Unlike a fork of the tests'
own process such a one inherits no connection, lock or thread.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection

from adapters.stores import archiver

OWN = multiprocessing.get_context("forkserver")
"""Use it as `multiprocessing.get_context("spawn")`."""

OWN.set_forkserver_preload(
    [
        "adapters.stores.batch",
        "adapters.stores.postgresql",
        "pyarrow.compute",
        "pyarrow.parquet",
        "pytest",
        "tests.integration.stores.values",
        "tests.support.forked",
    ]
)

_start_anew = archiver._start
_begun_in = os.getpid()


class ForkedArchiver:
    """An archiver's process with what `Archiver` uses of subprocess.Popen."""

    def __init__(self) -> None:
        """Start it."""
        jobs, given = multiprocessing.Pipe(duplex=False)
        got, answers = multiprocessing.Pipe(duplex=False)
        self._process = OWN.Process(target=_serve, args=(jobs, answers), daemon=True)
        self._process.start()
        self.stdin = os.fdopen(os.dup(given.fileno()), "w")
        self.stdout = os.fdopen(os.dup(got.fileno()))
        for one in (jobs, given, got, answers):
            one.close()

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def communicate(self) -> None:
        self.stdin.close()
        self.stdout.read()
        self.stdout.close()
        self.wait()


def start_archiver() -> object:
    """Start an archiver's process, in place of `adapters.stores.archiver._start`."""
    # Only the process that began the one with the imports can have forks of it.
    return ForkedArchiver() if os.getpid() == _begun_in else _start_anew()


def _serve(jobs: Connection, answers: Connection) -> None:
    sys.stdin, sys.stdout = os.fdopen(jobs.fileno()), os.fdopen(answers.fileno(), "w")
    archiver._serve()
