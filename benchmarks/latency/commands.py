"""Commands, warm and cold, beside Docker's own."""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil
import yaml

from benchmarks.measure import Stack, checked, in_turns, medians, report, stack
from tests.support.kept_images import forget_kept_images
from tests.support.ports import free_port

ROAS = [sys.executable, "-P", "-c", "from cli.entry import main; main()"]
COLD = {"ROAS_WARM": "0"}
READING = (["history"], ["status"], ["why"], ["tickets"], ["alerts"])
_SAMPLE = Path(__file__).parents[2] / "deployments" / "sample"
_WITHOUT_PROBES = "sample-without-probes"
_FORKS = 10_000
_SETTLING = 2_000
_LISTENS_WITHIN_SECONDS = 120
_ENDS_WITHIN_SECONDS = 20
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def warm_place(folder: Path) -> Iterator[None]:
    """Folders of this process's own, from the first command on with a warm process and a server that it has left."""
    os.environ |= {"XDG_RUNTIME_DIR": str(folder), "ROAS_SERVER_PORT": str(free_port())}
    try:
        yield
    finally:
        left = [one for one in (_listening(), _server_process()) if one]
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        # They still write into folders that are removed next.
        psutil.wait_procs([psutil.Process(one) for one in left if psutil.pid_exists(one)], timeout=_ENDS_WITHIN_SECONDS)
        forget_kept_images(folder)


@contextmanager
def _running(folder: Path) -> Iterator[Stack]:
    """An application of two services that runs."""
    service = checked(interval="1s", timeout="1s", retries=3, start_period="30s")
    services = {"one": service, "two": service}
    with stack(folder, "latency", services, stabilisation_seconds=0) as made, warm_place(folder):
        run([*ROAS, "start", made.name])
        _warm_process(str(folder))
        yield made


def reading(folder: Path, chosen: argparse.Namespace) -> None:
    """Read commands, warm and cold."""
    asked: dict[str, Callable[[], object]] = {"docker ps": lambda: run(["docker", "ps"])}
    for words in READING:
        asked[f"roas {words[0]}, warm"] = lambda words=words: run([*ROAS, *words], codes=(0, 1))
        asked[f"roas {words[0]}, cold"] = lambda words=words: run([*ROAS, *words], COLD, (0, 1))
    with _running(folder):
        wall, processor = measured(chosen.rounds, asked)
    for name in asked:
        most = 0.10 if name.endswith("warm") else 0.35 if name.endswith("cold") else None
        report(name, wall[name], "s", most=most)
        report("  processor", processor[name], "s")


def starting(folder: Path, chosen: argparse.Namespace) -> None:
    """A start of what runs already."""
    with _running(folder) as made:
        works: dict[str, Callable[[], object]] = {
            "docker compose up --detach --wait": lambda: made.compose("up", "--detach", "--wait"),
            "roas start, warm": lambda: run([*ROAS, "start", made.name]),
            "roas start, cold": lambda: run([*ROAS, "start", made.name], COLD),
        }
        works["roas start, warm"]()
        wall, processor = measured(chosen.rounds, works)
    compose, warm, cold = works
    for name in works:
        report(name, wall[name], "s", most={cold: 4.0}.get(name))
        report("  processor", processor[name], "s", most={warm: 0.8}.get(name))
    report("roas start, warm, of docker compose up", wall[warm] / wall[compose], "x", most=1.3)
    report("roas start, cold, of docker compose up", wall[cold] / wall[compose], "x")


def nothing(folder: Path, chosen: argparse.Namespace) -> None:
    """A start of the sample application from nothing, without a time in which it has to stay healthy.

    Compose waits for health checks alone, so the goal is for a start that does so too. The sample's probes also prove
    that Prometheus scrapes, which it begins 5 s after its own start.
    """
    with _sample(folder) as made, warm_place(folder):
        works: dict[str, Callable[[], object]] = {
            "docker compose up --detach --wait": lambda: made.compose("up", "--detach", "--wait", "--quiet-pull"),
            "roas start, warm": lambda: run([*ROAS, "start", made.name]),
            "roas start, warm, without probes": lambda: run([*ROAS, "start", _WITHOUT_PROBES]),
        }

        def from_nothing() -> tuple[()]:
            made.compose("down", "--volumes", "--timeout", "1")
            return ()

        works["roas start, warm"]()
        _warm_process(str(folder))
        wall, processor = measured(chosen.rounds, works, from_nothing)
    compose, *ours = works
    for name in works:
        report(f"from nothing: {name}", wall[name], "s")
        report("  processor", processor[name], "s")
    for name in ours:
        most = 1.15 if "without probes" in name else None
        report(f"from nothing: {name}, of docker compose up", wall[name] / wall[compose], "x", most=most)


