"""A scenario in the simulated world, in a process of its own."""

from __future__ import annotations

import logging
import random
from pathlib import Path

from models.failures import RoasError
from tests.simulation.actions import Action, Kind
from tests.simulation.actors import Actors
from tests.simulation.data_world import ProgramsWithData
from tests.simulation.ledger import Ledger
from tests.simulation.real_records import Normalizer, Records, names_of_images, read_containers, read_records
from tests.simulation.real_round import wait_until_steady, watch_while
from tests.simulation.real_scenarios import COMMANDS, Doing, RealStep, Scenario
from tests.simulation.world import ADDRESS, NAME, Log, World, reference_of

_KINDS = {
    Doing.STOP_BY_HAND: Kind.STOP_BY_HAND,
    Doing.START_BY_HAND: Kind.START_BY_HAND,
    Doing.KILL_BY_HAND: Kind.KILL_BY_HAND,
    Doing.PAUSE_BY_HAND: Kind.PAUSE_CONTAINER,
    Doing.UNPAUSE_BY_HAND: Kind.UNPAUSE_CONTAINER,
    Doing.CRASH: Kind.CRASH,
    Doing.UNHEALTHY: Kind.UNHEALTHY,
}


class SimulatedScenario:
    """A world that is made for a scenario, with its stores in a folder."""

    def __init__(self, scenario: Scenario, folder: Path, chance: int = 0) -> None:
        """`chance` is a number that decides how long all takes."""
        self._scenario = scenario
        # No seed of a long run: its agent sweeps more seldom.
        self._world = world = World(4 * chance + 1, folder)
        world.shapes, world.declared = scenario.shapes, dict(scenario.environment)
        if scenario.has_data:
            world.engine.programs = ProgramsWithData(world.engine, random.Random(scenario.number))
        log = logging.getLogger("roas")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.handlers = [Log(world)]
        self._actors = Actors(world, Ledger(world))

    @property
    def timeline(self) -> list[str]:
        """What happened, by the virtual clock."""
        return [str(line) for line in self._world.timeline]

    def run(self) -> Records:
        """Let all of it happen, and return what is on record afterwards."""
        records = self._world.loop.run_until_complete(self._play())
        names = {str(self._world.folder): "<folder>", ADDRESS: "<engine>"}
        for version in self._scenario.versions:
            names |= names_of_images((version.image_id,), version)
        for shape in self._world.shapes:
            image = reference_of(shape.name)
            names |= {image: f"<image of {shape.name}>", image.rpartition(":")[0]: f"<repository of {shape.name}>"}
        return Normalizer(names).apply(records)

    async def _play(self) -> Records:
        world = self._world
        for version in self._scenario.first:
            world.publish(version)
        world.write_files()
        for step in self._scenario.steps:
            await self._do(step)
        reader = world.begin("reader", lambda: read_containers(NAME))
        await reader.ended.wait()
        records: Records = await self._actors.ask(lambda: read_records(NAME))
        return records | reader.result

    async def _do(self, step: RealStep) -> None:
        world = self._world
        world.note("step", str(step))
        if step.version is not None:
            world.publish(step.version)
        if step.doing in COMMANDS:
            run = world.begin(str(step.doing), COMMANDS[step.doing])
        else:
            action = Action(0.0, _KINDS[step.doing], step.service)
            run = world.begin("agent", lambda: watch_while(NAME, lambda: self._actors.do(action), self._is_steady))
        await run.ended.wait()
        world.note("step", f"{step.doing} ended: {run.error or 'well'}")
        if run.error is not None and not (step.doing in COMMANDS and isinstance(run.error, RoasError)):
            raise run.error
        await wait_until_steady(self._is_steady)

    async def _is_steady(self) -> bool:
        """Whether no program is about to become ready."""
        return all(not container.is_up or container.health != "starting" for container in self._world.containers())
