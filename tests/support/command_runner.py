"""Run `roas` commands quickly: a process that imports the program once and forks for each command.

A command runs as in a terminal: its own arguments, variables, folder, process group, umask, streams and exit code. Its
clock stands still where a moment is given. Requests come as JSON lines on standard input; answers go as JSON lines to
standard output. With a request as its argument, this program runs that one command itself; other arguments are modules
to import first.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

import time_machine

PACKAGES = {file.parent.name for file in Path(__file__).parents[2].glob("*/__init__.py")} - {"tests"}
_TRIED: set[str] = set()
"""Modules that a command had imported; some of them cannot be imported by themselves."""
_CAPABILITIES = 64
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522


def load_main() -> Any:
    return importlib.import_module("cli.main").main


def run_here(request: dict[str, Any]) -> int:
    """Run one command in this process; its exit code."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    time.tzset()
    sys.argv = ["roas", *request["words"]]
    main = load_main()
    if request.get("now"):
        time_machine.travel(datetime.fromisoformat(request["now"]), tick=False).start()
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def run_in_fork(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a fork, with its streams in a folder of the request; its exit code, None if it was late."""
    folder = Path(request["streams"])
    child = os.fork()
    if child == 0:
        _be_the_command(request, folder)
    try:
        in_time = _ends_in_time(child, request["seconds"])
    finally:
        # One that ended has left its group to whatever it started, which may outlive it.
        if not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    _import_too(folder / "modules")
    return {"number": request["number"], "code": os.waitstatus_to_exitcode(status) if in_time else None}


def _ends_in_time(child: int, seconds: float) -> bool:
    """Wait for a command, unless its time passes or its caller waits no longer."""
    handle = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([handle, sys.stdin], [], [], seconds)
    finally:
        os.close(handle)
    return handle in ready


def _be_the_command(request: dict[str, Any], folder: Path) -> None:
    code = 70
    try:
        # What ends it ends what it started, and a test may signal both.
        os.setpgid(0, 0)
        if request.get("umask") is not None:
            os.umask(request["umask"])
        if request.get("without_powers"):
            _drop_powers()
        _take_streams(folder)
        code = run_here(request)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001 - the reader of standard error sees it
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            (folder / "modules").write_bytes(pickle.dumps(list(sys.modules)))
        os._exit(code & 0xFF)


def _take_streams(folder: Path) -> None:
    for number, (name, flags) in enumerate(
        [("in", os.O_RDONLY), ("out", os.O_WRONLY | os.O_CREAT), ("err", os.O_WRONLY | os.O_CREAT)]
    ):
        handle = os.open(folder / name, flags, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    # As Python opens it at its start.
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def _drop_powers() -> None:
    """Take all capabilities from root, so that modes of files bind it like everybody else."""
    library = ctypes.CDLL(None, use_errno=True)
    for one in range(_CAPABILITIES):
        # The kernel refuses those that it does not know.
        library.prctl(_PR_CAPBSET_DROP, one, 0, 0, 0)
    if library.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def _import_too(modules: Path) -> None:
    """Import what a command has imported, so that the next one need not.

    Not Prefect, which sets logging up for the whole process when it is imported.
    """
    if not modules.exists():
        return
    names = pickle.loads(modules.read_bytes())
    modules.unlink()
    if "prefect" in names and "prefect" not in sys.modules:
        return
    wanted = [name for name in names if name not in sys.modules and name not in _TRIED]
    _TRIED.update(wanted)
    ours = [name for name in wanted if name.partition(".")[0] in PACKAGES]
    for name in (*ours, *(name for name in wanted if "." not in name)):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if "core.errors.match" in wanted:
        # Every command that classifies has the shipped patterns compiled, the largest part of its work.
        with contextlib.suppress(Exception):
            importlib.import_module("adapters.pattern_files").shipped_set()
    if wanted:
        # The collector of a fork would copy every page of what lives on anyway.
        gc.collect()
        gc.freeze()


def serve() -> None:
    load_main()
    for line in sys.stdin:
        answer = run_in_fork(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        sys.exit(run_here(json.loads(sys.argv[1])))
    for module in sys.argv[1:]:
        importlib.import_module(module)
    serve()
