"""Functions that tests call in a process of their own."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
from collections.abc import Iterator

from models.failures import BadInputError


def count() -> Iterator[int]:
    """The process's id, and then numbers without end."""
    yield os.getpid()
    yield from itertools.count()


def refuse(name: str) -> None:
    """Raise what a person can act on."""
    raise BadInputError(f"{name} is not there;", advice="try another.")


def die() -> None:
    """End as one for which there is no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_answering() -> None:
    """End in the middle of an answer, as one whose long answer did not fit into the machine's memory."""
    answers = sys._getframe(1).f_locals["answers"]
    answers.write(pickle.dumps((True, "a long answer"))[:-8])
    answers.flush()
    die()


def fail() -> float:
    """Raise what no person expects."""
    return 1 / 0


def printing() -> int:
    """Print, and return a number."""
    print("not the answer")
    return 5
