"""What the watch writes to goes away while it runs: python -m tests.e2e.faults.outages postgresql|sqlite|gate|server.

A real Prefect server, the agent with its Prefect worker, real stores and the real engine. Containers
are killed while the stores or the server are away; each must become healthy again, and all of it be on
record afterwards. Prints a row for each kill.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import httpx
import psutil

from adapters.stores import Stores
from models.recovery import RecoveryExecution
from models.settings import Settings
from tests.support.ports import free_port
from tests.support.projects import remove_project

ROOT = Path.cwd()
# On a quiet machine 20 of 20 took 2.4 s at most; a busy one takes far longer, and what each took is printed.
HEALTHY_WITHIN_SECONDS = 120.0
WAIT_SECONDS = 300
SERVICES = ("one", "two", "three")
COMPOSE = """
  {name}:
    image: debian:trixie-slim
    init: true
    command: [sh, -c, 'touch /tmp/well; exec sleep 3600']
    healthcheck:
      test: [CMD, test, -e, /tmp/well]
      interval: 1s
      timeout: 30s
      retries: 2
      start_period: 10s
      start_interval: 200ms
"""

HOLD_FILES = """
import sqlite3, sys
held = [sqlite3.connect(path, isolation_level=None, timeout=30) for path in sys.argv[1:]]
for one in held:
    one.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
HOLD_GATE = """
import fcntl, sys
gate = open(sys.argv[1], "r+b")
fcntl.flock(gate, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@dataclass(slots=True, kw_only=True)
class OutageInstallation:
    """An application that an agent watches."""

    folder: Path
    project: str
    settings: Settings
    api: str = ""
    agent: subprocess.Popen[bytes] | None = None
    engine: Any = field(default_factory=lambda: docker.APIClient(timeout=60))

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def healthy_after(self, service: str) -> float:
        """Kill a service's container, and the seconds until it is healthy again; infinite where it is not in time."""
        killed = time.monotonic()
        began = self.engine.inspect_container(self.container(service))["State"]["StartedAt"]
        self.engine.kill(self.container(service))
        while time.monotonic() - killed < HEALTHY_WITHIN_SECONDS:
            state = self.engine.inspect_container(self.container(service))["State"]
            if state["Running"] and state["StartedAt"] != began and state.get("Health", {}).get("Status") == "healthy":
                return time.monotonic() - killed
            time.sleep(0.05)
        return float("inf")

    def workers(self) -> list[int]:
        """The processes of the agent's Prefect worker."""
        assert self.agent is not None
        return [child.pid for child in psutil.Process(self.agent.pid).children()]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageKill:
    """One container that was killed during an outage, and its records afterwards."""

    service: str
    at: datetime
    seconds: float
    recovery: RecoveryExecution | None
    resolution: str

    def complaints(self) -> Iterator[str]:
        if self.seconds > HEALTHY_WITHIN_SECONDS:
            yield f"{self.service} was healthy again after {self.seconds:.1f} s"
        if self.recovery is None or not self.recovery.success or not self.recovery.steps:
            yield f"{self.service} has no successful recovery with steps on record"
        elif not self.recovery.detected_at or abs((self.recovery.detected_at - self.at).total_seconds()) > self.seconds:
            yield f"the recovery of {self.service} is recorded at {self.recovery.detected_at}, not {self.at}"
        if not self.resolution:
            yield f"the error of {self.service} is not resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageOutcome:
    """What came of an outage."""

    kills: Sequence[OutageKill]
    worker_goes_on: bool
    agent_goes_on: bool

    def complaints(self) -> list[str]:
        found = [complaint for kill in self.kills for complaint in kill.complaints()]
        if not self.worker_goes_on:
            found.append("the worker ended")
        if not self.agent_goes_on:
            found.append("the agent ended")
        return found


@contextmanager
def prefect_server(home: Path, port: int) -> Iterator[str]:
    """A whole Prefect server; begun again in the same home it knows what it knew."""
    from adapters.server.credentials import server_credentials
    from flows.server.embedded import server_environment

    home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}/api"
    environment = server_environment(server_credentials(home), port) | {
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false"
    }
    # What is shown here is an outage, and its many clients sign in nowhere.
    del environment["PREFECT_SERVER_API_AUTH_STRING"]
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(url), "an answer of the Prefect server")
        yield url
    finally:
        process.kill()
        process.wait(30)


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/ready", timeout=2).status_code == httpx.codes.OK
    return False


