"""How fast a recorded, proven start is: each figure is a ratio of things measured in turns within one run.

    python -m benchmarks.startup [chain thirty cold validation ...] [--rounds 5]

Medians; measured in turns whose order changes, each from no containers and no network (removing them is not timed).

- ours: the flow `startup`, repeated in one process on a Prefect server of its own, until every service is proven and
  all is recorded. Stabilisation is 0.
- compose: `docker compose up --detach --wait` of the same file.
- bare: `docker compose create`, then the containers started through the engine's API in the known order, waiting for
  the same events. `ours` less `bare` is the price of validation, plan, proof and record.
- cold: the command `roas start` in a new process, with and without `roas serve` running.

The chain is ten services, each waiting until the one before is healthy; the thirty stand side by side. Each is a small
container with an ordinary health check (CHECKED below).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker

from benchmarks.measure import Stack, checked, in_turns, medians, report, stack
from flows.common.terminal import send_log
from flows.server.embedded import prefect_api, wait_for_api
from models.settings import Settings
from tests.support.ports import free_port

CHECKED = checked(interval="5s", timeout="3s", retries=3, start_period="30s")
ROAS = [sys.executable, "-c", "from cli.main import main; main()"]
Work = Callable[[], object]


def main() -> None:
    """Measure the requested figures and print them."""
    apart = {"validation": validation, "cold": cold}
    warm = {"chain": chain, "thirty": thirty}
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", nargs="*", choices=[*apart, *warm, []], help="by default everything")
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    # A terminated run cleans up after itself as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="roas-startup-") as name:
        folder = Path(name)
        os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": name, "ROAS_WARM": "0"}
        wanted = chosen.what or [*apart, *warm]
        for name in [one for one in apart if one in wanted]:
            apart[name](folder, chosen.rounds)
        if warm.keys() & set(wanted):
            # One server for all: the engine reads where it is once a process.
            with prefect_api(Settings()), asyncio.Runner() as runner:
                wait_for_api()
                try:
                    for name in [one for one in warm if one in wanted]:
                        warm[name](folder, chosen.rounds, runner)
                finally:
                    send_log()


def chain(folder: Path, rounds: int, runner: asyncio.Runner) -> None:
    """Ten services, each after the one before it."""
    _against_compose(_chained(folder, "chain"), rounds, runner, most=1.0)


def thirty(folder: Path, rounds: int, runner: asyncio.Runner) -> None:
    """Thirty services side by side."""
    _against_compose(
        _stack(folder, "thirty", dict.fromkeys(f"side{n:02}" for n in range(30))), rounds, runner, most=1.1
    )


def cold(folder: Path, rounds: int) -> None:
    """The command in a new process, on three services one after the other."""
    with _chained(folder, "cold", 3) as made:
        more = {"ROAS_SERVER_PORT": str(free_port())}
        works = {"compose": _up(made), "roas start": lambda: _quiet([*ROAS, "start", made.name], more)}
        # The databases of a new data folder are created before the measurement.
        works["roas start"]()
        alone = _measured("cold, alone", rounds, made, works)
        with _served(more):
            served = _measured("cold, beside roas serve", rounds, made, works)
        for name, taken in (("alone", alone), ("beside roas serve", served)):
            report(f"  roas start more than compose, {name}", taken["roas start"] - taken["compose"], "s", most=3)


def validation(folder: Path, rounds: int) -> None:
    """Everything inspected before a start of ten services, and evaluated."""
    from adapters.preflight import gather_facts
    from core.deployment.validate import validate
    from tasks.runtime.clients import find_environment

    def work() -> None:
        validate(asyncio.run(gather_facts(find_environment("look"))), now=datetime.now(UTC))

    with _chained(folder, "look") as made:
        taken = _measured("validation", rounds, made, {"validation": work})
    report("validation of ten services", taken["validation"], "s", most=3)


def _stack(folder: Path, name: str, after: dict[str, Any]) -> AbstractContextManager[Stack]:
    """Services by name, and the one that each waits for."""
    waits = {name: {"depends_on": {of: {"condition": "service_healthy"}}} for name, of in after.items() if of}
    services = {name: CHECKED | waits.get(name, {}) for name in after}
    return stack(folder, name, services, stabilisation_seconds=0)


def _chained(folder: Path, name: str, count: int = 10) -> AbstractContextManager[Stack]:
    names = [f"link{number:02}" for number in range(count)]
    return _stack(folder, name, dict(zip(names, [None, *names], strict=False)))


def _against_compose(
    application: AbstractContextManager[Stack], rounds: int, runner: asyncio.Runner, *, most: float
) -> None:
    with application as made:
        ours = _started(made.name, runner)
        ours()
        taken = _measured(made.name, rounds, made, {"ours": ours, "compose": _up(made), "bare": lambda: _bare(made)})
    report("  ours / compose", taken["ours"] / taken["compose"], "x", most=most)
    report("  ours / bare", taken["ours"] / taken["bare"], "x", most=1.15)


def _measured(what: str, rounds: int, made: Stack, works: dict[str, Work]) -> dict[str, float]:
    """Median seconds of each work, from nothing each time."""

    def from_nothing() -> tuple[()]:
        made.down()
        return ()

    taken = medians(in_turns(rounds, works, from_nothing))
    print(f"{what}: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in taken.items()), flush=True)
    return taken


def _started(environment: str, runner: asyncio.Runner) -> Work:
    from flows.deployment.startup import startup

    def start() -> None:
        state = runner.run(startup(environment, return_state=True))
        if not state.is_completed():
            raise RuntimeError(f"the start of {environment} failed: {state.message}")

    return start


def _up(made: Stack) -> Work:
    return lambda: made.compose("up", "--detach", "--wait")


def _bare(made: Stack) -> None:
    """Start what Compose creates, each service at the event it waits for."""
    made.compose("create")
    declared = json.loads(made.file.read_text())["services"]
    after = {name: next(iter(body.get("depends_on", ())), None) for name, body in declared.items()}
    client = docker.APIClient(base_url="unix:///var/run/docker.sock", version="auto", max_pool_size=32)
    label = f"com.docker.compose.project={made.project}"
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
        begun = [pool.submit(client.start, containers[one]) for one, before in after.items() if before is None]
        for _ in containers:
            done = healthy.get(timeout=60)
            begun += [pool.submit(client.start, containers[one]) for one, of in after.items() if of == done]
    for one in begun:
        one.result()
    stream.close()
    listener.join(5)
    client.close()


@contextmanager
def _served(more: dict[str, str]) -> Iterator[None]:
    """`roas serve` while the body runs, from the moment its API answers."""
    address = {
        "PREFECT_API_URL": f"http://127.0.0.1:{more['ROAS_SERVER_PORT']}/api",
        "PREFECT_API_AUTH_STRING": Path(os.environ["ROAS_DATA_DIR"], "prefect/auth_string").read_text().strip(),
    }
    os.environ |= address
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*ROAS, "serve"], env={**os.environ, **more}, **silent) as process:
        try:
            wait_for_api()
            for name in address:
                del os.environ[name]
            yield
        finally:
            process.terminate()


def _quiet(command: Sequence[str], more: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[-2:])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
