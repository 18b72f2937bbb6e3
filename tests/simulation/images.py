"""Which images run, which the names lead to, and which are proven: what each operation must leave of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from models.failures import StartFailedError
from models.operations import Operation
from models.records import Release
from tests.simulation.containers import Outcome
from tests.simulation.sentences import Sentence
from tests.simulation.world import World, reference_of

Images = dict[str, str]
"""The id of an image by service; empty where there is none, or several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was there when an operation first began, also where it is resumed. `proven` has the newest first."""

    running: Images
    named: Images
    published: Images
    proven: tuple[Images, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the newest proven release runs, and the names lead to its images."""
        return bool(self.proven) and self.running == self.proven[0] == self.named


class ImageNotes:
    """The images before and after each operation of one simulation."""

    def __init__(self, world: World, fail: Callable[[Sentence, str], None]) -> None:
        self._world, self._fail = world, fail
        self.refused: frozenset[str] = frozenset()
        """With these an update has failed, by the record."""

    def before(self, releases: Iterable[Release]) -> Before:
        """What is there now; `releases` are those on record, the newest first."""
        proven = tuple(dict(release.images) for release in releases if release.proven)
        return Before(running=self._running(), named=self._named(), published=self._published(), proven=proven)

    def check_success(self, kind: str, before: Before, record: Operation | None, releases: Iterable[Release]) -> None:
        """Whether what runs after an operation that succeeded is what it is said to be."""
        running = self._running()
        own = next((release for release in releases if record and release.release_id == record.record.release), None)
        if own is not None and own.images != running:
            self._fail(Sentence.PROVEN, f"{kind} kept {self._compare(own.images, running)}.")
        if kind == "rollback" and all(before.running.values()):
            target = next((images for images in before.proven if images != before.running), None)
            if target is not None and target != running:
                self._fail(Sentence.GOES_BACK, f"It was to be {self._compare(target, running)}.")
        if kind == "update" and before.published == self._published():
            for service, image in before.published.items():
                if image not in (*self.refused, running[service]) and not self._is_paused(service):
                    self._fail(Sentence.NEWEST, f"{service} is {self._describe(running[service])}.")

    def check_failure(self, kind: str, before: Before, error: BaseException) -> None:
        """Whether an operation that failed has left images and names as they were."""
        if not before.is_whole:
            return
        for now in (self._running(), self._named()):
            if now != before.running:
                self._fail(Sentence.UNDONE, f"{kind} failed, and left {self._compare(before.running, now)}.")
        if kind == "update" and isinstance(error, StartFailedError) and before.published == self._published():
            self._check_held_back(before, error.service)

    def _check_held_back(self, before: Before, service: str | None) -> None:
        fresh = [name for name, image in before.published.items() if image != before.running[name]]
        if service is None or fresh != [service] or before.published[service] in self.refused:
            return
        if self._world.engine.registry[reference_of(service)].outcome is Outcome.CRASHES:
            self._fail(Sentence.HELD_BACK, f"{self._describe(before.published[service])} is not on record.")

    def _running(self) -> Images:
        images: Images = {}
        for shape in self._world.shapes:
            containers = self._world.containers(shape.name)
            images[shape.name] = containers[0].version.image_id if len(containers) == 1 else ""
        return images

    def _named(self) -> Images:
        engine = self._world.engine
        versions = {shape.name: engine.names.get(reference_of(shape.name)) for shape in self._world.shapes}
        return {name: version.image_id if version is not None else "" for name, version in versions.items()}

    def _published(self) -> Images:
        registry = self._world.engine.registry
        return {shape.name: registry[reference_of(shape.name)].image_id for shape in self._world.shapes}

    def _is_paused(self, service: str) -> bool:
        return any(container.status == "paused" for container in self._world.containers(service))

    def _compare(self, expected: Images, actual: Images) -> str:
        differing = [name for name in expected if expected[name] != actual.get(name)]
        words = (f"{self._describe(expected[name])}, not {self._describe(actual.get(name, ''))}" for name in differing)
        return "; ".join(words)

    @staticmethod
    def _describe(image: str) -> str:
        text = image.removeprefix("sha256:").rstrip("0")
        return bytes.fromhex(text + "0" * (len(text) % 2)).decode() if text else "nothing"
