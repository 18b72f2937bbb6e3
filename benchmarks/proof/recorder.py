"""A pytest plugin that tells coverage in every process which test runs, and writes what each test took."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

from benchmarks.proof.contexts import CURRENT, FOLDER
from tests.support.warm import begin_session, end_session


class LineRecorder:
    """Switches the context of this worker, and of processes that it starts, to the running test."""

    def __init__(self, worker: str) -> None:
        folder = Path(os.environ[FOLDER])
        self._current = folder / f"current-{worker}"
        self._lines = (folder / "durations.jsonl").open("a", buffering=1)
        self._shared: dict[pytest.FixtureDef[Any], float] = {}
        self._shared_here = 0.0
        self._switch("")
        os.environ[CURRENT] = str(self._current)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        tier = "gate" if item.get_closest_marker("campaign") is None else "campaigns"
        began, self._shared_here = time.time(), 0.0
        self._switch(item.nodeid)
        try:
            return (yield)
        finally:
            self._switch("")
            line = {"test": item.nodeid, "tier": tier, "began": began, "ended": time.time()}
            # A test alone also takes what other tests have set up for it.
            line["set_up"] = self._seconds_of_fixtures(item) - self._shared_here
            self._lines.write(json.dumps(line) + "\n")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        began = time.time()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._shared[fixturedef] = time.time() - began
                self._shared_here += self._shared[fixturedef]

    def _seconds_of_fixtures(self, item: pytest.Item) -> float:
        fixtures = getattr(item, "_fixtureinfo", None)
        named = fixtures.name2fixturedefs.values() if fixtures else ()
        return sum(self._shared.get(definitions[-1], 0.0) for definitions in named)

    def _switch(self, test: str) -> None:
        measuring = Coverage.current()
        assert measuring is not None, "coverage does not measure this process"
        measuring.switch_context(test)
        # Other processes read the file while it is replaced.
        new = self._current.with_suffix(".new")
        new.write_text(test)
        new.replace(self._current)


def pytest_configure(config: pytest.Config) -> None:
    """Record in the workers, or in the only process where there are none."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker:
        # The commands of all workers share a warm process otherwise, and would count for the test that started it.
        begin_session()
        config.add_cleanup(end_session)
    if worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(LineRecorder(worker or "main"), "proof-recorder")
