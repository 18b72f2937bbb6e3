"""Run one simulation to its end or to the first sentence that does not hold."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.actions import CYCLE, Action
from tests.simulation.actors import Actors
from tests.simulation.ledger import Ledger
from tests.simulation.world import Log, World


@dataclass(frozen=True, slots=True)
class Report:
    """How a simulation went."""

    seed: int
    hours: float
    processor_seconds: float
    operations: int
    sentence: str = ""
    what: str = ""
    timeline: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all sentences held."""
        return not self.sentence

    @property
    def digest(self) -> str:
        """The same where each event happened at the same moment."""
        return hashlib.sha256("\n".join(self.timeline).encode()).hexdigest()[:12]


def simulate(seed: int, actions: Sequence[Action], folder: Path) -> Report:
    """Let all this happen in a new world. For a process of its own."""
    began = time.process_time()
    world = World(seed, folder)
    ledger = Ledger(world)
    log = logging.getLogger("roas")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [Log(world)]
    actors = Actors(world, ledger)

    async def all_of_it() -> None:
        actors.begin()
        for action in actions:
            await asyncio.sleep(max(0.0, action.at - world.clock.seconds))
            await actors.do(action)
        await asyncio.sleep(CYCLE / 20)

    # What goes on after the first finding shows nothing more.
    ledger.on_failure = world.loop.stop
    work = world.loop.create_task(all_of_it())
    work.add_done_callback(lambda _: world.loop.stop())
    world.loop.run_forever()
    failed = ledger.failed
    if failed is None:
        work.result()
    return Report(
        seed=seed,
        hours=world.clock.seconds / 3600,
        processor_seconds=time.process_time() - began,
        operations=ledger.operations,
        sentence=failed.sentence.name if failed is not None else "",
        what=str(failed) if failed is not None else "",
        timeline=tuple(map(str, world.timeline)),
    )
