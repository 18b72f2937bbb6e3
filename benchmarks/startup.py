"""How fast a recorded, proven start is: each figure is a ratio of things measured in turns within one run.

    python -m benchmarks.startup [chain thirty cold validation ...] [--rounds 5]

Measured in turns, the order changing with every round, containers and network made from nothing each time
and removed in between (not timed); the figures are medians.

- ours: the flow `startup`, called again and again in one process, as a runner does, on a Prefect server of its
  own: from the request until every service is proven and everything is recorded. Stabilisation is 0.
- compose: `docker compose up --detach --wait` of the same file: from the request until all is healthy.
- bare: `docker compose create`, then the same containers started through the engine's API in the same order,
  waiting for the same events: nothing is validated, planned, proven, judged or recorded, and the order is known
  beforehand. Creating is Compose's in all three, so it counts in all three; what `ours` takes more than `bare` is
  the whole price of looking before, of proving and of recording.
- cold: the command `roas start` in a new process, with and without `roas serve` running.

The chain is ten services, each waiting for the one before it to be healthy; the thirty stand side by side. Every
service is a small container with a health check as a person in a hurry would write it (CHECK below).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import queue
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from flows.runtime.embedded import prefect_api, wait_for_api
from flows.runtime.terminal import send_log
from models.settings import Settings
from tests.support.brokers import running_broker
from tests.support.ports import free_port

IMAGE = "debian:trixie-slim"
CHECK = {
    "test": ["CMD", "test", "-e", "/tmp/well"],
    "interval": "5s",
    "timeout": "3s",
    "retries": 3,
    "start_period": "30s",
    "start_interval": "200ms",
}
ENGINE = "unix:///var/run/docker.sock"
COLD_SECONDS = 3.0
VALIDATION_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """An application to start: who waits for whom, by service."""

    name: str
    project: str
    folder: Path
    after: dict[str, str | None]

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.compose.json"

    def write(self) -> None:
        services = {
            service: {
                "image": IMAGE,
                "init": True,
                "command": ["sh", "-c", "touch /tmp/well; exec sleep 600"],
                "healthcheck": CHECK,
                **({"depends_on": {before: {"condition": "service_healthy"}}} if before else {}),
            }
            for service, before in self.after.items()
        }
        self.file.write_text(json.dumps({"services": services}))
        declared = {
            "name": self.name,
            "project": self.project,
            "compose_files": [self.file.name],
            "stabilisation_seconds": 0,
        }
        (self.folder / f"{self.name}.yaml").write_text(json.dumps(declared))

    def compose(self, *arguments: str) -> None:
        command = ["docker", "compose", "--project-name", self.project, "--file", str(self.file), *arguments]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "DOCKER_HOST": ENGINE})

    def down(self) -> None:
        # Killed first: Compose stops one after the other, in reverse order.
        self.compose("kill")
        self.compose("down", "--timeout", "1")


def main() -> None:
    """Measure the requested figures and print it."""
    apart = {"validation": validation, "cold": cold}
    warm = {"chain": chain, "thirty": thirty, "broker": broker}
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", nargs="*", choices=[*apart, *warm, []], help="by default everything")
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    # A terminated run cleans up after itself as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="roas-startup-") as folder:
        os.environ["ROAS_DATA_DIR"] = str(Path(folder, "data"))
        os.environ["ROAS_ENVIRONMENTS_DIR"] = folder
        wanted = chosen.what or [*apart, *warm]
        for name in [one for one in apart if one in wanted]:
            apart[name](Path(folder), chosen.rounds)
        if warm.keys() & set(wanted):
            # One server for all: the engine reads where it is once a process.
            with prefect_api(Settings()):
                wait_for_api()
                try:
                    for name in [one for one in warm if one in wanted]:
                        warm[name](Path(folder), chosen.rounds)
                finally:
                    send_log()


def chain(folder: Path, rounds: int) -> None:
    """Ten services, each after the one before it."""
    names = [f"link{number:02}" for number in range(10)]
    _against_compose(folder, "chain", dict(zip(names, [None, *names], strict=False)), rounds, goal=1.0)


def thirty(folder: Path, rounds: int) -> None:
    """Thirty services side by side."""
    _against_compose(folder, "thirty", {f"side{number:02}": None for number in range(30)}, rounds, goal=1.1)


def broker(folder: Path, rounds: int) -> None:
    """Ten services, each after the one before it: straight to the engine, and through its broker."""
    names = [f"link{number:02}" for number in range(10)]
    with (
        _stack(folder, "straight", dict(zip(names, [None, *names], strict=False))) as stack,
        running_broker(folder, stack.project) as listening,
    ):
        declared = json.loads((folder / "straight.yaml").read_text())
        through = declared | {"name": "brokered", "engine": f"unix://{listening}"}
        (folder / "brokered.yaml").write_text(json.dumps(through))
        works = {"straight": _started("straight"), "brokered": _started("brokered")}
        for work in works.values():
            asyncio.run(_in_turns(1, stack, {"warm-up": work}))
        taken = asyncio.run(_in_turns(rounds, stack, works))
    print("broker: " + ", ".join(f"{one} {seconds:.2f} s" for one, seconds in taken.items()))
    _reported("  brokered / straight", taken["brokered"] / taken["straight"], 1.03)


def cold(folder: Path, rounds: int) -> None:
    """The command in a new process, on three services one after the other."""
    names = ["store", "queue", "front"]
    with _stack(folder, "cold", dict(zip(names, [None, *names], strict=False))) as stack:
        command = [sys.executable, "-c", "from cli.main import main; main()"]
        start = [*command, "start", stack.name]
        port = {"ROAS_SERVER_PORT": str(free_port())}

        def roas(**more: str) -> Callable[[], Awaitable[None]]:
            return lambda: asyncio.to_thread(_quiet, start, {**os.environ, **port, **more})

        # The databases of a new data folder are created before the measurement.
        _quiet(start, {**os.environ, **port})
        alone = asyncio.run(_in_turns(rounds, stack, {"compose": _up(stack), "roas start": roas()}))
        with _served(command, port):
            served = asyncio.run(_in_turns(rounds, stack, {"compose": _up(stack), "roas start": roas()}))
        for name, taken in (("alone", alone), ("beside roas serve", served)):
            print(f"cold, {name}: " + ", ".join(f"{one} {seconds:.2f} s" for one, seconds in taken.items()))
            more = taken["roas start"] - taken["compose"]
            _reported(f"  roas start more than compose, {name}", more, COLD_SECONDS, "s")


def validation(folder: Path, rounds: int) -> None:
    """Everything looked at before a start of ten services, and judged."""
    from adapters.preflight import gather_facts
    from core.deployment.validate import validate
    from tasks.runtime.clients import find_environment

    names = [f"link{number:02}" for number in range(10)]
    with _stack(folder, "look", dict(zip(names, [None, *names], strict=False))) as stack:

        async def look() -> None:
            from datetime import UTC, datetime

            validate(await gather_facts(find_environment(stack.name)), now=datetime.now(UTC))

        taken = asyncio.run(_in_turns(rounds, stack, {"validation": look}))
        _reported("validation of ten services", taken["validation"], VALIDATION_SECONDS, "s")


def _against_compose(folder: Path, name: str, after: dict[str, str | None], rounds: int, *, goal: float) -> None:
    with _stack(folder, name, after) as stack:
        ours = _started(stack.name)
        works = {"ours": ours, "compose": _up(stack), "bare": lambda: asyncio.to_thread(_bare, stack)}
        taken = asyncio.run(_in_turns(rounds, stack, works, warm_up=ours))
    print(f"{name}: " + ", ".join(f"{one} {seconds:.2f} s" for one, seconds in taken.items()))
    _reported("  ours / compose", taken["ours"] / taken["compose"], goal)
    _reported("  ours / bare", taken["ours"] / taken["bare"], 1.15)


async def _in_turns(
    rounds: int,
    stack: Stack,
    works: dict[str, Callable[[], Awaitable[None]]],
    *,
    warm_up: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, float]:
    """Median seconds of each, from nothing each time, the order turned round with every round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    if warm_up is not None:
        await warm_up()
    for number in range(rounds):
        for name in list(works)[:: 1 if number % 2 == 0 else -1]:
            await asyncio.to_thread(stack.down)
            began = time.perf_counter()
            await works[name]()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def _started(environment: str) -> Callable[[], Awaitable[None]]:
    from flows.deployment.startup import startup

    async def start() -> None:
        state = await startup(environment, return_state=True)
        if not state.is_completed():
            raise RuntimeError(f"the start of {environment} failed: {state.message}")

    return start


