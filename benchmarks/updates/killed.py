"""Updates whose process is killed, and what is left once a user has taken them up or begun something else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.latency.commands import ROAS
from benchmarks.measure import Stack, report, run_docker, stack
from benchmarks.updates.application import last_operation, place, roas, states, warm_up
from models.operations import Operation
from tests.support.registry import Registry, image_id
from tests.support.versions import AppVersion, Behaviour, web

_CHANGED = ("web", "worker")
_NEXT = ("resume", "start", "update")
"""What a user does after the kill."""
_BEHAVIOURS = (Behaviour.GOOD, Behaviour.CRASH, Behaviour.UNHEALTHY)
_BEGINS_WITHIN_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateKill:
    """When an update to a version is killed, whether with the commands that it runs, and what the user does next.

    It is killed after so many recorded steps, or after so many seconds.
    """

    behaviour: Behaviour
    then: str
    steps: int | None = None
    seconds: float = 0.0
    with_children: bool = False

    @property
    def failed(self) -> bool:
        return self.behaviour is not Behaviour.GOOD

    def __str__(self) -> str:
        when = f"after {self.steps} steps" if self.steps is not None else f"after {self.seconds:.2f} s"
        return f"{self.behaviour:9} {when:14} {'and its commands' if self.with_children else '':16} {self.then:6}"


@dataclass(slots=True)
class KilledApplication:
    """A service that stays as it is, and two with new images each time."""

    made: Stack
    images: Registry
    number: int = 0
    versions: dict[str, AppVersion] = field(default_factory=dict)
    """By image id."""

    def publish(self, behaviour: Behaviour) -> None:
        """The next version of both services; the first one behaves so, the other well."""
        self.number += 1
        for name, how in zip(_CHANGED, (behaviour, Behaviour.GOOD), strict=True):
            version = AppVersion(name=f"{self.number}", behaviour=how)
            self.images.publish(name, f"ENV PART={name}", *version.lines())
            self.versions[image_id(f"127.0.0.1:{self.images.port}/{name}")] = version

    def update_and_kill(self, kill: UpdateKill) -> str | None:
        """The id of the operation that was killed; None where it had ended, or had not begun, before."""
        earlier = last_operation(self.made.name).deployment_id
        with subprocess.Popen(
            [*ROAS, "update", self.made.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        ) as running:
            begun = begun_since(self.made.name, earlier, running)
            if begun is None or not wait_for(kill, begun, running):
                return None
            kill_process(int(begun.details["runner"]["pid"]), with_children=kill.with_children)
        return begun.deployment_id

    def take_up(self, kill: UpdateKill, deployment_id: str) -> list[str]:
        """Do what the user does next; what went wrong with that."""
        words = ("resume", deployment_id) if kill.then == "resume" else (kill.then, self.made.name)
        code, said = roas(*words, codes=range(256))
        if code == 0 or (code == 1 and kill.failed):
            return []
        return [f"{words[0]} ended with exit code {code}: {said[-400:]}"]

    def problems(self, kill: UpdateKill) -> list[str]:
        """What is not as an update that was finished or undone leaves it."""
        from tasks.deployment.services import read_plan
        from tasks.runtime.project import open_project
        from tasks.runtime.stores import open_stores

        running = {name: state.split()[-1] for name, state in states(self.made).items()}
        services = ("base", *_CHANGED)
        label = f"label=com.docker.compose.project={self.made.project}"
        listed = run_docker("ps", "-a", "--filter", label, "--format", "{{.Names}} {{.Status}}").splitlines()
        expected = {f"{self.made.project}-{name}-1" for name in services}
        serving = [self.versions.get(running.get(name, "")) for name in _CHANGED]
        found = {
            f"containers are {sorted(listed)}": {one.split()[0] for one in listed} != expected
            or not all("(healthy)" in one for one in listed),
            f"versions are {serving}": None in serving
            # Of two new images the next update takes the one that has not failed.
            or (len({one.name for one in serving if one}) != 1 and not (kill.failed and kill.then == "update"))
            or not all(one.is_good for one in serving if one),
            "an operation still counts as running": bool(open_stores().operations.list_running()),
            "a start would change something": bool(read_plan(open_project(self.made.name)).changes),
        } | {
            f"the name of {name}'s image refers to another one": image_id(self.images.image(name)) != running.get(name)
            for name in services
        }
        return [what for what, so in found.items() if so]


def killed(folder: Path, rounds: int, seed: int) -> bool:
    """Kill updates at each recorded step and at random moments; `rounds` is how many ways to go on each gets."""
    chance, outcome = random.Random(seed), Counter[str]()
    with _running(folder) as application:
        kills = [*_at_steps(application, rounds, chance), *_at_random(application, rounds, chance)]
        for kill in kills:
            problems = _one(application, kill)
            outcome["was over before" if problems is None else "wrong" if problems else "right"] += 1
            print(f"{kill}: {'it was over before' if problems is None else '; '.join(problems) or 'right'}", flush=True)
    print(f"{len(kills)} kills: " + ", ".join(f"{count} {what}" for what, count in outcome.items()))
    report("kills that came in time", outcome["right"] + outcome["wrong"], least=len(kills) // 2)
    return report("killed updates that were neither finished nor undone", outcome["wrong"], most=0)


def _one(application: KilledApplication, kill: UpdateKill) -> list[str] | None:
    application.publish(kill.behaviour)
    deployment_id = application.update_and_kill(kill)
    if deployment_id is None:
        roas("start", application.made.name)
        return None
    problems = application.take_up(kill, deployment_id)
    found = [*problems, *application.problems(kill)]
    code, said = roas("start", application.made.name, codes=range(256))
    if code != 0:
        found.append(f"the next start ended with exit code {code}: {said[-400:]}")
    if found or code:
        _repair(application)
    else:
        found += [f"after the next start {one}" for one in application.problems(kill)]
    return found


def _repair(application: KilledApplication) -> None:
    """A known good version for the kills that follow."""
    application.publish(Behaviour.GOOD)
    roas("update", application.made.name, codes=range(256))
    application.made.compose("pull", "--quiet")
    application.made.compose("up", "--detach", "--wait", "--remove-orphans")
    roas("start", application.made.name)


def _at_steps(application: KilledApplication, rounds: int, chance: random.Random) -> Iterator[UpdateKill]:
    for behaviour in _BEHAVIOURS[:2]:
        application.publish(behaviour)
        roas("update", application.made.name, codes=range(256))
        recorded = len(steps_of(last_operation(application.made.name).deployment_id))
        for steps in range(recorded + 1):
            # With three rounds or more each way to go on is tried at each step.
            for then in (_NEXT[steps % len(_NEXT) :] + _NEXT)[: min(rounds, len(_NEXT))]:
                yield UpdateKill(behaviour=behaviour, then=then, steps=steps, with_children=chance.random() < 0.5)


def _at_random(application: KilledApplication, rounds: int, chance: random.Random) -> Iterator[UpdateKill]:
    application.publish(Behaviour.GOOD)
    began = time.monotonic()
    roas("update", application.made.name)
    usual = time.monotonic() - began
    for number in range(rounds * len(_NEXT)):
        yield UpdateKill(
            behaviour=chance.choice(_BEHAVIOURS),
            then=_NEXT[number % len(_NEXT)],
            seconds=chance.uniform(0, usual),
            with_children=chance.random() < 0.5,
        )


def begun_since(environment: str, earlier: str, running: subprocess.Popen[bytes]) -> Operation | None:
    """The operation that a command has begun; None where it ended before, or does not begin."""
    deadline = time.monotonic() + _BEGINS_WITHIN_SECONDS
    while (found := last_operation(environment)).deployment_id == earlier:
        if running.poll() is not None or time.monotonic() > deadline:
            return None
        time.sleep(0.005)
    return found


def wait_for(kill: UpdateKill, begun: Operation, running: subprocess.Popen[bytes]) -> bool:
    """Wait for the moment of the kill; False where the update has ended before."""
    until = time.monotonic() + kill.seconds

    def come() -> bool:
        if kill.steps is None:
            return time.monotonic() >= until
        return len(steps_of(begun.deployment_id)) >= kill.steps

    while not come():
        if running.poll() is not None:
            return False
        time.sleep(0.005)
    return running.poll() is None


def steps_of(deployment_id: str) -> list[str]:
    """The recorded steps of an operation."""
    from tasks.runtime.stores import open_stores

    return [one.step for one in open_stores().progress.steps(deployment_id)]


def kill_process(process: int, *, with_children: bool) -> None:
    """Kill a process as the kernel would, whether with the commands that it runs."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        children = psutil.Process(process).children(recursive=True) if with_children else []
        os.kill(process, signal.SIGKILL)
        for one in children:
            with suppress(psutil.NoSuchProcess):
                one.kill()


@contextmanager
def _running(folder: Path) -> Iterator[KilledApplication]:
    with place(folder) as images:
        images.publish("base", "ENV PART=base", *AppVersion(name="0").lines())
        needs: dict[str, Any] = {"depends_on": {"base": {"condition": "service_healthy"}}}
        services = {"base": web(images.image("base"))}
        services |= {name: web(images.image(name), **needs) for name in _CHANGED}
        with stack(folder, "shop", services, stabilisation_seconds=2) as made:
            application = KilledApplication(made, images)
            application.publish(Behaviour.GOOD)
            roas("start", made.name)
            warm_up(folder)
            yield application
