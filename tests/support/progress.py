"""What a run of tests says while it runs: a line now and then with what it waits for, and each failure at once.

A run with `--progress FILE --part NAME` uses it: several parts run beside each other, each into a log of its own, and
all write their progress to one terminal.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

_EVERY_SECONDS = 30.0
_LONG_SECONDS = 5.0
_NAMED = 3


class ProgressReporter:
    """Counts the tests of a part, and says while it waits what it waits for."""

    def __init__(self, part: str, terminal: Path) -> None:
        self.part = part
        self._terminal = terminal.open("a", buffering=1)
        self.total = 0
        self.ended: set[str] = set()
        self.failed = 0
        self.running: dict[str, float] = {}
        self._done = threading.Event()
        self._began = time.monotonic()

    def begin(self) -> None:
        """Print from time to time from now on."""
        threading.Thread(target=self._print_now_and_then, daemon=True).start()

    def end(self) -> None:
        """Print nothing more."""
        self._done.set()

    def _print_now_and_then(self) -> None:
        while not self._done.wait(_EVERY_SECONDS):
            self._say(self.line())

    def line(self) -> str:
        """How far the part is, and the tests that have run longest."""
        now = time.monotonic()
        # Tests begin and end in another thread.
        running = sorted(self.running.copy().items(), key=lambda pair: pair[1])
        long = [
            f"{name.rpartition('::')[2]} ({now - since:.0f} s)"
            for name, since in running
            if now - since > _LONG_SECONDS
        ]
        counts = f"{len(self.ended)} of {self.total or '?'} tests, {self.failed} failed, {now - self._began:.0f} s"
        return f"{counts}; waits for {', '.join(long[:_NAMED])}" if long else counts

    def _say(self, text: str) -> None:
        self._terminal.write(f"    {self.part}: {text}\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.total = self.total or len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        self.total = len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed += 1
            self._say(f"FAILED {report.nodeid} ({report.when})")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.running.pop(nodeid, None)
        self.ended.add(nodeid)


def add_options(parser: pytest.Parser) -> None:
    """Let a run say where its progress goes, and the name of its part."""
    parser.addoption("--progress", type=Path, help="append the progress of this run to a file in lines")
    parser.addoption("--part", default="tests", help="the name before these lines")


def configure(config: pytest.Config) -> None:
    """Write progress in the process that the workers report to."""
    file = config.getoption("progress")
    if file and not hasattr(config, "workerinput"):
        progress = ProgressReporter(config.getoption("part"), file)
        config.pluginmanager.register(progress, "progress")
        config.add_cleanup(progress.end)
        progress.begin()
