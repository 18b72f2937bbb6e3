"""Import pytest and what tests depend on, and fork for each run of tests: a fork imports only our code.

It is the first process of a namespace of its own (`sandbox.py` starts it), so it can end every process of a run, also
those that left the process group, and no run reaches a process outside. Runs come as JSON lines on standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pytest

_IMPORTED = (
    "_pytest.python", "_pytest.assertion.rewrite", "aiosqlite", "alembic.command", "apsw", "celpy", "click",
    "cryptography.x509", "dns.resolver", "docker", "h11", "httpx", "hypothesis", "hypothesis.strategies", "jinja2",
    "numpy", "orjson", "pika", "playwright", "prometheus_client", "psutil", "psycopg", "pyarrow", "pydantic",
    "pydantic.json_schema", "pymysql", "pytest_asyncio", "pytest_asyncio.plugin", "pytest_timeout", "re2", "redis",
    "rich.console", "rich.table", "scipy.stats", "sqlalchemy.orm", "sqlmodel", "tenacity", "time_machine",
    "xdist.dsession", "xdist.plugin", "xdist.scheduler", "yaml",
)  # fmt: skip


class Reporter:
    """Orders the tests of a run, and writes a line for each event, which outlives a run that is ended."""

    def __init__(self, tests: list[str], events: TextIO) -> None:
        self._tests = tests
        self._events = events

    def _write(self, **event: Any) -> None:
        self._events.write(json.dumps({"at": time.monotonic(), **event}) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the wanted tests. Where a change gave a test other parameters, keep all of its function."""
        place = {test: number for number, test in enumerate(self._tests)}
        missing = place.keys() - {item.nodeid for item in items}
        functions = {test.partition("[")[0]: place[test] for test in missing}
        for item in items:
            if (function := item.nodeid.partition("[")[0]) in functions:
                place.setdefault(item.nodeid, functions[function])
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(failed=report.nodeid, why=_why(report))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(began=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._write(failed=report.nodeid, why=_why(report))
        elif report.skipped:
            self._write(skipped=report.nodeid)
        elif report.when == "call":
            self._write(passed=report.nodeid)


def _why(report: pytest.CollectReport | pytest.TestReport) -> str:
    """The last line that pytest marks as the error."""
    lines = [line for line in report.longreprtext.splitlines() if line.startswith("E ")] or [report.longreprtext]
    return " ".join(lines[0].removeprefix("E").split())[:300]


def main(folder: Path) -> None:
    """Answer each run with how it ended, until the input ends."""
    if os.getpid() != 1:
        raise SystemExit("This program ends all processes around it. Only sandbox.py may start it, in a namespace.")
    for name in _IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(folder, **json.loads(line))), flush=True)


def _run(folder: Path, *, tests: list[str], seconds: float) -> dict[str, Any]:
    for name in ("tmp", "base"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "tmp").mkdir()
    events = folder / "events.jsonl"
    events.write_text("")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_run(folder, tests)
    status = None
    while status is None and time.monotonic() < began + seconds:
        # Also processes whose parent has ended.
        process, ended = os.waitpid(-1, os.WNOHANG)
        if process == child:
            status = ended
        elif process == 0:
            time.sleep(0.01)
    ended_at = time.monotonic()
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return {
        "timed_out": status is None,
        "began": began,
        "ended": ended_at,
        "events": [json.loads(line) for line in events.read_text().splitlines() if line.endswith("}")],
    }


def _be_the_run(folder: Path, tests: list[str]) -> NoReturn:
    try:
        os.setsid()
        log = os.open(folder / "run.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number, handle in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(handle, number)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        with (folder / "events.jsonl").open("a", buffering=1) as events:
            reporter = Reporter(tests, events)
            options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/base"]
            code = pytest.main([*options, *files], plugins=[reporter])
            reporter._write(code=int(code))
        sys.stdout.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
