"""What a person sees while a flow runs: our own sentences, with the seconds since the command began."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from adapters.host.processes import process_age
from core.common.safe_text import printable

_began = time.monotonic()
_caller: int | None = None
_SENT_WITHIN_SECONDS = 5
_OF_THE_ENGINE = (
    "prefect",
    "prefect.flow_runs",
    "prefect.task_runs",
    "prefect.events.clients",
    "prefect._internal.concurrency",
    "APILogWorker",
    "EventsWorker",
)


def restart_clock(caller: int) -> None:
    """Count the seconds of progress lines from now on: this process was imported before its command began.

    `caller` is the process that a user started for the command.
    """
    global _began, _caller
    _began, _caller = time.monotonic(), caller


def command_began() -> float:
    """When the user started the command, by the monotonic clock."""
    try:
        return time.monotonic() - process_age(_caller or os.getpid())
    except (OSError, ValueError):
        return _began


def shows_live() -> bool:
    """Whether progress goes to a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def echo(text: str, *, err: bool = False) -> None:
    """Print text that is no markup; what a terminal would obey in it is made visible. Nothing else prints it."""
    click.echo(printable(text), err=err)  # noqa: TID251 - the one place


def echo_json(value: object, *, indent: int | None = None, default: Callable[[Any], Any] = str) -> None:
    """Print a value as one JSON document in ASCII, in which every other character is escaped."""
    # The JSON module leaves DEL as it is.
    text = json.dumps(value, indent=indent, default=default).replace("\x7f", r"\u007f")
    click.echo(text)  # noqa: TID251 - what `printable` writes is no JSON


def narrate(sentence: str, colour: str | None = None) -> None:
    """Print one line of progress on standard error, so that standard output stays the result."""
    began = click.style(f"{time.monotonic() - _began:6.1f} s  ", dim=True)
    styled = began + click.style(printable(sentence), fg=colour)
    color = False if os.environ.get("NO_COLOR") else None
    # Named, since click would go around a live display, which stands in for the stream to print above itself.
    click.echo(styled, sys.stderr, err=True, color=color)  # noqa: TID251 - made printable


def send_log() -> None:
    """Wait until the engine's API has every line of the log and every event; its server may end right after.

    What is not sent by then is dropped: the end of the process would try each event for seconds, one after the other,
    at a server that is gone.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    workers: dict[int, Any] = dict(getattr(EventsWorker, "_instances", {}))
    EventsWorker.drain_all(timeout=_SENT_WITHIN_SECONDS)
    APILogWorker.drain_all(timeout=_SENT_WITHIN_SECONDS)
    with suppress(AttributeError):
        for worker in workers.values():
            _drop_unsent(worker)


def _drop_unsent(worker: Any) -> None:
    """Prefect has no way to do this; its own classes are read only as long as they have what is needed."""
    if worker._done_event is None or worker._done_event.is_set():
        return
    for name in ("prefect._internal.concurrency", "prefect.events.clients"):
        logging.getLogger(name).disabled = True
    with worker._queue.mutex:
        worker._queue.queue.clear()
    worker._queue.put_nowait(None)


@contextmanager
def speak_plainly(*, quiet: bool = False, level: int = logging.INFO) -> Iterator[logging.Handler]:
    """Show our own log as progress, from a level on, and only the engine's errors. Give the handler that prints it.

    The engine's log of every task run is on its server, where the UI shows it.
    """
    ours = _Narrator(level=level)
    # A line that cannot be sent or printed must not show its traceback among ours (logging.raiseExceptions).
    logging.raiseExceptions = False
    log = logging.getLogger("roas")
    log.setLevel(logging.INFO)
    if not quiet:
        log.addHandler(ours)
    levels = {name: logging.getLogger(name).level for name in _OF_THE_ENGINE}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Prefect puts its console handler on extra loggers too; ours would then be printed twice.
    consoles = [handler for handler in log.handlers if type(handler).__name__ == "PrefectConsoleHandler"]
    for handler in consoles:
        log.removeHandler(handler)
    propagated, log.propagate = log.propagate, False
    try:
        yield ours
    finally:
        log.propagate = propagated
        log.removeHandler(ours)
        for handler in consoles:
            log.addHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class _Narrator(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        colour = {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno)
        # The reader may have ended (`roas start 2>&1 | head`): that must not end the operation.
        with suppress(OSError):
            narrate(record.getMessage(), colour)
