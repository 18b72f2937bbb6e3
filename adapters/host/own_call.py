"""Call a function in a process of its own, forked from the warm process where there is one: its imports stay there."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

from adapters.host.own_command import ENTRY
from models.failures import RoasError

_COMMAND = (*ENTRY, f"{__name__}:serve_call")


def call(function: str, *arguments: Any) -> Any:
    """What a function of ours, `module:name`, returns; arguments and value are pickled.

    Raises:
        RoasError: The function raised it, or its process ended before.
    """
    for value in call_iterator(function, *arguments):
        return value
    raise RoasError(
        f"The process that was to call {function} ended without an answer;",
        advice="the server's log says why; has the machine memory left?",
    )


def call_iterator(function: str, *arguments: Any) -> Generator[Any, None, None]:
    """The values of an iterator that a function of ours returns, as they come; who has enough closes this.

    Raises:
        RoasError: The function or its iterator raised it, or its process cannot be begun.
    """
    try:
        process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise RoasError(
            f"No process can be begun: {error.strerror};", advice="has the machine memory and processes left?"
        ) from error
    with process as begun:
        if begun.stdin is None or begun.stdout is None:
            raise AssertionError("pipes were asked for")
        try:
            # One that ended already does not read, and its answer is missing below.
            with suppress(BrokenPipeError), begun.stdin as request:
                request.write(pickle.dumps((function, arguments)))
            # Killed in the middle of an answer, it leaves the beginning of one.
            with suppress(EOFError, pickle.UnpicklingError):
                while True:
                    is_value, value = pickle.load(begun.stdout)  # noqa: S301 - of our own process
                    if not is_value:
                        raise value
                    yield value
        finally:
            begun.terminate()


def serve_call() -> None:
    """Read on standard input what to call, and write each value to standard output; for `call` and `call_iterator`."""
    function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that began this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, _, name = function.partition(":")

    def write(is_value: bool, value: Any) -> None:
        answers.write(pickle.dumps((is_value, value)))
        answers.flush()

    # Nobody reads any more where the pipe is broken.
    with suppress(BrokenPipeError):
        try:
            found = getattr(importlib.import_module(module), name)(*arguments)
            for value in found if isinstance(found, Iterator) else (found,):
                write(True, value)
        except RoasError as error:
            write(False, error)