def _up(stack: Stack) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.to_thread(stack.compose, "up", "--detach", "--wait")


def _bare(stack: Stack) -> None:
    """Start what Compose creates, each service at the event it waits for."""
    stack.compose("create")
    client = docker.APIClient(base_url=ENGINE, version="auto", max_pool_size=32)
    label = f"com.docker.compose.project={stack.project}"
    listed = client.containers(all=True, filters={"label": label})
    services = {one["Id"]: one["Labels"]["com.docker.compose.service"] for one in listed}
    containers = {service: container for container, service in services.items()}
    stream = client.events(decode=True, filters={"type": "container", "label": label, "event": "health_status"})
    healthy: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for event in stream:
            if event["Action"] == "health_status: healthy":
                healthy.put(services[event["Actor"]["ID"]])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with ThreadPoolExecutor(16) as pool:
        begun = [pool.submit(client.start, containers[one]) for one, before in stack.after.items() if before is None]
        for _ in containers:
            done = healthy.get(timeout=60)
            begun += [pool.submit(client.start, containers[one]) for one, of in stack.after.items() if of == done]
    for one in begun:
        one.result()
    stream.close()
    listener.join(5)
    client.close()


@contextmanager
def _stack(folder: Path, name: str, after: dict[str, str | None]) -> Iterator[Stack]:
    stack = Stack(name=name, project=f"roas-bench-{secrets.token_hex(4)}", folder=folder, after=after)
    stack.write()
    try:
        yield stack
    finally:
        stack.down()


@contextmanager
def _served(command: Sequence[str], more: dict[str, str]) -> Iterator[None]:
    """`roas serve` while the body runs, from the moment its API answers."""
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{more['ROAS_SERVER_PORT']}/api"
    process = subprocess.Popen(
        [*command, "serve"],
        env={**os.environ, **more},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_api()
        del os.environ["PREFECT_API_URL"]
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _quiet(command: Sequence[str], variables: dict[str, str]) -> None:
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[-2:])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _reported(name: str, value: float, goal: float, unit: str = "x") -> None:
    print(f"{name:48} {value:6.2f} {unit}   (goal at most {goal:g} {unit})", flush=True)


if __name__ == "__main__":
    main()
