"""What clients see of an update: failed requests of start-first replacements, and the outage of a stop-first one.

    python -m benchmarks.update_outage [nginx haproxy caddy ... stop-first] [--requests 2000] [--rounds 5]

- A proxy: a client sends 20 requests a second while `roas update` replaces the service behind it, again and again,
  each time proven beside the old container and drained. The figure is the number of failed requests.
- stop-first: one service of three is replaced by `roas update` and by `docker compose up --detach --wait` in turns; the
  figure is the ratio of the longest times without an answer, as medians.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import report, run_docker
from tests.support.fronts import FRONTS, asking, build_image, fronted
from tests.support.ports import free_port

ROAS = [sys.executable, "-c", "from cli.main import main; main()"]
PER_SECOND = 20
_DRAIN_SECONDS = 3
_ASK_EVERY_SECONDS = 0.005


def main() -> None:
    """Measure the requested figures and print them."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", nargs="*", choices=[*FRONTS, "stop-first", []], help="by default everything")
    arguments.add_argument("--requests", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    build_image()
    wanted = chosen.what or [*FRONTS, "stop-first"]
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="roas-outage-") as folder, application(Path(folder)) as made:
            if name == "stop-first":
                stop_first(made, chosen.rounds)
            else:
                start_first(made, name, chosen.requests)


def start_first(made: OutageApplication, front: str, requests: int) -> int:
    """Replace the service behind a proxy until so many requests were sent; returns how many of them failed."""
    port, replaced = free_port(), 0
    made.declare(fronted(made.folder, front, port))
    made.roas("start")
    with asking(port, PER_SECOND) as client:
        for version in itertools.count(2):
            if client.sent >= requests:
                break
            made.declare(fronted(made.folder, front, port, version=str(version)))
            made.roas("update")
            replaced += 1
    report(f"{front}: failed of {client.sent} requests during {replaced} replacements", len(client.failures), most=0)
    for failure in client.failures[:5]:
        print(f"  {failure}")
    return len(client.failures)


def stop_first(made: OutageApplication, rounds: int) -> float:
    """Replace one service of three in turns; returns the ratio of the outages, ours to that of Compose."""
    port, versions = free_port(), itertools.count(2)
    made.declare(_three(made.folder, port, "1"))
    made.roas("start")
    outages: dict[str, list[float]] = {"roas update": [], "docker compose up": []}
    for turn in range(rounds * 2):
        name = [*outages][(turn + turn // 2) % 2]
        made.declare(_three(made.folder, port, str(next(versions))))
        with _longest_gap(port) as gaps:
            if name == "roas update":
                made.roas("update")
            else:
                made.compose("up", "--detach", "--wait", "--quiet-pull")
        outages[name].append(gaps[0])
    ours, theirs = (statistics.median(outages[name]) for name in outages)
    report("outage of one service of three, roas update", ours, "s")
    report("outage of one service of three, docker compose up --wait", theirs, "s")
    report("ratio of the outages", ours / theirs, most=1.0)
    return ours / theirs


class OutageApplication:
    """A Compose application with an environment of the same name, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"outage-{os.getpid()}-{int(time.time()) % 100000}"

    def declare(self, services: str) -> None:
        """Write the Compose file and the environment."""
        body = "".join(f"  {line}\n" for line in services.splitlines())
        (self.folder / "compose.yaml").write_text(f"services:\n{body}")
        (self.folder / "outage.yaml").write_text(
            f"name: outage\nproject: {self.project}\ncompose_files: [compose.yaml]\nstabilisation_seconds: 1\n"
            f"services: {{web: {{drain_seconds: {_DRAIN_SECONDS}}}}}\n"
        )

    def roas(self, command: str) -> None:
        """Run a command of ours on the environment."""
        places = {"ROAS_DATA_DIR": str(self.folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(self.folder)}
        done = subprocess.run(
            [*ROAS, command, "outage"], env=os.environ | places, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"roas {command}: {done.stdout}{done.stderr}")

    def compose(self, *words: str) -> None:
        """Run Compose on the file."""
        run_docker("compose", "--project-name", self.project, "--file", str(self.folder / "compose.yaml"), *words)


@contextmanager
def application(folder: Path) -> Iterator[OutageApplication]:
    made = OutageApplication(folder)
    try:
        yield made
    finally:
        if (folder / "compose.yaml").exists():
            made.compose("kill")
            made.compose("down", "--timeout", "1")


def _three(folder: Path, port: int, version: str) -> str:
    ports = f"['127.0.0.1:{port}:8000']"
    web, _, _ = fronted(folder, "caddy", port, version=version, order="stop-first", ports=ports).partition("front:\n")
    other, _, _ = fronted(folder, "caddy", port, order="stop-first").partition("front:\n")
    return web + other.replace("web:", "first:", 1) + other.replace("web:", "second:", 1)


@contextmanager
def _longest_gap(port: int) -> Iterator[Sequence[float]]:
    """Ask all the time; afterwards the list has the longest time between two answers, in seconds."""
    ended, found = threading.Event(), [0.0]

    def ask() -> None:
        last = time.monotonic()
        while not ended.wait(_ASK_EVERY_SECONDS):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            try:
                connection.request("GET", "/")
                answered = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                answered = False
            finally:
                connection.close()
            if answered:
                found[0], last = max(found[0], time.monotonic() - last), time.monotonic()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
