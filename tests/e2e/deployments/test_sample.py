from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployments.events import await_event

SAMPLE = Path(__file__).parents[3] / "deployments/sample"

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Running:
    """The sample under a project name of its own, on ports that the engine chose."""

    project: str

    def compose(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "compose", "--project-name", self.project, *arguments],
            capture_output=True,
            text=True,
            cwd=SAMPLE,
            env=os.environ
            | {"SAMPLE_REDIS_PASSWORD": "for-tests", "SAMPLE_BOT_PORT": "0", "SAMPLE_PROMETHEUS_PORT": "0"}
            | variables,
        )

    def fail(self, service: str, mode: str) -> None:
        done = self.compose("exec", "-T", service, "fail", mode)
        assert done.returncode == 0, done.stderr

    def await_event(self, service: str, action: str, *, since: float) -> None:
        await_event(f"{self.project}-{service}-1", action, since=f"{since:.9f}")

    def state(self, service: str) -> dict[str, Any]:
        inspected = subprocess.run(
            ["docker", "inspect", f"{self.project}-{service}-1"], capture_output=True, text=True, check=True
        )
        document: dict[str, Any] = json.loads(inspected.stdout)[0]
        return document

    def port(self, service: str, inside: int) -> int:
        return int(self.compose("port", service, str(inside)).stdout.strip().rsplit(":", 1)[1])


@pytest.fixture
def new_sample() -> Iterator[Callable[[], Running]]:
    """Give applications that are not started yet; remove them with their data afterwards."""
    made: list[Running] = []

    def make() -> Running:
        made.append(Running(f"roas-test-{uuid.uuid4().hex[:8]}"))
        return made[-1]

    yield make
    for running in made:
        assert running.compose("down", "--volumes", "--timeout", "1").returncode == 0


@pytest.fixture(scope="module")
def sample() -> Iterator[Running]:
    """One started application for all tests that only disturb it for a moment."""
    running = Running(f"roas-test-{uuid.uuid4().hex[:8]}")
    started = running.compose("up", "--detach", "--wait")
    assert started.returncode == 0, started.stderr
    yield running
    assert running.compose("down", "--volumes").returncode == 0


def test_the_job_ends_well_and_the_bot_says_how_it_is(sample: Running) -> None:
    assert sample.state("migrate")["State"]["ExitCode"] == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{sample.port('bot', 8080)}/healthz", timeout=5) as answer:
        assert json.load(answer) == {"status": "ok", "reason": None}
    with urllib.request.urlopen(f"http://127.0.0.1:{sample.port('bot', 8080)}/metrics", timeout=5) as answer:
        assert b"bot_gateway_connected 1" in answer.read()


@pytest.mark.parametrize(
    ("service", "mode", "words"),
    [
        ("bot", "disconnected", "gateway disconnected"),
        # On a busy machine the engine ends the check before that has waited its time.
        ("bot", "hang", "did not answer|exceeded timeout"),
        ("redis", "misconf", "MISCONF"),
        ("redis", "readonly", "READONLY"),
        ("redis", "oom", "OOM"),
        ("redis", "noauth", "WRONGPASS"),
    ],
)
@pytest.mark.campaign
def test_a_failure_asked_for_is_seen_and_ends(sample: Running, service: str, mode: str, words: str) -> None:
    before = time.time()
    sample.fail(service, mode)
    sample.await_event(service, "health_status: unhealthy", since=before)
    assert re.search(words, sample.state(service)["State"]["Health"]["Log"][-1]["Output"])
    before = time.time()
    sample.fail(service, "none")
    sample.await_event(service, "health_status: healthy", since=before)


@pytest.mark.campaign
def test_a_leak_meets_its_limit(sample: Running) -> None:
    before = time.time()
    sample.fail("bot", "leak")
    sample.await_event("bot", "oom", since=before)
    sample.await_event("bot", "start", since=before)


@pytest.mark.campaign
def test_services_end_with_exit_code_0_when_stopped(new_sample: Callable[[], Running]) -> None:
    running = new_sample()
    assert running.compose("up", "--detach", "--wait").returncode == 0
    assert running.compose("stop").returncode == 0
    assert {name: running.state(name)["State"]["ExitCode"] for name in ("bot", "redis", "prometheus")} == {
        "bot": 0,
        "redis": 0,
        "prometheus": 0,
    }


@pytest.mark.parametrize(
    ("variable", "service", "words"),
    [
        ("FAIL_MIGRATE", "migrate", "migration 003_add_guild_settings failed"),
        ("FAIL_PROMETHEUS", "prometheus", "error"),
        ("FAIL_BOT", "bot", "RuntimeError: asked to fail"),
    ],
)
@pytest.mark.campaign
def test_a_failure_from_the_start_ends_the_start(
    new_sample: Callable[[], Running], variable: str, service: str, words: str
) -> None:
    running = new_sample()
    mode = "config" if service == "prometheus" else "exit"
    started = running.compose("up", "--detach", "--wait", "--wait-timeout", "120", **{variable: mode})
    assert started.returncode != 0
    assert words in running.compose("logs", "--no-log-prefix", service).stdout
