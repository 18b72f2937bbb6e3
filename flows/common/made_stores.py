"""Make or upgrade the stores in a process that ends, so that a process that stays does not carry what that takes."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from contextlib import suppress

from adapters.stores.migrate import HEADS, file_revision
from models.failures import RoasError
from models.settings import Settings

_WITHIN_SECONDS = 20.0


def make_stores(settings: Settings) -> None:
    """Make the stores of a data folder, or upgrade them, where needed; this process must have one thread still.

    Whatever fails is left to the next opening, which reports it. Stores in PostgreSQL are left alone.
    """
    if settings.stores_url is not None or _are_current(settings):
        return
    process = os.fork()
    if process == 0:
        _make(settings)
    ended = os.pidfd_open(process)
    try:
        if not select.select([ended], [], [], _WITHIN_SECONDS)[0]:
            # A store is upgraded completely or not at all, and the next opening waits for its turn itself.
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    finally:
        os.close(ended)


def _are_current(settings: Settings) -> bool:
    try:
        return all(file_revision(settings.store_path(store)) == head for store, head in HEADS.items())
    except OSError:
        return False


def _make(settings: Settings) -> None:
    """In the fork: open the stores once, and end."""
    from adapters.stores import Stores

    try:
        with suppress(RoasError):
            Stores.open(settings).close()
    except BaseException:  # noqa: BLE001 - nothing of the process that it was forked from may run here
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)
