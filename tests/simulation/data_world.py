"""An application whose data is saved: a database, files, and a service with a file of its own; who writes what."""

from __future__ import annotations

import random
from typing import Any

from adapters.docker.client import SERVICE_LABEL
from models.snapshots import DataSettings
from tests.simulation.containers import Container, Data
from tests.simulation.engine import Engine, Programs
from tests.simulation.world import CHECK, NAME, Shape, World

DATABASE = "db"
WRITERS = ("web", "jobs")
_SLOW = {"start_period": "60s"}
SHOP_WITH_DATA = (
    Shape(name=DATABASE, has_data=True, restart="unless-stopped", check=CHECK | _SLOW),
    Shape(name="web", needs=(DATABASE,), has_data=True, check=CHECK | _SLOW),
    Shape(name="jobs", needs=(DATABASE,), check=None, restart="unless-stopped", has_data=True),
)
_MIGRATES_IN = 0.2


def volume_of(service: str) -> str:
    """The name of a service's volume."""
    return f"{NAME}_{service}-data"


def declare_data(world: World, choices: random.Random) -> DataSettings:
    """Let the environment name its data, and its programs write to it."""
    server = choices.choice(
        ({"kind": "postgresql", "user": "shop"}, {"kind": "mariadb", "database": "shop"}, {"kind": "redis"})
    )
    settings = {
        "save": [
            server | {"service": DATABASE},
            {"kind": "files", "volume": "web-data"},
            {"kind": "sqlite", "service": "jobs", "file": "/data/state.db"},
        ],
        "keep": {"last": choices.randint(1, 3), "daily": choices.randint(0, 1), "weekly": 0},
        "before_updates": choices.choice(("changed", "changed", "all")),
        "timeout_seconds": 60,
    }
    world.shapes = SHOP_WITH_DATA
    world.declared["data"] = settings
    world.engine.programs = ProgramsWithData(world.engine, choices)
    world.write_files()
    return DataSettings.model_validate(settings)


class ProgramsWithData(Programs):
    """The database keeps what others write. They write there and to their own volume, and migrate both."""

    def __init__(self, engine: Engine, choices: random.Random) -> None:
        super().__init__(engine)
        self._choices = choices

    def begin(self, container: Container) -> int:
        if not self._is_writer(container):
            return 0
        newest = max(data.schema for data in self.used_by(container))
        if newest <= container.version.schema:
            self.engine.later(_MIGRATES_IN, self._migrate, container, container.life)
        return 0 if container.version.is_blind else newest

    def used_by(self, container: Container) -> list[Data]:
        """The data that a writer needs."""
        volumes = (volume_of(DATABASE), volume_of(container.labels[SERVICE_LABEL]))
        return [self.engine.volumes[volume] for volume in volumes if volume in self.engine.volumes]

    def serve(self, container: Container) -> None:
        if self._is_writer(container):
            self._write_on(container, container.life)

    def _is_writer(self, container: Container) -> bool:
        labels = container.labels
        return labels.get(SERVICE_LABEL) in WRITERS and labels.get("com.docker.compose.oneoff") == "False"

    def _reachable(self, container: Container) -> list[Data]:
        database = next(iter(self.engine.of_project(NAME, DATABASE)), None)
        used = self.used_by(container)
        return used if database is not None and database.serves else used[1:]

    def _migrate(self, container: Container, life: int) -> None:
        if container.life == life and container.status == "running":
            for data in self._reachable(container):
                data.schema = max(data.schema, container.version.schema)

    def _write_on(self, container: Container, life: int) -> None:
        if container.life != life or container.container_id not in self.engine.containers:
            return
        if container.status == "running":
            for data in self._reachable(container):
                self.write(container, data)
        self.engine.later(self._choices.uniform(4.0, 16.0), self._write_on, container, life)


def cannot_read(world: World) -> list[tuple[Container, int]]:
    """The containers that serve on data of a newer schema than theirs, with that schema."""
    programs: Any = world.engine.programs
    return [
        (container, newest)
        for service in WRITERS
        for container in world.containers(service)
        if container.serves
        and (newest := max((data.schema for data in programs.used_by(container)), default=0)) > container.version.schema
    ]
