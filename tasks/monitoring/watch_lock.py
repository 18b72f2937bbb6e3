"""Who watches an environment on this host: one process at a time, by a lock that ends with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from adapters.host.local_lock import LocalLock
from adapters.host.processes import this_process
from models.settings import current_settings

AGENT = "the agent"

_TRIES = 2
_PAUSE_SECONDS = 0.02


@contextmanager
def watching_alone(environment: str, who: str) -> Iterator[str | None]:
    """Be the only watch of an environment on this host while the body runs; yields None, or who watches it already."""
    lock = _lock(environment)
    holder = f"{who} on {this_process().host} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC (process {os.getpid()})"
    other = lock.take(holder)
    for _ in range(_TRIES if other is not None else 0):
        # Who asks for the holder has the lock for a moment.
        time.sleep(_PAUSE_SECONDS)
        if (other := lock.take(holder)) is None:
            break
    try:
        yield other
    finally:
        lock.release()


def watcher_of(environment: str) -> str | None:
    """Who watches an environment on this host, and since when; None where no process does."""
    return _lock(environment).holder()


def agent_that_watches(environment: str) -> str | None:
    """The agent of this host where it watches the environment; else None."""
    holder = watcher_of(environment)
    return holder if holder is not None and holder.startswith(AGENT) else None


def _lock(environment: str) -> LocalLock:
    # No environment has a dot in its name, so no other lock has this one's.
    return LocalLock(current_settings().data_dir.absolute() / "held" / f"{environment}.watch.lock")
