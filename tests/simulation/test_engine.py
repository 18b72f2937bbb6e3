"""The simulated engine does with its containers what moby does: what was seen on a real one is written down here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation import kernel
from tests.simulation.clock import Clock
from tests.simulation.containers import KILLED, NANOSECONDS, TERMINATED, Container, Outcome, Version
from tests.simulation.engine import Engine

CHECK = {
    "Test": ["CMD", "check"],
    "Interval": NANOSECONDS,
    "Retries": 3,
    "StartPeriod": 6 * NANOSECONDS,
    "StartInterval": NANOSECONDS // 5,
}


class Machine:
    """An engine with one container, and time that passes."""

    def __init__(self, outcome: Outcome, restart: str = "no", check: dict[str, Any] | None = CHECK) -> None:
        self.clock = Clock()
        self.loop = kernel.Loop(self.clock)
        kernel.use(self.loop)
        self.engine = Engine(self.clock, random.Random(1))
        self.events: list[str] = []
        self.engine.on_event = lambda _, action: self.events.append(action)
        version = Version(service="web", number=1, outcome=outcome)
        self.engine.names["web"] = version
        body = {"Image": "web", "HostConfig": {"RestartPolicy": {"Name": restart}}, "Labels": {}}
        self.container: Container = self.engine.create("web", body | ({"Healthcheck": check} if check else {}))
        self.engine.start(self.container)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def do(self, work: Callable[[], None]) -> None:
        """Do something that takes its time."""
        kernel.spawn(work)
        self.wait(5.0)

    @property
    def results(self) -> list[int]:
        """The exit codes of the last checks."""
        health = self.engine.describe(self.container)["State"]["Health"]
        return [result["ExitCode"] for result in health["Log"]]


@pytest.mark.parametrize("outcome", [Outcome.HANGS, Outcome.UNHEALTHY])
def test_a_program_that_never_passes_its_check_is_unhealthy_after_its_start_period(outcome: Outcome) -> None:
    machine = Machine(outcome)
    machine.wait(7.9)
    assert machine.container.health == "starting"
    machine.wait(0.2)
    assert machine.container.health == "unhealthy"
    assert machine.events[-1] == "health_status: unhealthy"
    assert machine.results == [1] * 5


def test_a_check_is_run_again_and_again_and_five_results_are_kept() -> None:
    machine = Machine(Outcome.SERVES)
    machine.wait(3600)
    assert machine.results == [0] * 5
    last = machine.container.checked_at
    machine.wait(2.0)
    assert machine.results == [0] * 5
    assert last is not None
    assert machine.container.checked_at is not None
    assert machine.container.checked_at > last


def test_a_check_that_fails_from_now_on_has_failed_as_often_as_it_may() -> None:
    machine = Machine(Outcome.SERVES)
    machine.wait(60)
    machine.engine.sicken(machine.container)
    assert machine.container.health == "unhealthy"
    assert machine.results == [0, 0, 1, 1, 1]


def test_a_container_without_a_check_never_becomes_unhealthy() -> None:
    machine = Machine(Outcome.SERVES, check=None)
    machine.wait(60)
    machine.engine.sicken(machine.container)
    assert machine.container.health is None
    assert machine.events == ["create", "start"]


def test_a_paused_container_is_unhealthy_until_a_check_after_it_went_on() -> None:
    machine = Machine(Outcome.SERVES)
    machine.wait(10)
    machine.engine.pause(machine.container)
    assert machine.container.health == "unhealthy"
    machine.wait(10)
    machine.engine.unpause(machine.container)
    assert machine.container.health == "unhealthy"
    machine.wait(1.1)
    assert machine.container.health == "healthy"
    assert machine.events[-3:] == ["pause", "unpause", "health_status: healthy"]


def test_a_program_that_was_paused_as_it_started_goes_on_with_that() -> None:
    machine = Machine(Outcome.SERVES)
    machine.engine.pause(machine.container)
    machine.wait(20)
    machine.engine.unpause(machine.container)
    machine.wait(3)
    assert machine.container.health == "healthy"


def test_what_has_ended_is_unhealthy() -> None:
    machine = Machine(Outcome.SERVES)
    machine.wait(10)
    machine.engine.die(machine.container, 1)
    assert (machine.container.status, machine.container.health) == ("exited", "unhealthy")
    assert machine.events[-1] == "die"


def test_a_stop_of_a_paused_container_lets_it_go_on_and_end() -> None:
    machine = Machine(Outcome.SERVES)
    machine.wait(10)
    machine.engine.pause(machine.container)
    machine.do(lambda: machine.engine.stop(machine.container))
    assert (machine.container.status, machine.container.exit_code) == ("exited", TERMINATED)
    assert machine.events[-4:] == ["kill", "unpause", "die", "stop"]


def test_a_stop_between_two_starts_sends_nothing() -> None:
    machine = Machine(Outcome.CRASHES, restart="unless-stopped", check=None)
    machine.wait(8)
    while machine.container.status != "restarting":
        machine.wait(0.1)
    assert machine.engine.describe(machine.container)["State"]["Running"]
    begun = len(machine.events)
    machine.engine.start(machine.container)
    machine.do(lambda: machine.engine.stop(machine.container))
    machine.wait(120)
    assert (machine.container.status, machine.events[begun:]) == ("exited", ["stop"])


def test_a_program_that_ends_by_itself_as_it_is_stopped_is_not_started_again() -> None:
    machine = Machine(Outcome.SERVES, restart="unless-stopped")
    machine.wait(10)
    machine.loop.call_later(0.2, machine.engine.die, machine.container, 1)
    machine.do(lambda: machine.engine.stop(machine.container))
    machine.wait(60)
    assert (machine.container.status, machine.container.exit_code) == ("exited", 1)


def test_a_kill_ends_a_container_for_good() -> None:
    machine = Machine(Outcome.SERVES, restart="unless-stopped")
    machine.wait(10)
    machine.engine.signal(machine.container, 9, KILLED)
    machine.wait(60)
    assert (machine.container.status, machine.container.exit_code) == ("exited", KILLED)
