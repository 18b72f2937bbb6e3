"""Run simulations each in a fork of a process that has imported the product: nothing of one reaches another."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.simulation.actions import Action
from tests.simulation.run import Report, simulate

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where folders of simulations are: on a disk each commit would wait for it."""
SELDOM = (20_000, 50, 100)
"""A simulation ends soon, so that to look for cycles as often as usual takes a tenth of its time."""


def in_fork(
    seed: int, actions: Sequence[Action], template: Path | None, change: Callable[[], None] = lambda: None
) -> Report:
    """Run a simulation in a fork, with copies of the stores in `template`.

    `change` is called first: it puts a deliberate fault into the product.
    """
    reader, writer = os.pipe()
    folder = Path(tempfile.mkdtemp(prefix="roas-simulation-", dir=MEMORY))
    if template is not None:
        shutil.copytree(template, folder / "data")
    child = os.fork()
    if child == 0:
        os.close(reader)
        gc.set_threshold(*SELDOM)
        try:
            change()
            answer: object = simulate(seed, actions, folder)
        except BaseException:  # noqa: BLE001 - the parent raises it
            answer = traceback.format_exc()
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        sys.stdout.flush()
        os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            answer = pickle.load(pipe)
    finally:
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
    if not isinstance(answer, Report):
        raise RuntimeError(f"simulation of seed {seed} broke off:\n{answer}")
    return answer