def wait_until(reached: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come")
        time.sleep(0.1)


@contextmanager
def application(folder: Path, stores_url: str | None) -> Iterator[OutageInstallation]:
    """Three services of one project that do not need each other."""
    project = f"roas-outage-{secrets.token_hex(4)}"
    (folder / "compose.yaml").write_text("services:" + "".join(COMPOSE.format(name=name) for name in SERVICES))
    (folder / "dev.yaml").write_text(
        f"name: dev\nproject: {project}\ncompose_files: [compose.yaml]\nstabilisation_seconds: 0.5\n"
    )
    os.environ |= {"ROAS_DATA_DIR": str(folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(folder)}
    os.environ.pop("ROAS_STORES_URL", None)
    # No Redis listens: the cache is away all the time.
    os.environ["ROAS_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    if stores_url is not None:
        os.environ["ROAS_STORES_URL"] = stores_url
    try:
        yield OutageInstallation(folder=folder, project=project, settings=Settings())
    finally:
        remove_project(project)


@contextmanager
def watched(place: OutageInstallation) -> Iterator[None]:
    """An agent in a process of its own that watches the application, and takes flow runs."""
    programs = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PREFECT_API_URL": place.api,
        "PREFECT_HOME": str(place.folder / "home"),
    }
    with (place.folder / "agent.log").open("wb") as log:
        place.agent = subprocess.Popen(
            [str(programs / "roas"), "worker", "--pool", "roas"],
            env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        with Stores.open(place.settings) as stores:
            wait_until(lambda: "watch/dev" in stores.heartbeats.all(), "a heartbeat of the watch")
        wait_until(lambda: bool(place.workers()), "the agent's worker")
        time.sleep(3)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(place.agent.pid, signal.SIGKILL)
        place.agent.wait()


@contextmanager
def held_by_another_process(program: str, *paths: Path) -> Iterator[None]:
    """Another process holds files until the body ends."""
    command = [sys.executable, "-c", program, *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()


def kill_one_after_the_other(
    place: OutageInstallation, services: Sequence[str], seconds: float
) -> list[tuple[str, datetime, float]]:
    """Kill containers evenly over an outage of so many seconds; the seconds that each took to be healthy."""
    began, kills = time.monotonic(), []
    for number, service in enumerate(services):
        due = began + 2 + number * max(0.0, seconds - 12) / max(1, len(services) - 1)
        time.sleep(max(0.0, due - time.monotonic()))
        at = datetime.now(UTC)
        kills.append((service, at, place.healthy_after(service)))
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return kills


def outage(kind: str, seconds: float, services: Sequence[str] = SERVICES) -> OutageOutcome:
    """Let what is written to be away for so many seconds."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roas-outage-")))
        postgresql = None
        url = None
        if kind == "postgresql":
            from tests.support.postgresql_server import postgresql as begin_postgresql

            postgresql = stack.enter_context(begin_postgresql())
            url = stack.enter_context(postgresql.database())
        place = stack.enter_context(application(folder, url))
        port, home, serving = free_port(), folder / "prefect", ExitStack()
        stack.callback(serving.close)
        place.api = serving.enter_context(prefect_server(home, port))
        stack.enter_context(temporary_settings({PREFECT_API_URL: place.api}))
        _start(place)
        stack.enter_context(watched(place))
        workers = place.workers()
        data = place.settings.data_dir

        if kind == "postgresql":
            assert postgresql is not None
            postgresql.control("stop", "-m", "fast")
            try:
                kills = kill_one_after_the_other(place, services, seconds)
            finally:
                postgresql.control("start")
        elif kind == "server":
            serving.close()
            kills = kill_one_after_the_other(place, services, seconds)
            serving.enter_context(prefect_server(home, port))
        else:
            names = ("errors.db", "deployment_logs.db", "monitoring.db") if kind == "sqlite" else ("gate.lock",)
            program = HOLD_FILES if kind == "sqlite" else HOLD_GATE
            with held_by_another_process(program, *(data / name for name in names)):
                kills = kill_one_after_the_other(place, services, seconds)
        found = _recorded(place, kills)
        outcome = OutageOutcome(
            kills=found,
            worker_goes_on=place.workers() == workers,
            agent_goes_on=place.agent is not None and place.agent.poll() is None,
        )
        if outcome.complaints():
            print((place.folder / "agent.log").read_text()[-6000:], file=sys.stderr)
        return outcome


def _start(place: OutageInstallation) -> None:
    """In a process of its own: the client of this one would wait for the server when it is gone."""
    roas = Path(sys.executable).with_name("roas")
    environment = os.environ | {"PREFECT_API_URL": place.api}
    done = subprocess.run([roas, "start", "dev"], capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def _recorded(place: OutageInstallation, kills: Sequence[tuple[str, datetime, float]]) -> list[OutageKill]:
    """The records of each kill, once the stores have taken all of it or do not within a while."""
    with Stores.open(place.settings) as stores:

        def complete() -> bool:
            found = stores.recoveries.find(environment="dev")
            return all(any(one.service == name and one.success for one in found) for name, _, _ in kills)

        with suppress(TimeoutError):
            wait_until(complete, "the record", seconds=300)
        executions = stores.recoveries.find(environment="dev")
        resolved = {
            one.error.service: one.resolution
            for one in stores.error_notifications.reported_errors("dev", datetime.min.replace(tzinfo=UTC))
        }
    return [
        OutageKill(
            service=service,
            at=at,
            seconds=seconds,
            recovery=next((one for one in executions if one.service == service), None),
            resolution=resolved.get(service, ""),
        )
        for service, at, seconds in kills
    ]


def main() -> int:
    """Print a row for each kill; exit with 1 where an expectation failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["postgresql", "sqlite", "gate", "server"])
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    outcome = outage(asked.kind, asked.seconds)
    print(f"{asked.kind} away for {asked.seconds:.0f} s")
    print("| killed | at | healthy again after | on record: detected, proven, steps | resolution |")
    print("|---|---|---|---|---|")
    for kill in outcome.kills:
        one = kill.recovery
        record = (
            f"{one.detected_at:%H:%M:%S}, {one.verified_at:%H:%M:%S}, {len(one.steps)} steps"
            if one and one.verified_at and one.detected_at
            else str(one)
        )
        print(f"| {kill.service} | {kill.at:%H:%M:%S} | {kill.seconds:.1f} s | {record} | {kill.resolution} |")
    print(f"the agent goes on: {outcome.agent_goes_on}; its worker is the same: {outcome.worker_goes_on}")
    for complaint in outcome.complaints():
        print(f"NOT AS IT MUST BE: {complaint}")
    return 1 if outcome.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
