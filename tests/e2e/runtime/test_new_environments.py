"""`roas serve` outside of a checkout: what becomes known later is served, and a killed one begins its watch again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
WITHIN_SECONDS = 300
COMPOSE = "services: {web: {image: debian:trixie-slim, command: [sleep, infinity]}}\n"


def application(home: Path, name: str) -> Path:
    folder = home / name
    folder.mkdir(parents=True)
    (folder / "compose.yaml").write_text(COMPOSE)
    return folder


def variables(home: Path, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_", "XDG_"))}
    places = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_RUNTIME_DIR": str(home)}
    return kept | places | {"ROAS_SERVER_PORT": str(port), "PYTHONPATH": str(ROOT)}


def roas(*words: str, cwd: Path, known: dict[str, str]) -> None:
    program = [sys.executable, "-P", "-c", "from cli.main import main; main()", *words]
    subprocess.run(program, cwd=cwd, env=known | {"ROAS_WARM": "0"}, check=True, capture_output=True)


@contextmanager
def serving(home: Path, known: dict[str, str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`roas serve` in the home folder, in a session of its own that is ended with it."""
    with output.open("wb") as file:
        program = [sys.executable, "-P", "-c", "from cli.main import main; main()", "serve"]
        running = subprocess.Popen(
            program, cwd=home, env=known, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(30)
            finally:
                end_session(running.pid)


def end_session(leader: int) -> None:
    """Kill what is left of a session, as a service manager does."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == leader:
                    os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def wait_for(text: str, output: Path, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while text not in (said := output.read_text()):
        assert running.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.5)


@pytest.mark.flow
@pytest.mark.engine
@pytest.mark.campaign
def test_an_environment_that_becomes_known_later_is_watched(tmp_path: Path) -> None:
    known = variables(tmp_path, free_port())
    roas("init", cwd=application(tmp_path, "first-served"), known=known)
    output = tmp_path / "serve.log"
    with serving(tmp_path, known, output) as running:
        wait_for("watching first-served", output, running)
        roas("init", cwd=application(tmp_path, "second-served"), known=known)
        wait_for("watching second-served", output, running)
        running.kill()
        running.wait()
        end_session(running.pid)
    again = tmp_path / "again.log"
    with serving(tmp_path, known, again) as running:
        # The schedule alone would begin them in up to a quarter of an hour.
        for name in ("first-served", "second-served"):
            wait_for(f"watching {name}", again, running)
