"""The process of `roas worker`: it carries the agent, and ends or is restarted as its supervisor expects."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from adapters.host.processes import this_process
from adapters.host.systemd import ServiceManager
from flows.common.memory import TRIM_EVERY_SECONDS, TRIM_FIRST_SECONDS, give_back, spare_memory
from flows.common.terminal import echo
from models.settings import Settings, current_settings

if TYPE_CHECKING:
    from flows.agent.agent import Agent

log = logging.getLogger("roas")

_ALL_ENDS_WITHIN_SECONDS = 6.5
"""From the signal on: then this process ends, whatever still hangs."""

_BEATS_EVERY_SECONDS = 5.0
_HANGS_AFTER_SECONDS = 60.0
"""Nothing blocks the event loop so long but a defect, and a machine that stood still has its time back by then."""

HUNG = 70
"""Exit code of a process whose event loop hung (EX_SOFTWARE)."""


def run_agent(settings: Settings, pool: str | None = None, *, with_health: bool = False) -> None:
    """Watch all environments of this host until SIGTERM or Ctrl-C, and end this process.

    With a `pool` take flow runs from it too; `with_health`: its worker answers whether it does.
    """
    manager = ServiceManager()
    spare_memory()
    # A server that no setting names must not be started for an event.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Its own lines belong to no flow run, and Prefect would warn of each.
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    from flows.agent.agent import Agent
    from flows.agent.prefect_worker import PrefectWorker
    from flows.common.made_stores import make_stores
    from flows.server.engine_settings import take_settings_over

    # The process that this one may be forked from was imported with other variables.
    take_settings_over()
    # The collector writes into every object that it looks at, and a fork shares only memory that is not written to.
    gc.collect()
    gc.freeze()
    _log_plainly()
    echo(f"agent of this host starting; records in {settings.data_dir.absolute()}", err=True)
    make_stores(settings)
    worker = PrefectWorker(pool, this_process().host, with_health) if pool is not None else None
    if worker is not None:
        worker.fork()
    asyncio.run(_run(Agent(worker=worker), manager))
    # The interpreter's own end waits for threads that hang in a call.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


async def _run(agent: Agent, manager: ServiceManager) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        if not stop.is_set():
            log.info("ending; operations that run are left to be resumed")
            manager.notify_stopping()
            threading.Thread(target=_end_by_force, daemon=True).start()
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    beating = asyncio.create_task(_beat(manager))
    manager.ready()
    try:
        await agent.run(stop)
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _beat(manager: ServiceManager) -> None:
    """Show that the event loop turns: to systemd, and to a thread that ends the process where it no longer does."""
    beat_at = [time.monotonic()]
    threading.Thread(target=_end_where_it_hangs, args=(beat_at,), daemon=True, name="loop-guard").start()
    loop, trim_at = asyncio.get_running_loop(), time.monotonic() + TRIM_FIRST_SECONDS
    every = min(_BEATS_EVERY_SECONDS, (manager.watchdog_seconds or _BEATS_EVERY_SECONDS * 2) / 2)
    while True:
        beat_at[0] = time.monotonic()
        manager.alive()
        if time.monotonic() >= trim_at:
            trim_at = time.monotonic() + TRIM_EVERY_SECONDS
            loop.run_in_executor(None, give_back)
        await asyncio.sleep(every)


def _end_where_it_hangs(beat_at: list[float]) -> None:
    checked_at = time.monotonic()
    while True:
        time.sleep(_BEATS_EVERY_SECONDS)
        now = time.monotonic()
        # This thread stands still with the machine.
        stood_still, checked_at = now - checked_at > 2 * _BEATS_EVERY_SECONDS, now
        if now - beat_at[0] > _HANGS_AFTER_SECONDS and not stood_still:
            sys.stderr.write(
                f"the event loop hung for {now - beat_at[0]:.0f} s; this process ends to be started anew\n"
            )
            faulthandler.dump_traceback(all_threads=True)
            os._exit(HUNG)


def _end_by_force() -> None:
    time.sleep(_ALL_ENDS_WITHIN_SECONDS)
    os._exit(0)


def _log_plainly() -> None:
    """Write our own log to standard error, each line with its environment; of Prefect's only errors."""
    log.handlers[:] = [_LineHandler()]
    log.setLevel(logging.INFO)
    log.propagate = False
    for name in ("prefect", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tasks.runtime.fair_threads import current_environment

        name = current_environment()
        about = f"{name}: " if name else ""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        # The reader of the log may have ended; that must not end the watching.
        with suppress(OSError, ValueError):
            echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {about}{level}{text}", err=True)


if __name__ == "__main__":
    run_agent(current_settings())
