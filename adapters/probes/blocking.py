"""Clients that wait for their server without end: they end with the probe's time, in a thread or not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from adapters.probes.addresses import Address
from adapters.probes.outcome import ProbeFailed

Answer = TypeVar("Answer")

_GRACE_SECONDS = 1.0


async def run_blocking(work: Callable[[socket.socket], Answer], place: Address, timeout_seconds: float) -> Answer:
    """Run a blocking client in a thread, on a connection that is broken when the probe's time is over.

    `work` owns the connection, and closes it.

    Raises:
        ProbeFailed: There is no connection.
    """
    try:
        connection = await asyncio.to_thread(
            socket.create_connection, (place.host, place.port), timeout=timeout_seconds
        )
    except TimeoutError:
        raise
    except OSError as error:
        raise ProbeFailed(f"connection to {place} failed: {error.strerror or error}") from error
    with connection.dup() as handle:
        return await finish_or_break(asyncio.create_task(asyncio.to_thread(work, connection)), handle)


async def finish_or_break(running: asyncio.Task[Answer], connection: socket.socket) -> Answer:
    """Wait for a client; cancelled, break its connection first, which also ends one that waits in a thread."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({running}, timeout=_GRACE_SECONDS)
        if not running.done():
            running.cancel()
        elif not running.cancelled():
            # Without this the loop reports an error that no caller awaits.
            running.exception()
        raise
