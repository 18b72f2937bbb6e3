"""Small programs that tests run warm and cold: python -m cli.entry tests.e2e.runtime.programs NAME ARGUMENT ..."""

from __future__ import annotations

import getpass
import json
import locale
import os
import random
import resource
import signal
import ssl
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from adapters.host.warm_client import leave_warm_process

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCHLD)


def facts(*_words: str) -> None:
    """Print what a program can learn of its process and must find the same wherever it runs."""
    found: dict[str, Any] = {
        "arguments": sys.argv[1:],
        "variables": dict(os.environ),
        "folder": _folder(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_NOFILE", "RLIMIT_CORE")},
        "processors": sorted(os.sched_getaffinity(0)),
        "nice": os.nice(0),
        "oom_score": _oom_score("self"),
        "signals": {number.name: str(signal.getsignal(number)) for number in SIGNALS},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "streams": [
            (one.name, one.encoding, one.errors, one.line_buffering, one.write_through, one.newlines, one.isatty())
            for one in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "path": sys.path,
        "locale": locale.setlocale(locale.LC_CTYPE),
        "zone": time.tzname,
        "descriptors": sorted(int(one.name) for one in Path("/proc/self/fd").iterdir() if _is_inherited(int(one.name))),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "said": sys.stdin.read(),
    }
    print(json.dumps(found, sort_keys=True, indent=1))


def oom_score() -> None:
    """Print which score this process has, and the one that forked it."""
    print(_oom_score("self"), _oom_score(str(os.getppid())))


def _oom_score(process: str) -> str:
    return Path(f"/proc/{process}/oom_score_adj").read_text().strip()


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError as error:
        return f"{type(error).__name__} {Path('/proc/self/cwd').readlink()}"


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def parent() -> None:
    """Print the ids of this process and of its parent."""
    print(os.getpid(), os.getppid())


def exits(how: str) -> None:
    """End in one of the ways in which a process ends."""
    print("out")
    match how:
        case "text":
            sys.exit("an explanation")
        case "error":
            raise ValueError("nobody catches this")
        case "interrupt":
            raise KeyboardInterrupt
        case "thread":
            import threading

            threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
        case "atexit":
            import atexit

            atexit.register(print, "atexit")
        case _ if how.startswith("signal "):
            os.kill(os.getpid(), int(how.removeprefix("signal ")))
            time.sleep(60)
        case _:
            sys.exit(int(how))


def randoms() -> None:
    """Print numbers that must differ from process to process."""
    import numpy as np

    print(random.random(), np.random.random(), uuid.uuid4(), ssl.RAND_bytes(16).hex(), sep="\n")


def waits(log: str, *ignored: str) -> None:
    """Write each signal into a file until killed; end at those that are not ignored, as an operation does."""
    path = Path(log)

    def note(number: int, _frame: object) -> None:
        with path.open("a") as file:
            file.write(f"{signal.Signals(number).name}\n")
        if signal.Signals(number).name not in ignored:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, note)
    with path.open("a") as file:
        file.write(f"began {os.getpid()}\n")
    print("waiting", flush=True)
    while True:
        time.sleep(60)


def counts(log: str) -> None:
    """Append a line, to show how often this has run."""
    with Path(log).open("a") as file:
        file.write("ran\n")


def columns() -> None:
    """Print the terminal's width, now and whenever it changes."""
    signal.signal(signal.SIGWINCH, lambda *_: print(os.get_terminal_size(1).columns, flush=True))
    print(os.get_terminal_size(1).columns, flush=True)
    while True:
        time.sleep(60)


def reads() -> None:
    """Print a line that was typed, and another one that the terminal did not show."""
    first = input("first? ")
    second = getpass.getpass("second? ")
    print(f"read {first.upper()} {second.upper()}", flush=True)


def leave(seconds: str, *modules: str) -> None:
    """Leave a warm process that has imported little, so that it is there at once."""
    leave_warm_process(modules, idle_seconds=float(seconds))


def uses_server(idle_seconds: str) -> None:
    """Use a Prefect API as a command does, print its address, and go on until standard input ends."""
    from flows.server import embedded
    from models.settings import current_settings

    embedded.IDLE_SECONDS = float(idle_seconds)  # type: ignore[misc]
    with embedded.prefect_api(current_settings()) as timeout:
        embedded.wait_for_api(timeout)
        print(os.environ["PREFECT_API_URL"], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
