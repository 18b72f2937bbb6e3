"""`python -m tests.simulation.real_simulated NUMBER`: run a scenario in the simulated world, and print its records."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.real_records import Records
    from tests.simulation.real_scenarios import Scenario


def main() -> int:
    """Run the scenario."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.real_simulated", description=__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--timeline", action="store_true", help="print what happened to standard error")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ |= {"PYTHONHASHSEED": "0", "PREFECT_PROFILES_PATH": os.devnull}
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.real_simulated", *sys.argv[1:]])
    from tests.simulation import installed

    installed.import_product()
    from tests.simulation.real_scenarios import draw_scenario

    with tempfile.TemporaryDirectory(prefix="roas-simulation-") as name:
        folder = Path(name)
        installed.make_template(folder / "data")
        records, timeline = _run(draw_scenario(chosen.number), folder)
        json.dump(records, sys.stdout)
        if chosen.timeline:
            print("\n".join(timeline), file=sys.stderr)
        sys.stdout.flush()
        # What is left of the simulated threads is not joined.
    os._exit(0)


def _run(scenario: Scenario, folder: Path) -> tuple[Records, list[str]]:
    from tests.simulation.actions import Action, Kind
    from tests.simulation.actors import Actors
    from tests.simulation.data_world import ProgramsWithData
    from tests.simulation.ledger import Ledger
    from tests.simulation.real_records import Normalizer, names_of_images, read_records
    from tests.simulation.real_round import wait_until_steady, watch_while
    from tests.simulation.real_scenarios import COMMANDS, Doing, RealStep
    from tests.simulation.world import NAME, Log, World, reference_of

    # No seed of a long run: its agent sweeps more seldom.
    world = World(4 * scenario.number + 1, folder)
    world.shapes, world.declared = scenario.shapes, dict(scenario.environment)
    if scenario.has_data:
        world.engine.programs = ProgramsWithData(world.engine, random.Random(scenario.number))
    ledger = Ledger(world)
    log = logging.getLogger("roas")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [Log(world)]
    actors = Actors(world, ledger)
    kinds = {
        Doing.STOP_BY_HAND: Kind.STOP_BY_HAND,
        Doing.START_BY_HAND: Kind.START_BY_HAND,
        Doing.KILL_BY_HAND: Kind.KILL_BY_HAND,
        Doing.PAUSE_BY_HAND: Kind.PAUSE_CONTAINER,
        Doing.UNPAUSE_BY_HAND: Kind.UNPAUSE_CONTAINER,
        Doing.CRASH: Kind.CRASH,
        Doing.UNHEALTHY: Kind.UNHEALTHY,
    }

    async def is_steady() -> bool:
        return all(not container.is_up or container.health != "starting" for container in world.containers())

    async def do(step: RealStep) -> None:
        world.note("step", str(step))
        if step.version is not None:
            world.publish(step.version)
        if step.doing.is_operation:
            run = world.begin(str(step.doing), COMMANDS[step.doing])
        else:
            action = Action(0.0, kinds[step.doing], step.service)
            run = world.begin("agent", lambda: watch_while(NAME, lambda: actors.do(action), is_steady))
        await run.ended.wait()
        world.note("step", f"{step.doing} ended: {run.error or 'well'}")
        if not step.doing.is_operation and run.error is not None:
            raise run.error
        await wait_until_steady(is_steady)

    async def all_of_it() -> Records:
        for version in scenario.first:
            world.publish(version)
        world.write_files()
        for step in scenario.steps:
            await do(step)
        return await actors.ask(lambda: read_records(NAME))

    records = world.loop.run_until_complete(all_of_it())
    names: dict[str, str] = {}
    for version in scenario.versions:
        names |= names_of_images((version.image_id,), version)
    names |= {reference_of(shape.name): f"<image of {shape.name}>" for shape in world.shapes}
    names |= {f"registry.example/{shape.name}": f"<repository of {shape.name}>" for shape in world.shapes}
    names |= {str(folder): "<folder>", "unix:///simulated.sock": "<engine>"}
    return Normalizer(names).apply(records), [str(line) for line in world.timeline]


if __name__ == "__main__":
    sys.exit(main())
