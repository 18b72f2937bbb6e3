"""Updates by a deployment's runs, one after the other, from a tag that moves at random; every third version is bad."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.stores import Stores
from models.operations import Operation, OperationStatus
from models.settings import Settings
from tests.e2e.runtime.ends import Folder, folder
from tests.support.ports import free_port
from tests.support.projects import remove_project
from tests.support.registry import Registry, registry
from tests.support.versions import BAD, IN_ORDER, AppVersion, Behaviour, Client, asking, web

_SERVES_WITHIN_SECONDS = 300
_ENDS_WITHIN_SECONDS = 300
_START_TIMEOUT_SECONDS = 6
_STABILISATION_SECONDS = 4
_HOLDS_SECONDS = 0.5
"""So long what serves after a verdict is seen."""
_MOVES_AGAIN = 0.25
"""The share of runs during which the tag moves."""
_MOVES_BACK = 0.25
"""The share of moves to a version that was published before."""
_STAYS = 0.1
_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledUpdate:
    """One run and what it left; `problems` are the ways in which its verdict is not true."""

    number: int
    wanted: AppVersion
    """What the tag meant when the run began."""
    moved_meanwhile: bool
    state: str
    served: AppVersion | None
    took_seconds: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        wanted = f"{self.wanted.name} ({self.wanted.behaviour}){' and moved' if self.moved_meanwhile else ''}"
        served = self.served.name if self.served else "nothing"
        said = "; ".join(self.problems) or "true"
        return f"{self.number:4} {wanted:28} {self.state:10} serves {served:4} {self.took_seconds:5.1f} s  {said}"


@dataclass(slots=True)
class UpdateCampaign:
    """An application that `roas serve` updates, its registry, and a client that asks all the time."""

    place: Folder
    images: Registry
    client: Client
    chance: random.Random
    settings: Settings
    versions: dict[str, AppVersion] = field(default_factory=dict)
    """By digest."""
    serves: AppVersion | None = None
    held_back: set[str] = field(default_factory=set)
    _tag: str = ""
    _seen_bad: dict[str, int] = field(default_factory=dict)
    _asked_until: float = field(default_factory=time.monotonic)

    def publish(self) -> None:
        """Let the tag mean another version: a new one, every third of them bad, or one of before."""
        if len(self.versions) > 1 and self.chance.random() < _MOVES_BACK:
            self._tag = self.images.move("web", f"web:{self.chance.choice(list(self.versions.values())).name}")
            return
        self.offer(self.chance.choice(BAD) if len(self.versions) % 3 == 2 else Behaviour.GOOD)

    def first(self) -> None:
        """Publish the version that the application starts with."""
        self.serves = self._add(AppVersion(name="0"))

    def offer(self, behaviour: Behaviour) -> None:
        """Let the tag mean a new version that serves like this."""
        self._add(AppVersion(name=f"{len(self.versions)}", behaviour=behaviour))

    def update_at_random(self, number: int) -> ScheduledUpdate:
        """Move the tag, perhaps again during the run, run the deployment once, and judge its verdict."""
        if self.chance.random() >= _STAYS:
            self.publish()
        return self.update(number, self._mover if self.chance.random() < _MOVES_AGAIN else None)

    def update(self, number: int, meanwhile: Callable[[], threading.Thread] | None = None) -> ScheduledUpdate:
        """Run the deployment once, and judge its verdict; `meanwhile` moves the tag."""
        before, wanted, began = self.serves, self.versions[self._tag], time.monotonic()
        tags = [self._tag]
        mover = meanwhile() if meanwhile is not None else None
        state, operation = self._run()
        took = time.monotonic() - began
        if mover is not None:
            mover.join()
            tags.append(self._tag)
        time.sleep(_HOLDS_SECONDS)
        problems = tuple(self._judge(number, began + took, before, tags, state, operation))
        return ScheduledUpdate(
            number=number,
            wanted=wanted,
            moved_meanwhile=mover is not None,
            state=state,
            served=self.serves,
            took_seconds=took,
            problems=problems,
        )

    def _add(self, version: AppVersion) -> AppVersion:
        self.images.publish(f"web:{version.name}", *version.lines())
        self._tag = self.images.move("web", f"web:{version.name}")
        self.versions[self._tag] = version
        return version

    def _mover(self) -> threading.Thread:
        after = self.chance.uniform(0, 4)

        def move() -> None:
            time.sleep(after)
            self.publish()

        thread = threading.Thread(target=move)
        thread.start()
        return thread

    def _run(self) -> tuple[str, Operation | None]:
        """Ask for a run as a schedule does; its last state, and the operation that it recorded."""
        deployment = self.place.ask("deployments/name/update/shop")["id"]
        run = self.place.ask(f"deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]
        deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
        while (state := self.place.ask(f"flow_runs/{run}")["state_type"]) not in _FINAL:
            assert time.monotonic() < deadline, f"the run is still {state}"
            time.sleep(0.25)
        with Stores.open(self.settings) as stores:
            history = stores.operations.history(environment="shop")
        return state, next((one for one in history if one.details.get("flow_run_id") == run), None)

    def _judge(
        self,
        number: int,
        ended: float,
        before: AppVersion | None,
        tags: list[str],
        state: str,
        operation: Operation | None,
    ) -> Iterator[str]:
        if operation is None or operation.ended_at is None:
            yield f"the run is {state} and recorded no operation that has ended"
            return
        proven = operation.status is OperationStatus.SUCCESS
        if proven is not (state == "COMPLETED"):
            yield f"the run is {state}, its operation {operation.status}"
        last = self.client.since(ended)
        by_name = {one.name: one for one in self.versions.values()}
        names = {one.version for one in last}
        self.serves = by_name.get(next(iter(names)) or "") if len(names) == 1 else None
        if self.serves is None or not self.serves.is_good or not all(one.is_right for one in last):
            yield f"after the verdict {sorted(map(str, names))} answer"
        if proven:
            yield from self._judge_proven(before, tags, operation)
        else:
            if self.serves is not before:
                yield f"failed, and {before and before.name} serves no more"
            held = {digest.rpartition("@")[2] for digest in operation.details.get("held_back", {}).values()}
            if not held or any(self.versions[one].is_good for one in held if one in self.versions):
                yield f"failed, and holds back {held or 'nothing'}: {operation.details.get('reason')}"
            if held & self.held_back:
                yield "an image that was held back was taken again"
            self.held_back |= held
        answered = {one.version for one in self.client.since(self._asked_until)}
        for version in self.versions.values():
            bad = version.name in answered and not version.is_good
            if bad and self._seen_bad.setdefault(version.name, number) != number:
                yield f"bad version {version.name} answered again"
        self._asked_until = ended

    def _judge_proven(self, before: AppVersion | None, tags: list[str], operation: Operation) -> Iterator[str]:
        possible = [self.versions[one] for one in tags if one not in self.held_back]
        if len(possible) < len(tags) and before is not None:
            # It is held back, so what served goes on.
            possible.append(before)
        if self.serves not in possible:
            yield f"proven, and serves none of {[one.name for one in possible]}: {operation.details.get('changes')}"


@contextmanager
def campaign(path: Path, seed: int, *, start_timeout_seconds: int = _START_TIMEOUT_SECONDS) -> Iterator[UpdateCampaign]:
    """The application runs and is served; all of it is removed at the end."""
    with folder() as place, registry(path / "registry") as images:
        settings = Settings(data_dir=place.path / "data")
        chance, port = random.Random(seed), free_port()
        project = _declare(place, images, port, start_timeout_seconds)
        try:
            made = UpdateCampaign(place, images, Client(port), chance, settings)
            made.first()
            assert place.start("start", "shop").wait(_SERVES_WITHIN_SECONDS) == 0, (place.path / "log").read_text()
            with asking(port) as client, _serving(place):
                made.client = client
                yield made
        finally:
            remove_project(project)


def _declare(place: Folder, images: Registry, port: int, start_timeout_seconds: int) -> str:
    project = place.declare("shop", {"web": web(images.image("web"), port)})
    file = place.path / "shop.yaml"
    probe = {"kind": "http", "port": 8080, "contains": IN_ORDER}
    declared: dict[str, Any] = json.loads(file.read_text())
    declared |= {
        "stabilisation_seconds": _STABILISATION_SECONDS,
        "services": {"web": {"probe": probe, "start_timeout_seconds": start_timeout_seconds}},
    }
    file.write_text(json.dumps(declared))
    return project


@contextmanager
def _serving(place: Folder) -> Iterator[None]:
    """`roas serve`, from when its agent watches."""
    running = place.start("serve")
    deadline = time.monotonic() + _SERVES_WITHIN_SECONDS
    try:
        while "watching shop\n" not in (place.path / "log").read_text():
            assert running.poll() is None, (place.path / "log").read_text()
            assert time.monotonic() < deadline, (place.path / "log").read_text()
            time.sleep(0.2)
        yield
    finally:
        running.terminate()
        running.wait(60)
