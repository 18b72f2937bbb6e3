"""Feed a running watch thousands of events and measure its growth: python -m tests.e2e.healing.endurance.

The watch is a process of its own, as `roas watch` begins it, on the engine that `docker` talks to. What happens
happens to undeclared containers that carry the project's name: pauses, signals, and short lives. The watch
has to receive and judge all of it. Ends with 1 where its memory grew by a tenth, or where it received too little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.faults.scenes import HEALTH, IMAGE, Scene, says

WARM_AFTER = 300
EVENTS = 3000
GROWS_AT_MOST = 0.10

_SIGNALS_A_ROUND = 40
_SAMPLES = 5
_TIMEOUT_SECONDS = 300


def main() -> int:
    """Run it; 1 where anything is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=240, help="so long the watch lives")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="roas-endurance-") as folder:
        os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": folder}
        scene = Scene(environments=Path(folder), name="endures")
        scene.folder.mkdir()
        web = {"image": IMAGE, "init": True, "command": says("touch /tmp/well; exec sleep 6000"), "healthcheck": HEALTH}
        scene.declare({"web": web}, services={})
        try:
            scene.docker("compose", "-p", scene.project, "-f", str(scene.compose_file), "up", "--detach", "--wait")
            with _guest(scene) as guest:
                sizes, received, fed = _finished(scene, guest, asked.seconds)
        finally:
            scene.clean()
    return _judged(sizes, received, fed)


@contextmanager
def _guest(scene: Scene) -> Iterator[str]:
    """An undeclared container of the project."""
    name = f"{scene.project}-guest"
    scene.docker("run", "--detach", "--init", "--name", name, *_labels(scene), IMAGE, "sleep", "6000")
    try:
        yield name
    finally:
        scene.docker("rm", "--force", name)


def _labels(scene: Scene) -> list[str]:
    reported = {"project": scene.project, "service": "guest", "config-hash": "of-nobody", "oneoff": "False"}
    return [part for key, value in reported.items() for part in ("--label", f"com.docker.compose.{key}={value}")]


def _finished(scene: Scene, guest: str, seconds: int) -> tuple[list[tuple[int, int]], int, int]:
    """Each size of the watch after so many events, how many it received, and how many there were."""
    roas = Path(sys.executable).with_name("roas")
    log = scene.folder / "watch.log"
    with log.open("wb") as said:
        watching = subprocess.Popen(
            [roas, "watch", scene.name, "--hours", f"{seconds / 3600:.5f}", "--json"],
            stdout=subprocess.PIPE,
            stderr=said,
        )
        sizes: list[tuple[int, int]] = []
        fed, deadline = 0, time.monotonic() + _TIMEOUT_SECONDS
        while b"watching" not in log.read_bytes():
            assert watching.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        while watching.poll() is None:
            fed += _round(scene, guest)
            sizes += [(fed, size)] if (size := _resident(watching.pid)) else []
        out, _ = watching.communicate()
    assert watching.returncode == 0, log.read_text()
    return sizes, int(json.loads(out)["events"]), fed


def _round(scene: Scene, guest: str) -> int:
    """What happens again and again; how many events it makes of those that a watch asks for."""
    scene.docker("kill", "--signal", "WINCH", *[guest] * _SIGNALS_A_ROUND)
    scene.docker("pause", guest)
    scene.docker("unpause", guest)
    scene.docker("run", "--rm", *_labels(scene), IMAGE, "false", check=False)
    # Signals, a pause and its end; made, started, died and taken away.
    return _SIGNALS_A_ROUND + 2 + 4


def _resident(process: int) -> int:
    """What a process has of the machine's memory, in KiB; nothing where it has just ended."""
    try:
        lines = Path("/proc", str(process), "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def _judged(sizes: list[tuple[int, int]], received: int, fed: int) -> int:
    warm = [one for one in sizes if one[0] >= WARM_AFTER]
    if received < EVENTS or len(warm) < 2 * _SAMPLES:
        print(f"it received {received} events of {fed}; {EVENTS} are wanted: give it longer")
        return 1
    early = statistics.median(size for _, size in warm[:_SAMPLES])
    late = statistics.median(size for _, size in warm[-_SAMPLES:])
    growth = late / early - 1
    print("| events | memory |\n|---|---|")
    for fed_then, size in warm[:: max(1, len(warm) // 10)]:
        print(f"| {fed_then} | {size / 1024:.1f} MiB |")
    print(f"{fed} events happened, {received} were received; memory grew from {early / 1024:.1f} to "
          f"{late / 1024:.1f} MiB ({growth:+.1%})")  # fmt: skip
    return 1 if growth > GROWS_AT_MOST else 0


if __name__ == "__main__":
    sys.exit(main())
