"""`roas` commands in forks of one process that has the program imported: quick, and otherwise as in a terminal.

A test about the start or the end of a process itself, such as its imports, a closed stream or a signal, starts one.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("command_runner.py")
# No test may take longer; a command whose test has ended is ended by the next request, or with this process.
LONGEST_SECONDS = 900.0
DROPPED = ("ROAS_", "PREFECT_", "PG", "DOCKER_", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHON")


def quiet_environment() -> dict[str, str]:
    """The variables of this process without those that change what a command does or prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    # The code of this checkout, also where the environment has another one installed.
    code = {"PYTHONPATH": str(ROOT)}
    return kept | code | {"COLUMNS": "100", "LC_ALL": "C.UTF-8", "PREFECT_PROFILES_PATH": os.devnull}


def own_process(request: Mapping[str, Any]) -> list[str]:
    """The command line that runs one request in a process of its own."""
    return [*_PROGRAM, json.dumps(request)]


# Without -P the modules beside the program would be found before packages of the same names.
_PROGRAM = (sys.executable, "-P", str(RUNNER))


class ForkedRoas:
    """A process that runs commands one after the other; see command_runner.py."""

    def __init__(self, variables: Mapping[str, str], *imported: str) -> None:
        self.variables = dict(variables)
        self.process = subprocess.Popen(
            [*_PROGRAM, *imported], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.variables
        )
        self._one_at_a_time = threading.Lock()

    def run(
        self, request: Mapping[str, Any], said: bytes = b"", seconds: float = LONGEST_SECONDS
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command; `request` has its words, variables and folder, and may have now, umask, without_powers.

        Raises:
            TimeoutExpired: It ran longer than `seconds`, and was killed with its process group.
        """
        streams = Path(tempfile.mkdtemp(prefix="roas-command-"))
        try:
            (streams / "in").write_bytes(said)
            code = self.serve(request, streams, seconds)
            out, err = (file.read_bytes() if file.exists() else b"" for file in (streams / "out", streams / "err"))
        finally:
            shutil.rmtree(streams)
        if code is None:
            raise subprocess.TimeoutExpired(["roas", *request["words"]], seconds, out, err)
        return subprocess.CompletedProcess(["roas", *request["words"]], code, out, err)

    def serve(self, request: Mapping[str, Any], streams: Path, seconds: float = LONGEST_SECONDS) -> int | None:
        """Run one command whose streams are the files `in`, `out` and `err` of a folder; None if it was late."""
        with self._one_at_a_time:
            return self._ask({**request, "streams": str(streams), "seconds": seconds})

    def _ask(self, request: dict[str, Any]) -> int | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        number = secrets.token_hex(4)
        self.process.stdin.write(json.dumps(request | {"number": number}) + "\n")
        self.process.stdin.flush()
        # A test that ran out of time has left its answer unread.
        while (answer := json.loads(self.process.stdout.readline()))["number"] != number:
            pass
        code: int | None = answer["code"]
        return code

    def close(self) -> None:
        self.process.communicate()


@cache
def shared_roas() -> ForkedRoas:
    """The one of this process, which all its tests share; it ends with this process."""
    made = ForkedRoas(quiet_environment())
    atexit.register(made.close)
    return made


def run_roas(
    *words: str | bytes,
    cwd: Path,
    env: Mapping[str, str],
    said: bytes = b"",
    umask: int | None = None,
    without_powers: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run one command with these variables alone; `without_powers` binds root by modes, too."""
    request = {
        "words": [os.fsdecode(word) for word in words],
        "variables": dict(env),
        "folder": str(cwd),
        "umask": umask,
        "without_powers": without_powers and os.geteuid() == 0,
    }
    return shared_roas().run(request, said)


def run_roas_text(
    *words: str, cwd: Path, env: Mapping[str, str], said: str = "", without_powers: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run one command as `run_roas` does, with text in and out."""
    done = run_roas(*words, cwd=cwd, env=env, said=said.encode(), without_powers=without_powers)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