@contextmanager
def _sample(folder: Path) -> Iterator[Stack]:
    """The sample application under a project name and on ports of its own; removed at the end with its data."""
    os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": str(folder)}
    os.environ |= {"SAMPLE_BOT_PORT": str(free_port()), "SAMPLE_PROMETHEUS_PORT": str(free_port())}
    # Compose finds it there, `roas` in the file.
    os.environ["SAMPLE_REDIS_PASSWORD"] = secrets.token_hex()
    password = folder / "redis_password"
    password.touch(mode=0o600)
    password.write_text(os.environ["SAMPLE_REDIS_PASSWORD"])
    made = Stack(name="sample", project=f"roas-bench-{secrets.token_hex(4)}", file=_SAMPLE / "compose.yaml")
    declared = yaml.safe_load((_SAMPLE.parent / "environments" / "dev.yaml").read_text())
    own = {
        "name": made.name,
        "project": made.project,
        "compose_files": [str(made.file)],
        "variables": ["SAMPLE_BOT_PORT", "SAMPLE_PROMETHEUS_PORT"],
        "secrets": [{"name": "SAMPLE_REDIS_PASSWORD", "file": str(password)}],
        "stabilisation_seconds": 0,
    }
    (folder / "sample.yaml").write_text(json.dumps(declared | own))
    services = {name: {k: v for k, v in one.items() if k != "probe"} for name, one in declared["services"].items()}
    without = {"name": _WITHOUT_PROBES, "services": services}
    (folder / f"{_WITHOUT_PROBES}.yaml").write_text(json.dumps(declared | own | without))
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1")


def forks(folder: Path, _chosen: argparse.Namespace) -> None:
    """What many commands leave in the warm process."""
    held = []
    with _running(folder):
        process = _warm_process(str(folder))
        # The first commands let the allocator take what all later ones use.
        for count in (_SETTLING, _FORKS):
            for _ in range(count):
                run([*ROAS, "--version"])
            time.sleep(1)
            held.append(_held(process))
    before, after = held
    for name, most in (("memory", 1.0), ("descriptors", 0), ("children", 0)):
        unit = "MiB" if name == "memory" else ""
        report(f"{name} of the warm process more after {_FORKS} commands", after[name] - before[name], unit, most=most)


def measured(
    rounds: int, works: Mapping[str, Callable[[], object]], prepare: Callable[[], tuple[()]] = tuple
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each work in the warm place: wall time, and processor time."""
    taken = in_turns(rounds, works, prepare, clocks=(time.perf_counter, _processor_seconds))
    return medians(taken), medians(taken, 1)


def run(command: Sequence[str], more: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)) -> None:
    """Run a command to one of these exit codes; more variables than usual may be given."""
    variables = {**os.environ, **(more or {})}
    done = subprocess.run(command, env=variables, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode not in codes:
        raise RuntimeError((done.stdout + done.stderr).decode())


def _processor_seconds() -> float:
    """Of this process's children, and of those that stay: the warm process with its forks, and the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    stay = (_warm_process(os.environ["XDG_RUNTIME_DIR"]), _server_process())
    return used.ru_utime + used.ru_stime + sum(_used_by(one) for one in stay if one)


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
def _warm_process(_folder: str) -> int:
    """The process id of the warm process, once it listens; asked once, because each connection makes it fork."""
    deadline = time.monotonic() + _LISTENS_WITHIN_SECONDS
    while not (found := _listening()):
        if time.monotonic() > deadline:
            raise TimeoutError("no warm process listens")
        time.sleep(0.1)
    return found
