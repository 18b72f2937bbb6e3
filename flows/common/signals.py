"""End at a SIGTERM: cancel the operation, let it settle, then let the signal take its usual effect."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_RUN_BY_A_RUNNER = "PREFECT__FLOW_RUN_ID"
"""Set where a runner started this process: it then sends the signal, and wants the engine's own handler there."""

_running_bodies: set[asyncio.Task[Any]] = set()
"""The task that is cancelled: of several flows in one process, the first."""


@contextmanager
def end_by_sigterm() -> Iterator[None]:
    """Cancel the current task at a SIGTERM, and let the signal go on once the body has ended.

    The engine's own handler raises wherever the program is at that moment: in a callback of the event loop
    it would be lost, and the operation would continue.
    """
    body, loop = asyncio.current_task(), asyncio.get_running_loop()
    of_another = _RUN_BY_A_RUNNER in os.environ or threading.current_thread() is not threading.main_thread()
    if body is None or of_another or _running_bodies:
        yield
        return
    signal_received = False

    def end() -> None:
        nonlocal signal_received
        signal_received = True
        body.cancel()

    earlier = signal.getsignal(signal.SIGTERM)
    loop.add_signal_handler(signal.SIGTERM, end)
    _running_bodies.add(body)
    try:
        yield
    finally:
        _running_bodies.discard(body)
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, earlier)
        if signal_received:
            signal.raise_signal(signal.SIGTERM)
