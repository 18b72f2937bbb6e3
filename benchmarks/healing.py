"""How fast a failure is recovered: against a restart by hand, and against a loop that polls every five seconds.

    python -m benchmarks.healing [--rounds 5]

All moments are the engine's own (its events), so one clock counts. Measured in turns; medians.

- acted: from the engine's event `health_status: unhealthy` to the restart reaching the container. `watch` is the
  flow as it runs in service; `polling` is what the usual healer does: list the unhealthy containers every 5 s,
  restart what it finds. It begins at a random moment of its interval, as a failure does.
- recovered: from the end of a killed container to the moment it is proven again. `watch` ends when the recovery is
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
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path

import docker

from benchmarks.measure import checked, report, run_docker, stack
from flows.server.embedded import prefect_api, wait_for_api
from models.settings import Settings

POLL_SECONDS = 5.0
WEB = checked(interval="1s", timeout="1s", retries=2, start_period="10s")


class EngineProcess:
    """The engine's events about one container, with its own moments in seconds."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.client = docker.APIClient(timeout=60)

    def after(self, act: Callable[[], object], *actions: str) -> list[float]:
        """Act, and return the moments of the next events of these kinds, in this order."""
        now = self.client.info()["SystemTime"]
        since = f"{datetime.fromisoformat(now[:26] + now[-1:]).timestamp():.9f}"
        moments: list[float] = []
        received = self.client.events(since=since, decode=True, filters={"container": self.container})
        with closing(received) as events:
            acting = threading.Thread(target=act)
            acting.start()
            for event in events:
                if event["Action"] == actions[len(moments)]:
                    moments.append(event["timeNano"] / 1e9)
                    if len(moments) == len(actions):
                        break
            acting.join()
        return moments

    def spoil(self) -> None:
        run_docker("exec", self.container, "rm", "-f", "/tmp/well")

    def poll(self) -> None:
        """Spoil it, and act as the usual healer until it has restarted something."""
        self.spoil()
        time.sleep(random.uniform(0, POLL_SECONDS))
        while not (found := self.client.containers(filters={"health": "unhealthy", "name": self.container})):
            time.sleep(POLL_SECONDS)
        for one in found:
            self.client.restart(one["Id"], timeout=10)

    def restart_by_hand(self) -> None:
        self.client.kill(self.container)
        run_docker("restart", self.container)


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[None]:
    """A watch with stores of its own, so that no earlier attempt makes it wait; it has swept once."""
    from flows.recovery.watch import watch
    from tasks.runtime.stores import open_stores

    os.environ["ROAS_DATA_DIR"] = str(folder / secrets.token_hex(4))
    task = asyncio.create_task(watch("bench"))
    await asyncio.to_thread(_until, lambda: "watch/bench" in open_stores().heartbeats.all())
    # Its first sweep is over by then, as it is when a failure comes at any time.
    await asyncio.sleep(2)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def measure(folder: Path, container: str, rounds: int) -> dict[str, list[float]]:
    """The seconds of every round, by measurement."""
    engine, found = EngineProcess(container), defaultdict[str, list[float]](list)
    acted = ("health_status: unhealthy", "kill", "health_status: healthy")
    for _ in range(rounds):
        async with watching(folder):
            unhealthy, kill, _healthy = await asyncio.to_thread(engine.after, engine.spoil, *acted)
            found["watch acted"].append(kill - unhealthy)
        async with watching(folder):
            (end,) = await asyncio.to_thread(engine.after, lambda: engine.client.kill(container), "die")
            found["watch recovered"].append(await _proven() - end)
        unhealthy, kill, _healthy = await asyncio.to_thread(engine.after, engine.poll, *acted)
        found["polling acted"].append(kill - unhealthy)
        end, healthy = await asyncio.to_thread(engine.after, engine.restart_by_hand, "die", acted[-1])
        found["by hand recovered"].append(healthy - end)
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


def main() -> None:
    """Measure, and report which goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory() as name,
        stack(Path(name), "bench", {"web": WEB}, stabilisation_seconds=0) as made,
    ):
        made.compose("up", "-d", "--wait")
        with prefect_api(Settings()):
            wait_for_api()
            found = asyncio.run(measure(Path(name), f"{made.project}-web-1", rounds))
    middle = {what: statistics.median(times) for what, times in found.items()}
    for what, times in found.items():
        print(f"{what:18} {middle[what]:7.3f} s   {' '.join(f'{one:.3f}' for one in times)}")
    report("the watch acts within", middle["watch acted"], "s", most=0.5)
    report("times as fast to act as polling", middle["polling acted"] / middle["watch acted"], least=5)
    report("times a restart by hand to recover", middle["watch recovered"] / middle["by hand recovered"], most=1.3)


if __name__ == "__main__":
    main()
