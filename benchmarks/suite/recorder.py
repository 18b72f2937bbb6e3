"""A pytest plugin that writes a line for each test: begin, end, and processor seconds of the worker and all it began.

Each worker runs in a control group of its own (cpuacct, version 1), so that servers and commands count too, but not
containers, which belong to the engine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

GROUPS = Path("/sys/fs/cgroup/cpuacct/roas-suite")
FOLDER = "ROAS_SUITE_FOLDER"


class Recorder:
    """Writes what each test of this worker took."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        folder = Path(os.environ[FOLDER])
        # Several runs may be measured at once.
        self.group = GROUPS / folder.name / worker
        self.group.mkdir(parents=True, exist_ok=True)
        (self.group / "cgroup.procs").write_text(str(os.getpid()))
        self.lines = (folder / f"{worker}.jsonl").open("a", buffering=1)

    def processor(self) -> float:
        return int((self.group / "cpuacct.usage").read_text()) / 1e9

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        began, used = time.time(), self.processor()
        try:
            return (yield)
        finally:
            line = {
                "worker": self.worker,
                "test": item.nodeid,
                "began": began,
                "ended": time.time(),
                "processor": self.processor() - used,
            }
            self.lines.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Record in the workers, or in the only process where there are none."""
    workers = getattr(config, "workerinput", None)
    if workers is not None or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Recorder(workers["workerid"] if workers else "main"), "suite-recorder")
