"""What a person does after the process of an operation was killed, before anybody takes it up again."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml

from flows.deployment.stop import stop
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import Place
from tests.support.docker_command import docker_command

STOPPED, PAUSED = "stopped the application", "paused the environment"
PAUSED_CONTAINER, CLOSED_WINDOW = "paused a container", "closed the update window"
BETWEEN = (STOPPED, PAUSED, PAUSED_CONTAINER, CLOSED_WINDOW)


async def between(place: Place, person: str, service: str) -> None:
    """Do it; a container is paused of this service."""
    if person == STOPPED:
        await stop("test")
    elif person == PAUSED:
        open_stores().pauses.pause("test", None, None, "hands off", "anna")
    elif person == PAUSED_CONTAINER:
        docker_command("pause", place.container(service))
    else:
        file = place.folder / "test.yaml"
        day = (datetime.now(UTC).weekday() + 3) % 7
        names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
        window = {"days": [names[day]], "from": "01:00", "to": "02:00"}
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"update": {"windows": [window]}}))
