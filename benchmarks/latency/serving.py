"""`roas serve` in a child process, with folders and a port of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.prefect_server import ask

SERVE = (sys.executable, "-P", "-c", "from cli.entry import main; main()", "serve")
_BEGINS_WITHIN_SECONDS = 240
_ENDS_WITHIN_SECONDS = 20
_WATCHED = "watching "


@dataclass(frozen=True, slots=True, kw_only=True)
class UiServer:
    """A Prefect server with a runner or worker beside it."""

    url: str
    auth_string: str
    data: Path | None
    """The data folder of its runs, where it can be read."""

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """What its API answers: to a question, or about one thing."""
        return ask(self.url, self.auth_string, path, question)


@contextmanager
def served(
    folder: Path, environments: int, variables: Mapping[str, str] | None = None, command: tuple[str, ...] = SERVE
) -> Iterator[tuple[UiServer, subprocess.Popen[bytes]]]:
    """Serve the environments of this process's folders, from when all of them are watched."""
    port, log = free_port(), folder / "serve.log"
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "XDG_RUNTIME_DIR": f"{folder}/run", "ROAS_SERVER_PORT": str(port), **(variables or {})}
    data = Path(os.environ["ROAS_DATA_DIR"])
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + _BEGINS_WITHIN_SECONDS
        while log.read_text(errors="replace").count(_WATCHED) < environments:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace"))
            time.sleep(0.5)
        yield _server(port, data), process
    finally:
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            print("`roas serve` did not end within", _ENDS_WITHIN_SECONDS, "s")


def _server(port: int, data: Path) -> UiServer:
    auth_string = (data / "prefect" / "auth_string").read_text().strip()
    return UiServer(url=f"http://127.0.0.1:{port}/api", auth_string=auth_string, data=data)
