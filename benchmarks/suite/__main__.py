"""Where the time of the tests goes: run tests, then print a table of their files.

    .venv/bin/python -m benchmarks.suite tests/unit tests/golden      # as root, with the engine running
    .venv/bin/python -m benchmarks.suite --table FOLDER               # the table of a recorded run again

Columns: wall seconds, processor seconds of the worker and what it began (not containers), their difference (waiting),
Prefect servers, containers made, images built, programs begun. Tests of several workers run beside each other, so the
walls add up to more than the run took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.suite.programs import begun_programs
from benchmarks.suite.recorder import FOLDER, GROUPS

_WORKER_IN_PATHS = "popen-"
_COLUMNS = ("tests", "wall", "processor", "waiting", "servers", "containers", "images", "programs")


def main(arguments: list[str]) -> int:
    """Record a run of pytest with these arguments, or read a recorded one; print its table."""
    if arguments[:1] == ["--table"]:
        print_table(Path(arguments[1]))
        return 0
    folder = Path(os.environ.get(FOLDER) or tempfile.mkdtemp(prefix="roas-suite-"))
    folder.mkdir(exist_ok=True)
    print(f"recorded in {folder}", flush=True)
    workers = [] if any(one.startswith(("-n", "--numprocesses")) for one in arguments) else ["-n", str(os.cpu_count())]
    threading.Thread(target=_record_programs, args=(folder,), daemon=True).start()
    with (folder / "engine.jsonl").open("a") as events:
        watching = subprocess.Popen(["docker", "events", "--format", "{{json .}}"], stdout=events)
        before, began = _machine_seconds(), time.time()
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "benchmarks.suite.recorder", *workers, *arguments],
            check=False,
            env=os.environ | {FOLDER: str(folder)},
        )
        with (folder / "runs.jsonl").open("a") as runs:
            used = _machine_seconds() - before
            runs.write(json.dumps({"words": arguments, "wall": time.time() - began, "machine": used}) + "\n")
        watching.terminate()
        watching.wait()
    print_table(folder)
    return ended.returncode


def _record_programs(folder: Path) -> None:
    with (folder / "programs.jsonl").open("a", buffering=1) as lines:
        for program in begun_programs():
            lines.write(json.dumps(asdict(program)) + "\n")


def _machine_seconds() -> float:
    """Processor seconds of everything on this machine since it started, without idling and waiting for disks."""
    numbers = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class _TestsByTime:
    """Finds the test that a worker ran at a moment."""

    def __init__(self, tests: list[dict[str, Any]]) -> None:
        self._by_worker: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for test in sorted(tests, key=lambda test: test["began"]):
            self._by_worker[test["worker"]].append(test)

    def file_at(self, worker: str, moment: float) -> str | None:
        tests = self._by_worker.get(worker, [])
        place = bisect_right([test["began"] for test in tests], moment) - 1
        return _file(tests[place]) if place >= 0 else None


def _file(test: dict[str, Any]) -> str:
    return str(test["test"]).partition("::")[0]


def collect(folder: Path) -> dict[str, Counter[str]]:
    """Add up what is recorded, for each file of tests; what cannot be told goes to `?`."""
    tests = [line for file in folder.glob("*.jsonl") if file.stem.startswith(("gw", "main")) for line in _lines(file)]
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for test in tests:
        wall = test["ended"] - test["began"]
        row = rows[_file(test)]
        row["tests"] += 1
        row["wall"] += wall
        row["processor"] += test["processor"]
        row["waiting"] += max(0.0, wall - test["processor"])
    found = _TestsByTime(tests)
    for program in _lines(folder / "programs.jsonl"):
        worker = _worker_of_group(program["group"], folder)
        if worker is None:
            continue
        row = rows[found.file_at(worker, program["at"]) or "?"]
        words = " ".join(program["words"])
        if not words:
            continue
        row["programs"] += 1
        row["servers"] += "flows.server.server_process" in words or "prefect server start" in words
        row["images"] += Path(program["words"][0]).name == "docker" and "build" in program["words"]
    for event in _lines(folder / "engine.jsonl"):
        if event.get("Type") == "container" and event.get("Action") == "create":
            worker = _worker_of_container(event)
            file = found.file_at(worker, event["timeNano"] / 1e9) if worker else None
            rows[file or "?"]["containers"] += 1
    return rows


def _worker_of_group(group: str, folder: Path) -> str | None:
    root = f"/{GROUPS.name}/{folder.name}/"
    return group.removeprefix(root).split("/")[0] if group.startswith(root) else None


def _worker_of_container(event: dict[str, Any]) -> str | None:
    paths = " ".join(str(value) for value in event["Actor"]["Attributes"].values())
    _, found, rest = paths.partition(_WORKER_IN_PATHS)
    return rest.split("/")[0] if found else None


def print_table(folder: Path) -> None:
    """Print a row for each file, the dearest first, and sums for each part."""
    rows = collect(folder)
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for file, row in rows.items():
        parts["/".join(file.split("/")[:2])].update(row)
        parts["together"].update(row)
    print(f"{'':64}" + "".join(f"{name:>11}" for name in _COLUMNS))
    for name, row in [*sorted(rows.items(), key=lambda pair: -pair[1]["wall"]), *sorted(parts.items())]:
        print(f"{name.removeprefix('tests/'):64}" + "".join(f"{row[column]:>11.0f}" for column in _COLUMNS))
    for run in _lines(folder / "runs.jsonl"):
        print(f"run of {' '.join(run['words'])}: {run['wall']:.0f} s, machine's processors {run['machine']:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
