"""`python -m tests.simulation.real_simulated NUMBER ...`: run scenarios in the simulated world, print their records.

Without numbers it reads them from standard input. The records of each are a line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.real_records import Records
    from tests.simulation.real_scenarios import Scenario


def main() -> int:
    """Run each scenario in a fork: nothing undoes a simulated world."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.real_simulated", description=__doc__)
    parser.add_argument("numbers", type=int, nargs="*")
    parser.add_argument("--timeline", action="store_true", help="print what happened instead")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ |= {"PYTHONHASHSEED": "0", "PREFECT_PROFILES_PATH": os.devnull}
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.real_simulated", *sys.argv[1:]])
    from tests.simulation import installed

    # Before any other module of ours: some keep functions of the clock.
    installed.import_product()
    with tempfile.TemporaryDirectory(prefix="roas-simulation-") as name:
        installed.make_template(Path(name, "template"))
        gc.freeze()
        return max(
            (_in_fork(number, Path(name), timeline=chosen.timeline) for number in chosen.numbers or _asked()), default=0
        )


def _asked() -> Iterable[int]:
    for line in sys.stdin:
        yield int(line)


def _in_fork(number: int, folder: Path, *, timeline: bool) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        from tests.simulation.real_scenarios import draw_scenario

        code = 0
        try:
            own = folder / str(os.getpid())
            shutil.copytree(folder / "template", own / "data")
            records, lines = _run(draw_scenario(number), own)
            print("\n".join(lines) if timeline else json.dumps(records), flush=True)
        except BaseException:  # noqa: BLE001 - this process ends here
            print(json.dumps({"failed": [{"why": traceback.format_exc()}]}), flush=True)
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(scenario: Scenario, folder: Path) -> tuple[Records, list[str]]:
    from tests.simulation.actions import Action, Kind
    from tests.simulation.actors import Actors
    from tests.simulation.data_world import ProgramsWithData
    from tests.simulation.ledger import Ledger
    from tests.simulation.real_records import Normalizer, names_of_images, read_containers, read_records
    from tests.simulation.real_round import wait_until_steady, watch_while
    from tests.simulation.real_scenarios import COMMANDS, Doing, RealStep
    from tests.simulation.world import ADDRESS, NAME, Log, World, reference_of

    kinds = {
        Doing.STOP_BY_HAND: Kind.STOP_BY_HAND,
        Doing.START_BY_HAND: Kind.START_BY_HAND,
        Doing.KILL_BY_HAND: Kind.KILL_BY_HAND,
        Doing.PAUSE_BY_HAND: Kind.PAUSE_CONTAINER,
        Doing.UNPAUSE_BY_HAND: Kind.UNPAUSE_CONTAINER,
        Doing.CRASH: Kind.CRASH,
        Doing.UNHEALTHY: Kind.UNHEALTHY,
    }
    # No seed of a long run: its agent sweeps more seldom.
    world = World(4 * scenario.number + 1, folder)
    world.shapes, world.declared = scenario.shapes, dict(scenario.environment)
    if scenario.has_data:
        world.engine.programs = ProgramsWithData(world.engine, random.Random(scenario.number))
    log = logging.getLogger("roas")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [Log(world)]
    actors = Actors(world, Ledger(world))

    async def is_steady() -> bool:
        return all(not container.is_up or container.health != "starting" for container in world.containers())

    async def do(step: RealStep) -> None:
        world.note("step", str(step))
        if step.version is not None:
            world.publish(step.version)
        if step.doing in COMMANDS:
            run = world.begin(str(step.doing), COMMANDS[step.doing])
        else:
            action = Action(0.0, kinds[step.doing], step.service)
            run = world.begin("agent", lambda: watch_while(NAME, lambda: actors.do(action), is_steady))
        await run.ended.wait()
        world.note("step", f"{step.doing} ended: {run.error or 'well'}")
        if step.doing not in COMMANDS and run.error is not None:
            raise run.error
        await wait_until_steady(is_steady)

    async def all_of_it() -> Records:
        for version in scenario.first:
            world.publish(version)
        world.write_files()
        for step in scenario.steps:
            await do(step)
        run = world.begin("reader", lambda: read_containers(NAME))
        await run.ended.wait()
        records: Records = await actors.ask(lambda: read_records(NAME))
        return records | run.result

    records = world.loop.run_until_complete(all_of_it())
    names = {str(folder): "<folder>", ADDRESS: "<engine>"}
    for version in scenario.versions:
        names |= names_of_images((version.image_id,), version)
    for shape in world.shapes:
        reference = reference_of(shape.name)
        names |= {reference: f"<image of {shape.name}>", reference.rpartition(":")[0]: f"<repository of {shape.name}>"}
    return Normalizer(names).apply(records), [str(line) for line in world.timeline]


if __name__ == "__main__":
    sys.exit(main())
