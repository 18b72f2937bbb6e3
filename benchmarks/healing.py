"""How fast a failure is healed: against a restart by hand, and against a loop that polls every five seconds.

    python -m benchmarks.healing [--rounds 5]

All moments are the engine's own (its events), so one clock counts. Measured in turns; medians.

- acted: from the engine's event `health_status: unhealthy` to the restart reaching the container. `watch` is the
  flow as it runs in service; `polling` is what the usual healer does: list the unhealthy containers every 5 s,
  restart what it finds. It begins at a random moment of its interval, as a failure does.
- healed: from the end of a killed container to the moment it is proven again. `watch` ends when the recovery is
  verified by the service's own check and recorded; `by hand` is `docker restart` given at once, until the same
  check passes, without detection, evidence or records.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import docker

from flows.runtime.embedded import prefect_api, wait_for_api
from models.settings import Settings

IMAGE = "debian:trixie-slim"
POLL_SECONDS = 5.0
ACT_SECONDS = 0.5
FASTER_THAN_POLLING = 5.0
SLOWER_THAN_BY_HAND = 1.3
COMPOSE = f"""
services:
  web:
    image: {IMAGE}
    init: true
    command: [sh, -c, 'touch /tmp/well; exec sleep 3600']
    healthcheck:
      test: [CMD, test, -e, /tmp/well]
      interval: 1s
      timeout: 1s
      retries: 2
      start_period: 10s
      start_interval: 200ms
"""


class EngineProcess:
    """The engine's events about one container, with its own moments in seconds."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.client = docker.APIClient(timeout=60)

    def after(self, act: Callable[[], object], *actions: str) -> list[float]:
        """Do something, and give the moments of the next events of these kinds, in this order."""
        since = self.client.info()["SystemTime"]
        moments: list[float] = []
        received = self.client.events(since=_nano(since), decode=True, filters={"container": self.container})
        with closing(received) as events:
            acting = threading.Thread(target=act)
            acting.start()
            left = list(actions)
            for event in events:
                if event["Action"] == left[0]:
                    moments.append(event["timeNano"] / 1e9)
                    left.pop(0)
                    if not left:
                        break
            acting.join()
        return moments


def _nano(moment: str) -> str:
    return f"{datetime.fromisoformat(moment[:26] + moment[-1:]).timestamp():.9f}"


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[None]:
    """A watch with stores of its own, so that no earlier attempt makes it wait; it has looked around once."""
    from flows.recovery.watch import watch
    from tasks.runtime.stores import open_stores

    os.environ["ROAS_DATA_DIR"] = str(folder / secrets.token_hex(4))
    task = asyncio.create_task(watch("bench"))
    await asyncio.to_thread(_until, lambda: "watch/bench" in open_stores().heartbeats.all())
    # Its first look around is over by then, as it is when a failure comes at any time.
    await asyncio.sleep(2)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def measure(folder: Path, container: str, rounds: int) -> dict[str, list[float]]:
    """The seconds of every round, by measurement."""
    engine = EngineProcess(container)
    found: dict[str, list[float]] = {"watch acted": [], "polling acted": [], "watch healed": [], "by hand healed": []}

    def spoil() -> None:
        subprocess.run(["docker", "exec", container, "rm", "-f", "/tmp/well"], check=True)

    acted = ("health_status: unhealthy", "kill", "health_status: healthy")
    for _ in range(rounds):
        async with watching(folder):
            ill, kill, _well = await asyncio.to_thread(engine.after, spoil, *acted)
            found["watch acted"].append(kill - ill)
        async with watching(folder):
            (end,) = await asyncio.to_thread(engine.after, lambda: engine.client.kill(container), "die")
            found["watch healed"].append(await _proven() - end)
        ill, kill, _well = await asyncio.to_thread(engine.after, lambda: (spoil(), poll(engine)), *acted)
        found["polling acted"].append(kill - ill)

        def by_hand() -> None:
            engine.client.kill(container)
            subprocess.run(["docker", "restart", container], check=True, capture_output=True)

        end, well = await asyncio.to_thread(engine.after, by_hand, "die", "health_status: healthy")
        found["by hand healed"].append(well - end)
    return found


async def _proven() -> float:
    """The moment the recovery was verified and recorded."""
    from tasks.runtime.stores import open_stores

    def ended() -> bool:
        return any(one.ended_at is not None for one in open_stores().recoveries.find(environment="bench"))

    await asyncio.to_thread(_until, ended)
    (done,) = open_stores().recoveries.find(environment="bench")
    if not done.success or done.ended_at is None:
        raise SystemExit(f"the recovery failed: {done.final_status}")
    return done.ended_at.timestamp()


def _until(seen: Callable[[], bool]) -> None:
    while not seen():
        time.sleep(0.02)


def poll(engine: EngineProcess) -> None:
    """The usual healer, until it has restarted something."""
    pause = threading.Event()
    pause.wait(random.uniform(0, POLL_SECONDS))
    while True:
        ill: list[dict[str, Any]] = engine.client.containers(filters={"health": "unhealthy", "name": engine.container})
        for one in ill:
            engine.client.restart(one["Id"], timeout=10)
        if ill:
            return
        pause.wait(POLL_SECONDS)


def main() -> None:
    """Measure, and say which promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    project = f"roas-bench-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "compose.yaml").write_text(COMPOSE)
        (folder / "bench.yaml").write_text(
            f"name: bench\nproject: {project}\ncompose_files: [compose.yaml]\nstabilisation_seconds: 0\n"
        )
        os.environ |= {"ROAS_ENVIRONMENTS_DIR": name, "ROAS_DATA_DIR": str(folder / "data")}
        compose = ["docker", "compose", "-p", project, "-f", str(folder / "compose.yaml")]
        try:
            subprocess.run([*compose, "up", "-d", "--wait"], check=True, capture_output=True)
            with prefect_api(Settings()):
                wait_for_api()
                found = asyncio.run(measure(folder, f"{project}-web-1", rounds))
        finally:
            subprocess.run([*compose, "down", "-t", "1"], check=False, capture_output=True)
    middle = {what: statistics.median(seconds) for what, seconds in found.items()}
    for what, seconds in found.items():
        print(f"{what:16} {middle[what]:7.3f} s   {' '.join(f'{one:.3f}' for one in seconds)}")
    faster = middle["polling acted"] / middle["watch acted"]
    slower = middle["watch healed"] / middle["by hand healed"]
    print(f"acts within {ACT_SECONDS} s: {_kept(middle['watch acted'] <= ACT_SECONDS)}")
    print(f"{faster:.1f} times as fast to act as polling, promised {FASTER_THAN_POLLING}: ", end="")
    print(_kept(faster >= FASTER_THAN_POLLING))
    print(f"heals in {slower:.2f} times a restart by hand, promised {SLOWER_THAN_BY_HAND}: ", end="")
    print(_kept(slower <= SLOWER_THAN_BY_HAND))


def _kept(kept: bool) -> str:
    return "kept" if kept else "NOT kept"


if __name__ == "__main__":
    main()
