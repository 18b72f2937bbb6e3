"""Whether what is started and stopped comes in the order of what needs what, and is ours at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL
from tests.simulation.containers import Container
from tests.simulation.sentences import Sentence
from tests.simulation.world import NAME, World

_LATELY = timedelta(seconds=20)
_RECOVERY_KNOWS = timedelta(seconds=60)
"""What a service needs may fail while a recovery of that service goes on."""


class OrderChecks:
    """Checks each change of a container that a process of ours asks for."""

    def __init__(
        self, world: World, fail: Callable[[Sentence, str], None], served: Callable[[str, datetime, datetime], bool]
    ) -> None:
        self._world, self._fail, self._served = world, fail, served

    def check(self, who: str, container: Container, change: str) -> None:
        """Whether a process may make this change now."""
        service, project = container.labels.get(SERVICE_LABEL, ""), container.labels.get(PROJECT_LABEL)
        if project != NAME:
            self._fail(Sentence.FOREIGN, f"{who} would {change} {container.name} of {project}.")
        elif change in ("start", "restart") and who != "answer" and not (container.put_back and not container.life):
            now = self._world.clock.now()
            since = now - (_RECOVERY_KNOWS if who == "agent" else _LATELY)
            for other in self._needs(service):
                if not self._served(other, since, now) and not self._is_paused(other):
                    self._fail(Sentence.ORDER, f"{who} {change}s {container.name}, which needs {other}.")
        elif change == "stop" and who == "stop":
            for shape in self._world.shapes:
                if service in shape.needs and any(other.is_up for other in self._world.containers(shape.name)):
                    self._fail(Sentence.ORDER, f"{who} stops {container.name}, which {shape.name} needs.")

    def _needs(self, service: str) -> tuple[str, ...]:
        return next((shape.needs for shape in self._world.shapes if shape.name == service), ())

    def _is_paused(self, service: str) -> bool:
        return any(container.status == "paused" for container in self._world.containers(service))
