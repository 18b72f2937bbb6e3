"""How soon a command answers and a run begins, with and without the warm process, beside Docker's own commands.

    python -m benchmarks.latency [reading starting forks ...] [--rounds 9]

Whole processes, measured in turns within one run: wall time, and the processor time of the command with the warm
process and the Prefect server that work for it. Figures are medians; a warm start works for a Prefect server that an
earlier command has left, a cold one (ROAS_WARM=0) for one of its own.

- reading: commands that read records, beside `docker ps`.
- starting: `roas start` of what runs already, beside `docker compose up --detach --wait`.
- forks: many warm commands one after the other: what the warm process holds before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from benchmarks.measure import Stack, checked, in_turns, medians, report, stack
from tests.support.ports import free_port

ROAS = [sys.executable, "-P", "-c", "from cli.entry import main; main()"]
COLD = {"ROAS_WARM": "0"}
READING = (["history"], ["status"], ["why"], ["tickets"], ["alerts"])
_FORKS = 10_000
_SETTLING = 500
_LISTENS_WITHIN_SECONDS = 120
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure the requested figures and print them."""
    works = {"reading": reading, "starting": starting, "forks": forks}
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", nargs="*", choices=[*works, []], help="by default everything")
    arguments.add_argument("--rounds", type=int, default=9)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="roas-latency-") as name:
        os.environ |= {"XDG_RUNTIME_DIR": name, "ROAS_SERVER_PORT": str(free_port())}
        os.environ.pop("ROAS_WARM", None)
        service = checked(interval="1s", timeout="1s", retries=3, start_period="30s")
        with stack(Path(name), "latency", {"one": service, "two": service}, stabilisation_seconds=0) as made:
            try:
                _run([*ROAS, "start", made.name])
                _warm_process()
                for one in chosen.what or works:
                    works[one](made, chosen.rounds)
            finally:
                _end_all()


def reading(_made: Stack, rounds: int) -> None:
    """Read commands, warm and cold."""
    asked: dict[str, Callable[[], object]] = {"docker ps": lambda: _run(["docker", "ps"])}
    for words in READING:
        asked[f"roas {words[0]}, warm"] = lambda words=words: _run([*ROAS, *words])
        asked[f"roas {words[0]}, cold"] = lambda words=words: _run([*ROAS, *words], COLD)
    wall, processor = _measured(rounds, asked)
    for name in asked:
        most = 0.10 if name.endswith("warm") else 0.35 if name.endswith("cold") else None
        report(name, wall[name], "s", most=most)
        report("  processor", processor[name], "s")


def starting(made: Stack, rounds: int) -> None:
    """A start of what runs already."""
    works: dict[str, Callable[[], object]] = {
        "docker compose up --detach --wait": lambda: made.compose("up", "--detach", "--wait"),
        "roas start, warm": lambda: _run([*ROAS, "start", made.name]),
        "roas start, cold": lambda: _run([*ROAS, "start", made.name], COLD),
    }
    works["roas start, warm"]()
    wall, processor = _measured(rounds, works)
    compose, warm, cold = works
    for name in works:
        report(name, wall[name], "s", most={cold: 4.0}.get(name))
        report("  processor", processor[name], "s", most={warm: 0.8}.get(name))
    report("roas start, warm, of docker compose up", wall[warm] / wall[compose], "x", most=1.3)
    report("roas start, cold, of docker compose up", wall[cold] / wall[compose], "x")


def forks(_made: Stack, _rounds: int) -> None:
    """What many commands leave in the warm process."""
    process = _warm_process()
    held = []
    # The first commands let the allocator take what all later ones use.
    for count in (_SETTLING, _FORKS):
        for _ in range(count):
            _run([*ROAS, "--version"])
        time.sleep(1)
        held.append(_held(process))
    before, after = held
    for name, most in (("memory", 1.0), ("descriptors", 0), ("children", 0)):
        unit = "MiB" if name == "memory" else ""
        report(f"{name} of the warm process more after {_FORKS} commands", after[name] - before[name], unit, most=most)


def _measured(rounds: int, works: Mapping[str, Callable[[], object]]) -> tuple[dict[str, float], dict[str, float]]:
    taken = in_turns(rounds, works, clocks=(time.perf_counter, _processor_seconds))
    return medians(taken), medians(taken, 1)


def _run(command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **(more or {})}, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr.decode())


def _processor_seconds() -> float:
    """Of this process's children, and of those that stay: the warm process with its forks, and the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + sum(map(_used_by, filter(None, (_warm_process(), _server_process()))))


def _used_by(process: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS
    return 0.0


def _listening() -> int:
    """The process id of the warm process; 0 where none listens."""
    for path in Path(os.environ["XDG_RUNTIME_DIR"]).glob("roas/*.sock"):
        with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
            asking.connect(str(path))
            return int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    return 0


def _server_process() -> int:
    with suppress(OSError, ValueError):
        return int(json.loads(Path(os.environ["ROAS_DATA_DIR"], "prefect", "server.json").read_text())["process"])
    return 0


def _held(process: int) -> dict[str, float]:
    folder = Path(f"/proc/{process}")
    rolled = dict(line.split()[:2] for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
    return {
        "memory": int(rolled["Pss_Anon:"]) / 1024,
        "descriptors": len(list((folder / "fd").iterdir())),
        "children": len((folder / "task" / str(process) / "children").read_text().split()),
    }


@cache
def _warm_process() -> int:
    """The process id of the warm process, once it listens; asked once, because each connection makes it fork."""
    deadline = time.monotonic() + _LISTENS_WITHIN_SECONDS
    while not (found := _listening()):
        if time.monotonic() > deadline:
            raise TimeoutError("no warm process listens")
        time.sleep(0.1)
    return found


def _end_all() -> None:
    for process in filter(None, (_warm_process(), _server_process())):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


if __name__ == "__main__":
    main()
