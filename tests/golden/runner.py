"""Run `roas` commands quickly: a process that imports the program once and forks for each command.

A command runs as in a terminal: its own arguments, variables, folder, streams and exit code. Its clock stands still
where a moment is given. Requests come as JSON lines on standard input; answers go as JSON lines to standard output.
With a request as its argument, this program runs that one command itself; other arguments are modules to import first.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

import time_machine

PACKAGES = {file.parent.name for file in Path(__file__).parents[2].glob("*/__init__.py")} - {"tests"}


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
    """Run one command in a fork; what it printed and its exit code."""
    # No TemporaryDirectory: the fork would remove it at its own end.
    folder = Path(tempfile.mkdtemp(prefix="roas-golden-"))
    try:
        (folder / "in").write_text(request.get("said", ""))
        child = os.fork()
        if child == 0:
            _be_the_command(request, folder)
        _, status = os.waitpid(child, 0)
        _import_too(folder / "modules")
        return {
            "number": request["number"],
            "code": os.waitstatus_to_exitcode(status),
            "out": (folder / "out").read_text(),
            "err": (folder / "err").read_text(),
        }
    finally:
        shutil.rmtree(folder)


def _be_the_command(request: dict[str, Any], folder: Path) -> None:
    code = 70
    try:
        for number, (name, flags) in enumerate(
            [("in", os.O_RDONLY), ("out", os.O_WRONLY | os.O_CREAT), ("err", os.O_WRONLY | os.O_CREAT)]
        ):
            handle = os.open(folder / name, flags, 0o600)
            os.dup2(handle, number)
            os.close(handle)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        code = run_here(request)
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001 - the parent shows it
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        (folder / "modules").write_bytes(pickle.dumps(list(sys.modules)))
        os._exit(code)


def _import_too(modules: Path) -> None:
    """Import what a command has imported, so that the next one need not.

    Not Prefect, which sets logging up for the whole process when it is imported.
    """
    names = pickle.loads(modules.read_bytes())
    if "prefect" in names and "prefect" not in sys.modules:
        return
    wanted = [name for name in names if name not in sys.modules]
    ours = [name for name in wanted if name.partition(".")[0] in PACKAGES]
    for name in (*ours, *(name for name in wanted if "." not in name)):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


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
