"""A package mirror whose first answers fail: dropped, cut off or never sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FlakyMirror:
    """A running mirror: `failed` and `served` count its answers by path.

    The first requests for a package meet the failures in order; the first request for an index meets the first one.
    """

    port: int
    failures: tuple[str, ...]
    failed: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failures_of(self, path: str) -> tuple[str, ...]:
        """Return the failures that the first requests for this path meet."""
        return self.failures if path.endswith((".deb", ".whl")) else self.failures[:1]

    def next_failure(self, path: str) -> str | None:
        """Return the failure that this request meets, or None once all have happened to its path."""
        with self.lock:
            number = self.failed[path]
            if number < len(self.failures_of(path)):
                self.failed[path] += 1
                return self.failures[number]
            self.served[path] += 1
            return None


class _MirrorHandler(SimpleHTTPRequestHandler):
    def __init__(self, mirror: FlakyMirror, folder: Path, *arguments: object) -> None:
        self.mirror = mirror
        super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        match self.mirror.next_failure(self.path):
            case "drop":
                self.close_connection = True
            case "stall":
                self.mirror.closing.wait(600)
                self.close_connection = True
            case "cut":
                if content := self.send_head():
                    with content:
                        self.wfile.write(content.read(40))
                self.close_connection = True
            case _:
                super().do_GET()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def flaky_mirror(folder: Path, *failures: str) -> Iterator[FlakyMirror]:
    """Serve a folder, with failures at first: drop (no answer), cut (half of it) or stall (silence)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: _MirrorHandler(mirror, folder, *arguments))
    mirror = FlakyMirror(port=server.server_port, failures=failures)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
    thread.start()
    try:
        yield mirror
    finally:
        mirror.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
