"""Commands that are ended or killed at any moment, what is left of them, and commands that begin at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.prefect_server import ask

# A shell lets what it starts in the background ignore an interrupt.
ROAS = ["env", "--default-signal=INT,TERM", sys.executable, "-P", "-c", "from cli.entry import main; main()"]
ROOT = Path(__file__).parents[3]
ENDS_WITHIN_SECONDS = 60.0
GONE_WITHIN_SECONDS = 60.0
"""What runs for a killed command gets SIGTERM, and SIGKILL after 10 s. A server ends once it has made its database."""

_WAITS_SECONDS = 240.0
_IMAGE = "debian:trixie-slim"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnd:
    """How a command ended, and what was left of it."""

    what: str
    moment: float
    """Seconds from its start, or from when it served, to the signal."""
    ended_after: float
    """Seconds from the signal to its end, or of one that was killed to that of all its processes."""
    left: tuple[str, ...]
    """Processes that are not meant to stay, as command lines."""
    problem: str = ""
    within: float = ENDS_WITHIN_SECONDS
    """The most seconds for its end."""

    @property
    def is_right(self) -> bool:
        """Whether it ended in time and left nothing."""
        return not self.left and not self.problem and self.ended_after <= self.within


@dataclass
class Folder:
    """Folders of a user's own, by whose path the processes of all commands there are found."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    def declare(self, name: str, services: dict[str, dict[str, Any]] | None = None) -> str:
        """Write an environment and its application; the name of its Compose project."""
        project = f"roas-test-{uuid.uuid4().hex[:8]}"
        application = {"services": services or {"web": {"image": "roas-test/never-built:1"}}}
        (self.path / f"{name}.compose.json").write_text(json.dumps(application))
        declared = {"name": name, "project": project, "compose_files": [f"{name}.compose.json"]}
        (self.path / f"{name}.yaml").write_text(json.dumps(declared | {"stabilisation_seconds": 0}))
        return project

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
        own = {
            # The warm process keeps few variables, but this one, by which it is found.
            "TMPDIR": str(self.path),
            "XDG_RUNTIME_DIR": str(self.path / "run"),
            "PYTHONPATH": str(ROOT),
            "ROAS_DATA_DIR": str(self.path / "data"),
            "ROAS_ENVIRONMENTS_DIR": str(self.path),
            "ROAS_SERVER_PORT": str(self.port),
        }
        with (self.path / "log").open("ab") as log:
            return subprocess.Popen(
                [*ROAS, *words], cwd=self.path, env=kept | own | self.variables, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip

    def processes(self) -> dict[int, str]:
        """All living processes of commands that were given here, and their command lines."""
        found, mark = {}, f"TMPDIR={self.path}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes() and "\nState:\tZ" not in (folder / "status").read_text():
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(folder.name)] = " ".join(words.split())[-100:]
        return found

    def left(self, *, stays: Callable[[int, str], bool] = lambda _process, _words: False) -> tuple[str, ...]:
        """What of it is there and not meant to stay, once that no longer changes."""
        deadline = time.monotonic() + GONE_WITHIN_SECONDS
        while True:
            left = tuple(f"{one} {words}" for one, words in self.processes().items() if not stays(one, words))
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def server(self) -> int:
        """The process id of the server that a command has left."""
        with suppress(OSError, ValueError):
            return int(json.loads((self.path / "data" / "prefect" / "server.json").read_text())["process"])
        return 0

    def stays(self, process: int, words: str) -> bool:
        """Whether a process is one that a command leaves for later ones: the server, a warm process without a fork."""
        if process == self.server():
            return True
        children = Path(f"/proc/{process}/task/{process}/children")
        with suppress(OSError):
            # One that still imports may have left its lock to no other.
            return "warm_process" in words and not _is_fork(process) and not children.read_text().split()
        return False

    def warm_up(self) -> None:
        """Let a command leave a warm process, from which later ones are forked."""
        deadline = time.monotonic() + _WAITS_SECONDS
        while not list(self.path.glob("run/roas/*.sock")):
            assert time.monotonic() < deadline, "no warm process listens"
            # One that notices while it imports that the code has changed leaves its place to the next command's.
            self.start("history").wait(_WAITS_SECONDS)
            time.sleep(0.1)

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """What the API of `roas serve` answers."""
        auth_string = (self.path / "data" / "prefect" / "auth_string").read_text().strip()
        return ask(f"http://127.0.0.1:{self.port}/api", auth_string, path, question)

    def end(self) -> None:
        """End all that was left here."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _is_fork(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    parent = int(status.partition("\nPPid:\t")[2].split()[0])
    with suppress(OSError):
        return b"warm_process" in Path(f"/proc/{parent}/cmdline").read_bytes()
    return False


@contextmanager
def folder() -> Iterator[Folder]:
    """Folders of a user, whose processes end with the block."""
    # The path of a socket is short, and pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="roas-", ignore_cleanup_errors=True) as name:
        made = Folder(Path(name))
        (made.path / "run").mkdir(mode=0o700)
        try:
            yield made
        finally:
            made.end()


def end_serve(place: Folder, moment: float, number: int) -> ProcessEnd:
    """End `roas serve` by a signal, so many seconds after its start."""
    running = place.start("serve")
    time.sleep(moment)
    return _ended(place, running, number, moment, f"roas serve, {signal.Signals(number).name}")


def end_serve_with_runs(place: Folder, moment: float, number: int) -> ProcessEnd:
    """End `roas serve` by a signal, so many seconds after runs were asked of it, while its agent watches."""
    running = place.start("serve")
    deadline = time.monotonic() + _WAITS_SECONDS
    what = f"roas serve with runs, {signal.Signals(number).name}"
    while not _serves(place):
        if running.poll() is not None or time.monotonic() > deadline:
            running.kill()
            running.wait()
            place.end()
            return ProcessEnd(what=what, moment=0, ended_after=0, left=(), problem="its agent did not watch")
        time.sleep(0.2)
    for name in ("health-check/test", "drift/test", "collection/test"):
        deployment = place.ask(f"deployments/name/{name}")
        place.ask(f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    time.sleep(moment)
    return _ended(place, running, number, moment, what)


def _serves(place: Folder) -> bool:
    return "watching test\n" in (place.path / "log").read_text()


def _ended(place: Folder, running: subprocess.Popen[bytes], number: int, moment: float, what: str) -> ProcessEnd:
    running.send_signal(number)
    sent = time.monotonic()
    try:
        code = running.wait(3 * ENDS_WITHIN_SECONDS)
        problem = "" if code in (0, -number, 128 + number) else f"it ended with {code}"
    except subprocess.TimeoutExpired:
        problem = "it did not end"
    took = time.monotonic() - sent
    left = place.left()
    place.end()
    running.wait()
    return ProcessEnd(what=what, moment=moment, ended_after=took, left=left, problem=problem)


def kill_watch(place: Folder, moment: float, *, warm: bool) -> ProcessEnd:
    """Kill `roas watch`, so many seconds after its start; with `warm` it is forked from a warm process."""
    if warm:
        place.warm_up()
    else:
        place.variables = {"ROAS_WARM": "0"}
    running = place.start("watch", "test")
    time.sleep(moment)
    problem = "" if running.poll() is None else f"it had ended with {running.returncode}"
    running.kill()
    running.wait()
    killed = time.monotonic()
    left = place.left(stays=place.stays) if warm else place.left()
    return ProcessEnd(
        what=f"roas watch, SIGKILL, {'warm' if warm else 'ROAS_WARM=0'}",
        moment=moment,
        ended_after=time.monotonic() - killed,
        left=left,
        problem=problem,
        within=GONE_WITHIN_SECONDS,
    )


def open_at_once(place: Folder, names: tuple[str, ...] = ("first", "second", "third")) -> dict[str, int]:
    """Start these environments at once in a new data folder; their exit codes."""
    sleeping = {"image": _IMAGE, "init": True, "command": ["sleep", "600"]}
    projects = [place.declare(name, {"one": sleeping}) for name in names]
    try:
        running = {name: place.start("start", name) for name in names}
        return {name: one.wait(_WAITS_SECONDS) for name, one in running.items()}
    finally:
        for project in projects:
            words = ["docker", "compose", "--project-name", project, "down", "--timeout", "1"]
            subprocess.run(words, capture_output=True, check=False)


def random_moments(count: int, most: float) -> list[float]:
    """Moments between 0 and so many seconds, the same ones in each process."""
    chance = random.Random(count)
    return [chance.uniform(0, most) for _ in range(count)]
