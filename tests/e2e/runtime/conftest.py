"""A user of the warm process: a runtime folder of its own, and commands that run there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters.host.own_command import ENTRY

ROOT = Path(__file__).parents[3]
PROGRAM = [*ENTRY, "tests.e2e.runtime.programs"]
_IDLE_SECONDS = "120"


def eventually(found: Callable[[], Any], what: str, within: float = 300) -> Any:
    """Wait until something is so, and return it."""
    deadline = time.monotonic() + within
    while not (value := found()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)
    return value


def is_gone(process: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@dataclass
class WarmUser:
    """Runs programs as one user whose warm process no other test shares."""

    runtime: Path
    root: Path = ROOT
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
        # In the folder that a program runs in, and never among the records of the user who runs the tests.
        own = {"XDG_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(self.root), "ROAS_DATA_DIR": "data"}
        return kept | own | self.variables | more

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a small program; with `command` something else, with `variables` others than usual."""
        command = [*options.pop("command", PROGRAM), *words]
        variables = self.environment(**options.pop("variables", {}))
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 120} | options
        if "input" in options:
            del options["stdin"]
        return subprocess.run(command, env=variables, check=False, **options)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a small program that goes on."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True} | options
        return subprocess.Popen([*PROGRAM, *words], env=self.environment(), **options)

    def leave(self, *modules: str, idle: str = _IDLE_SECONDS) -> int:
        """Let a command leave a warm process that imports only what is named; its process id."""
        cold = [sys.executable, "-P", "-m", "tests.e2e.runtime.programs"]
        self.run("leave", idle, *modules, command=cold).check_returncode()
        return self.wait()

    def wait(self) -> int:
        """The process id of the warm process, once it listens."""
        return int(eventually(self.warm_process, "a warm process listens", within=300))

    def warm_process(self) -> int | None:
        for path in self.runtime.glob("roas/*.sock"):
            with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
                asking.connect(str(path))
                return int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        return None

    def processes(self) -> list[int]:
        """All warm processes of this user and what they forked."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{self.runtime}/roas/".encode() in (folder / "cmdline").read_bytes() and not is_gone(
                    int(folder.name)
                ):
                    found.append(int(folder.name))
        return found

    def end(self) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.runtime, ignore_errors=True)


@pytest.fixture
def user() -> Iterator[WarmUser]:
    # The path of a socket is short, and pytest's folders are not.
    made = WarmUser(Path(tempfile.mkdtemp(prefix="roas-")))
    yield made
    made.end()


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmUser]:
    """A user whose warm process listens, for tests that leave it as it is."""
    made = WarmUser(Path(tempfile.mkdtemp(prefix="roas-")))
    made.leave("numpy")
    yield made
    made.end()
