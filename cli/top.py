"""`roas top`: an environment live on one screen."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.options import Number, application_options, as_json
from cli.run_flow import show_answer

if TYPE_CHECKING:
    from models.live import LiveView

_KEYS_THAT_END = b"qQ\x03\x04"
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@click.command()
@application_options
@click.option(
    "--every", "seconds", type=Number(0.5, 3600), default=2.0, show_default=True, metavar="SECONDS", help="How often."
)
@click.option("--once", is_flag=True, help="Print one frame and end, as without a terminal.")
@as_json
def top(name: str, compose: list[str] | None, seconds: float, once: bool, json_wanted: bool) -> None:
    """Show an environment live: services, operation, alerts, recoveries and the next forecast; q ends it.

    It reads the engine and the record, and changes nothing.
    """
    from tasks.reporting.live import LiveReader
    from tasks.runtime.project import open_project

    reader = LiveReader(open_project(name, tuple(compose or ())))
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    if once or json_wanted or not is_terminal:
        show_answer(reader.read(), json_wanted, _print_frame)
        return
    _show_live(reader.read, seconds)


def _print_frame(view: LiveView) -> None:
    from cli.rendering.console import console
    from cli.rendering.top import frame

    console().print(frame(view, console().width), soft_wrap=False, no_wrap=True, overflow="ignore", crop=False)


def _show_live(read: Callable[[], LiveView], seconds: float) -> None:
    """Show what `read` returns until a key or a signal ends it; the terminal is then as it was."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from cli.rendering.top import frame

    console = Console(highlight=False, markup=False, emoji=False)
    reader = _Reader(read, seconds)
    live = Live(Text("reading ..."), console=console, screen=True, auto_refresh=False)
    with _keys_unbuffered(), _wake_by_signals() as wakened, reader, live:
        live.refresh()
        while True:
            ready, _, _ = select.select([sys.stdin, wakened, reader.news], [], [])
            if sys.stdin in ready:
                keys = os.read(sys.stdin.fileno(), 1024)
                # Nothing is read where the terminal was closed.
                if not keys or any(key in _KEYS_THAT_END for key in keys):
                    return
            if wakened in ready and set(os.read(wakened, 1024)) & set(_ENDING):
                return
            if reader.news in ready:
                os.read(reader.news, 1024)
            if (view := reader.latest()) is not None:
                live.update(frame(view, console.width, console.height), refresh=True)


class _Reader:
    """Reads in a thread, again and again; `news` is a pipe with a byte for each result.

    A slow engine then holds up neither a key nor the end.
    """

    def __init__(self, read: Callable[[], LiveView], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self.news, self._tell = os.pipe()
        self._ended = threading.Event()
        self._view: LiveView | None = None
        self._error: Exception | None = None

    def __enter__(self) -> _Reader:
        threading.Thread(target=self._run, name="top", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def latest(self) -> LiveView | None:
        """The last view; None before the first.

        Raises:
            Exception: Whatever ended the reading.
        """
        if self._error is not None:
            raise self._error
        return self._view

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._view = self._read()
            except Exception as error:  # noqa: BLE001 - `latest` raises it in the command
                self._error = error
                self._ended.set()
            os.write(self._tell, b"\0")
            self._ended.wait(self._seconds)


@contextmanager
def _keys_unbuffered() -> Iterator[None]:
    """Let each key reach the program at once and unseen; Ctrl-C and Ctrl-Z are keys then."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    changed = termios.tcgetattr(descriptor)
    changed[3] &= ~termios.ISIG
    termios.tcsetattr(descriptor, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


@contextmanager
def _wake_by_signals() -> Iterator[int]:
    """A pipe with the number of each signal: a resized terminal, or one that ends the program."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    earlier = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers = {signum: signal.signal(signum, lambda *_: None) for signum in (signal.SIGWINCH, *_ENDING)}
    try:
        yield reading
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(earlier)
        os.close(reading)
        os.close(writing)
