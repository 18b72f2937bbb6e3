"""The agent of a host: memory, processor, time until all environments are watched, and until a kill is healed.

    python -m benchmarks.fleet agent --environments 50
    python -m benchmarks.fleet served --environments 1

`served` measures `roas serve`: the Prefect server, its runner and the agent, all processes together. Each
environment is one container of debian:trixie-slim that sleeps, without a network. All are removed at the end. The
goals are those of one and of fifty environments.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from adapters.stores import Stores
from benchmarks.measure import IMAGE, report, run_docker
from models.settings import Settings
from tests.support.ports import free_port

_MOST = 50
_WATCHED_WITHIN_SECONDS = 300.0
_HEALED_WITHIN_SECONDS = 120.0
_SERVICE = "sleeper"
_ONE = {"pss": 150.0, "watched": 30.0, "healed": 5.0, "processor": 10.0}
_MANY = {"pss": 400.0, "watched": 30.0, "healed": 5.0, "processor": 10.0}
_WITH_SERVER = {"pss": 100.0, "watched": 30.0}
"""What the server may add."""


def main() -> int:
    """Measure; 1 where a goal is missed."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["agent", "served"])
    arguments.add_argument("--environments", type=int, default=50, choices=range(1, _MOST + 1), metavar="1-50")
    arguments.add_argument("--idle", type=float, default=60.0, help="seconds over which the processor is measured")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="roas-fleet-") as folder, _applications(Path(folder), given) as names:
        return 0 if _measured(Path(folder), names, given) else 1


@contextmanager
def _applications(folder: Path, given: argparse.Namespace) -> Iterator[list[str]]:
    """Environments with their running containers; removed whatever happens."""
    mark = secrets.token_hex(3)
    names = [f"fleet-{mark}-{number:02d}" for number in range(given.environments)]
    compose = folder / "compose.yaml"
    compose.write_text(
        f"services:\n  {_SERVICE}:\n    image: {IMAGE}\n    init: true\n    network_mode: none\n"
        "    command: [sleep, infinity]\n"
    )
    (folder / "environments").mkdir()
    for name in names:
        text = f"name: {name}\nproject: {name}\ncompose_files: [{compose}]\nstabilisation_seconds: 0.5\n"
        # The host's budget is for all environments of an engine, and is not what is measured here.
        text += "recovery: {points_per_host_15min: 500, points_per_host_day: 5000}\n"
        (folder / "environments" / f"{name}.yaml").write_text(text)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: run_docker("compose", "-p", name, "-f", str(compose), "up", "-d"), names))
        yield names
    finally:
        left = run_docker("ps", "-aq", "--filter", f"name=fleet-{mark}-").split()
        if left:
            run_docker("rm", "-f", *left)


def _measured(folder: Path, names: list[str], given: argparse.Namespace) -> bool:
    goals = dict(_ONE if len(names) == 1 else _MANY)
    command, variables = (
        ["worker"],
        {
            "ROAS_DATA_DIR": str(folder / "data"),
            "ROAS_ENVIRONMENTS_DIR": str(folder / "environments"),
            "PREFECT_HOME": str(folder / "prefect"),
            # Processes of its processes run this code too, not that which is installed.
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
    )
    if given.what == "served":
        command, variables["ROAS_SERVER_PORT"] = ["serve"], str(free_port())
        for name, more in _WITH_SERVER.items():
            goals[name] += more
    log = folder / "log"
    with log.open("wb") as said:
        words = [sys.executable, "-c", "from cli.entry import main; main()", *command]
        process = subprocess.Popen(words, env=os.environ | variables, stdout=said, stderr=said)
    began = time.monotonic()
    try:
        _until(lambda: all(f"watching {name}\n" in log.read_text() for name in names), _WATCHED_WITHIN_SECONDS, log)
        well = [report("all watched after", time.monotonic() - began, "s", most=goals["watched"])]
        time.sleep(given.idle / 2)
        before, at = _processor(process.pid), time.monotonic()
        time.sleep(given.idle)
        busy = 100 * (_processor(process.pid) - before) / (time.monotonic() - at)
        well.append(report("of one core while idle", busy, "%", most=goals["processor"]))
        well.append(_memory("memory (PSS)", process.pid, goals["pss"]))
        healed = _healed(names, folder, log)
        well.append(report("a kill is healed after, median", statistics.median(healed), "s"))
        well.append(report("a kill is healed after, at most", max(healed), "s", most=goals["healed"]))
        well.append(_memory("memory (PSS) after it", process.pid, goals["pss"]))
        return all(well)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _healed(names: list[str], folder: Path, log: Path) -> list[float]:
    """Kill each container, one a second; the seconds until its service was proven healthy again."""
    killed: dict[str, datetime] = {}
    for name in names:
        killed[name] = datetime.now(UTC)
        run_docker("kill", f"{name}-{_SERVICE}-1")
        time.sleep(1)
    with Stores.open(Settings(data_dir=folder / "data", environments_dir=folder / "environments")) as stores:

        def over() -> dict[str, datetime]:
            found = [one for one in stores.recoveries.find() if one.success and one.environment is not None]
            return {str(one.environment): one.verified_at for one in found if one.verified_at is not None}

        _until(lambda: over().keys() >= killed.keys(), _HEALED_WITHIN_SECONDS, log)
        ended = over()
    return [(ended[name] - at).total_seconds() for name, at in killed.items()]


def _until(seen: object, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not seen():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not come to that:\n{log.read_text()[-5000:]}")
        time.sleep(0.2)


def _processor(process: int) -> float:
    """Processor seconds of a process, its ended children, and all that runs below it."""
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in _tree(process)]
    return sum(sum(map(int, one[11:15])) for one in fields) / os.sysconf("SC_CLK_TCK")


def _memory(name: str, process: int, most: float) -> bool:
    """Report the memory of a process and all that runs below it, and of each where there are several."""
    each = [(_called(one), _pss(one)) for one in _tree(process)]
    if len(each) > 1:
        for called, pss in each:
            print(f"    {called:60} {pss:12,.3f} MiB", flush=True)
    return report(name, sum(pss for _, pss in each), "MiB", most=most)


def memory(process: int) -> float:
    """The share of memory in MiB of a process and all that runs below it."""
    return sum(map(_pss, _tree(process)))


def _tree(process: int) -> list[int]:
    """A process and all that it started, and what those started."""
    found = [process]
    for one in found:
        # One that has ended meanwhile has no children.
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found.extend(map(int, (task / "children").read_text().split()))
    return [one for one in found if Path(f"/proc/{one}").exists()]


def _called(process: int) -> str:
    """What a process runs, as far as its command line says."""
    words = Path(f"/proc/{process}/cmdline").read_text().replace("\n", " ").split("\0")
    return " ".join(words[1:])[:60]


def _pss(process: int) -> float:
    """A process's share of memory in MiB; 0 where it has ended meanwhile."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
