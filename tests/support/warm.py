"""The warm process that commands of the tests use, as those of a user do: one for the session and all its workers.

Only commands with the variables of `warm_commands` use it; the others run in processes of their own (ROAS_WARM=0).
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_FOLDER = "TESTS_RUNTIME_DIR"
_ENDS_WITHIN_SECONDS = 300


def begin_session() -> None:
    """Make the folder of the session's warm process; workers that start later take it over."""
    # Not pytest's folder: a socket's path may be 107 characters at most.
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="roas-warm-")


def end_session() -> None:
    """End the warm processes that commands of the session have left."""
    folder = os.environ.pop(_FOLDER)
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    while left := _processes(folder):
        assert time.monotonic() < deadline, f"a warm process did not end: {left}"
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        time.sleep(0.05)
    shutil.rmtree(folder)


def _processes(folder: str) -> list[int]:
    """The processes that name a socket of this folder, whether they listen already or not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{folder}/roas/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def warm_commands() -> dict[str, str]:
    """The variables with which a command uses the warm process, or leaves it for the next one.

    One that runs flows without PREFECT_API_URL leaves a Prefect server, too, which a test has to end.
    """
    folder = os.environ.get(_FOLDER)
    # A program of the tests that is run by itself has no session.
    return {"XDG_RUNTIME_DIR": folder, "ROAS_WARM": "1"} if folder else {"ROAS_WARM": "0"}
