"""A fork of the warm process: it takes over what makes a process its client's, and runs the client's program."""

from __future__ import annotations

import atexit
import io
import locale
import marshal
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from adapters.host.oom_score import take_score
from adapters.host.warm_client import ANSWER_BYTES, FORKED, GO, READY, limit_numbers, process_of, run_program
from flows.common.terminal import restart_clock
from flows.server.engine_settings import take_settings_over

BEGUN = b"b"
"""Written to the warm process when the client has said GO: from then on it serves the connection."""

_REQUEST_WITHIN_SECONDS = 30.0
_HEADER_BYTES = 4
_DESCRIPTORS = 4
_FAILED = 1


def run_request(connection: socket.socket, begun: int, identity: str) -> NoReturn:
    """Read a request, take it over, and run its program when the client says so; the process ends with it."""
    try:
        connection.settimeout(_REQUEST_WITHIN_SECONDS)
        connection.sendall(FORKED.ljust(ANSWER_BYTES, b"\0"))
        request, descriptors = _receive(connection)
        if request["identity"] != identity:
            os._exit(_FAILED)
        _take_over(request, descriptors)
        restart_clock(process_of(connection))
        connection.sendall(READY.ljust(ANSWER_BYTES, b"\0"))
        if connection.recv(1) != GO:
            os._exit(_FAILED)
        os.write(begun, BEGUN)
        os.close(begun)
    except BaseException:  # noqa: BLE001 - whatever it is, the client runs the program itself
        os._exit(_FAILED)
    # The connection stays open: it ends for the client when this process has ended.
    _run(request["program"])


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, descriptors, _, _ = socket.recv_fds(connection, 65536, _DESCRIPTORS)
    while len(data) < _HEADER_BYTES or len(data) < _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "big"):
        more = connection.recv(1 << 20)
        if not more:
            raise EOFError
        data += more
    if len(descriptors) != _DESCRIPTORS:
        raise OSError("a descriptor is missing")
    return marshal.loads(data[_HEADER_BYTES:]), descriptors  # noqa: S302 - of our own user, as the kernel says


def _take_over(request: dict[str, Any], descriptors: list[int]) -> None:
    folder, *streams = descriptors
    os.fchdir(folder)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    for limit, values in zip(limit_numbers(), request["limits"], strict=True):
        resource.setrlimit(limit, values)
    os.sched_setaffinity(0, request["processors"])
    take_score(request["oom_score"])
    os.environb.clear()
    os.environb.update(request["variables"])
    time.tzset()
    locale.setlocale(locale.LC_CTYPE, "")
    sys.argv[:] = request["arguments"]
    sys.path[:] = request["path"]
    _open_streams(request["streams"])
    _seed()
    if request["program"].partition(".")[0] == "prefect":
        take_settings_over()
    _set_signals(set(request["ignored"]), set(request["blocked"]))


def _open_streams(layers: list[tuple[str, str, bool, bool]]) -> None:
    """Open the standard streams as the interpreter did for the client."""
    opened = []
    for number, (encoding, errors, line_buffering, write_through) in enumerate(layers):
        raw = io.FileIO(number, "w" if number else "r", closefd=False)
        raw.name = ("<stdin>", "<stdout>", "<stderr>")[number]
        stream = io.TextIOWrapper(
            _buffer(raw, has_buffer=not write_through),
            encoding=encoding,
            errors=errors,
            newline="\n" if number else None,
            line_buffering=line_buffering,
            write_through=write_through,
        )
        stream.mode = "w" if number else "r"  # type: ignore[misc]
        opened.append(stream)
    sys.stdin, sys.stdout, sys.stderr = opened
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = opened  # type: ignore[misc]


def _buffer(raw: io.FileIO, *, has_buffer: bool) -> Any:
    """The layer below the text: output that is written through has none."""
    if raw.readable():
        return io.BufferedReader(raw)
    return io.BufferedWriter(raw) if has_buffer else raw


def _seed() -> None:
    """Give this process random numbers of its own; `uuid`, `secrets` and OpenSSL ask the kernel."""
    random.seed()
    if (numbers := sys.modules.get("numpy.random")) is not None:
        numbers.seed()


def _set_signals(ignored: set[int], blocked: set[int]) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _run(program: str) -> NoReturn:
    """Run a program and end this process as the interpreter would end."""
    code, interrupted = _FAILED, False
    # A module that is run is not imported as well, which Python would warn of.
    sys.modules.pop(program, None)
    try:
        run_program(program)
        code = 0
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException as error:  # noqa: BLE001 - as the interpreter does with an uncaught exception
        sys.excepthook(type(error), error, error.__traceback__)
        interrupted = isinstance(error, KeyboardInterrupt)
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return _FAILED
