"""Operations in the warm process whose client, fork or warm process is killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.runtime.ends import Folder

_CHECK = {"test": ["CMD", "test", "-d", "/"], "interval": "1s"}
_SERVICE = {"image": "debian:trixie-slim", "init": True, "command": ["sleep", "3600"], "healthcheck": _CHECK}
_STATUSES = "SELECT id, status FROM deployment_operations ORDER BY id"
_WAITS_SECONDS = 300
VICTIMS = ("client", "fork", "warm process")
_ENDED_WELL = "success"
_UNFINISHED = ("pending", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessKill:
    """A command of which one process was killed, and what was recorded of it."""

    command: str
    victim: str
    """client, fork or warm process; nothing where the command had ended before."""
    moment: float
    """Seconds from the command's start."""
    code: int
    recorded: str
    """The status of its operation; nothing where it left none."""

    @property
    def is_true(self) -> bool:
        """Whether it reported success only of an operation that is recorded as done."""
        return self.code != 0 or self.recorded == _ENDED_WELL


class Kills:
    """Restarts and judges an application of one service, and kills."""

    def __init__(self, place: Folder, seed: int) -> None:
        self._place = place
        self._chance = random.Random(seed)
        self._project = place.declare("test", {"one": _SERVICE})
        self._usual_seconds: dict[str, float] = {}

    def prepare(self) -> None:
        """Let commands leave a server and a warm process, and see how long they usually take."""
        assert self._place.start("start", "test").wait(_WAITS_SECONDS) == 0, self.log()
        self._place.warm_up()
        for command in ("restart", "health"):
            begun = time.monotonic()
            assert self._place.start(command, "test").wait(_WAITS_SECONDS) == 0, self.log()
            self._usual_seconds[command] = time.monotonic() - begun

    def kill(self, victim: str) -> ProcessKill:
        """Run a command, and kill its client, its fork or the warm process at any moment until it would end."""
        self._place.warm_up()
        command = self._chance.choice(["restart", "health"])
        moment = self._chance.uniform(0, self._usual_seconds[command])
        last = self._last()
        running = self._place.start(command, "test")
        time.sleep(moment)
        process = {"client": lambda: running.pid, "fork": self._fork, "warm process": self._warm_process}[victim]()
        has_ended = running.poll() is not None or process == 0
        if not has_ended:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            if victim == "warm process":
                # Its socket stays behind, which would count as another one that listens.
                for socket in self._place.path.glob("run/roas/*.sock"):
                    socket.unlink()
        code = running.wait(_WAITS_SECONDS)
        return ProcessKill(
            command=command, victim="" if has_ended else victim, moment=moment, code=code, recorded=self._recorded(last)
        )

    def settle(self) -> tuple[list[str], list[str]]:
        """After one more command, the operations and the flow runs that still count as running."""
        assert self._place.start("start", "test").wait(_WAITS_SECONDS) == 0, self.log()
        deadline = time.monotonic() + _WAITS_SECONDS
        while True:
            left = self._operations(), self._flow_runs()
            if not any(left) or time.monotonic() > deadline:
                return left
            time.sleep(1)

    def end(self) -> None:
        """Remove the application."""
        words = ["docker", "compose", "--project-name", self._project, "down", "--timeout", "1"]
        subprocess.run(words, capture_output=True, check=False)

    def log(self) -> str:
        """The end of what all commands printed."""
        return (self._place.path / "log").read_text(errors="replace")[-4000:]

    def _warm_process(self) -> int:
        return next((one for one, parent in self._parents().items() if parent not in self._parents()), 0)

    def _fork(self) -> int:
        return next((one for one, parent in self._parents().items() if parent in self._parents()), 0)

    def _parents(self) -> dict[int, int]:
        """The warm process and its forks, and the parent of each."""
        found = {}
        for one, words in self._place.processes().items():
            with suppress(psutil.NoSuchProcess):
                if "warm_process" in words:
                    found[one] = psutil.Process(one).ppid()
        return found

    def _last(self) -> int:
        return max((int(number) for number, _ in self._rows()), default=0)

    def _recorded(self, last: int) -> str:
        return next((status for number, status in self._rows() if int(number) > last), "")

    def _operations(self) -> list[str]:
        return [number for number, status in self._rows() if status in _UNFINISHED]

    def _rows(self) -> list[tuple[str, str]]:
        file = Path(self._place.path, "data", "deployment_logs.db")
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as store:
            return [(str(number), status) for number, status in store.execute(_STATUSES)]

    def _flow_runs(self) -> list[str]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
        self._place.port = json.loads((self._place.path / "data" / "prefect" / "server.json").read_text())["port"]
        return [one["name"] for one in self._place.ask("flow_runs/filter", wanted)]
