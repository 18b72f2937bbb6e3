"""`roas top` in a real terminal, on a real engine."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden.conftest import HERE
from tests.support.agents import ROOT
from tests.support.docker_command import docker_command
from tests.support.projects import remove_project

pytestmark = [pytest.mark.engine]

LEFT_THE_SCREEN, CURSOR_SHOWN = b"\x1b[?1049l", b"\x1b[?25h"
EVERY_SECONDS = "0.5"
WITHIN_SECONDS = 300


class TopTerminal:
    """A terminal in which `roas top` runs, with all that it wrote."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.master)
        self.written = b""
        folders = {"ROAS_DATA_DIR": str(folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(folder)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COLUMNS", "LINES"))}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from cli.entry import main; main()", "top", "shop", *options],
            stdin=slave, stdout=slave, stderr=slave, cwd=folder, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=kept | folders | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        os.close(slave)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def read(self, seconds: float) -> bool:
        """Take over what was written since; False once the program has closed the terminal."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        try:
            self.written += os.read(self.master, 65536) if ready else b""
        except OSError:
            return False
        return True

    def wait_for(self, pattern: str, since: int = 0) -> int:
        """Read until what was written after a place matches; where that ends."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while time.monotonic() < deadline:
            is_open = self.read(0.2)
            text = plain(self.written[since:])
            if re.search(pattern, text):
                return len(self.written)
            assert is_open, text
        raise AssertionError(f"{pattern} did not show: {plain(self.written[since:])[-3000:]}")

    def end(self) -> int:
        """Read until the program has ended; its exit code."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            self.read(0.1)
        while self.read(0.1) and select.select([self.master], [], [], 0.1)[0]:
            pass
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


def plain(written: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode(errors="replace"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[str]:
    """The application `shop`, running under a project name of its own."""
    name = f"shop{secrets.token_hex(3)}"
    shutil.copytree(HERE / "shop", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "shop.yaml"
    file.write_text(file.read_text().replace("project: shop", f"project: {name}"))
    compose = ["docker", "compose", "-p", name, "-f", str(tmp_path / "shop" / "compose.yaml")]
    subprocess.run([*compose, "up", "-d", "--wait"], check=True, capture_output=True)
    yield name
    remove_project(name)


@pytest.fixture
def terminal(tmp_path: Path, project: str) -> Iterator[TopTerminal]:
    made = TopTerminal(tmp_path, "--every", EVERY_SECONDS)
    yield made
    made.close()


def test_it_shows_a_killed_service_and_ends_at_q(terminal: TopTerminal, project: str) -> None:
    place = terminal.wait_for(r"web +running +healthy")
    docker_command("kill", f"{project}-web-1")
    place = terminal.wait_for(r"web +exited \(137\) +stopped", place)
    terminal.press(b"x")
    terminal.resize(120, 30)
    terminal.wait_for(r" {40,}\d\d:\d\d:\d\d UTC", place)

    terminal.press(b"q")

    assert terminal.end() == 0
    assert terminal.written.rindex(LEFT_THE_SCREEN) > terminal.written.rindex(b"UTC")
    assert CURSOR_SHOWN in terminal.written[terminal.written.rindex(b"UTC") :]
    assert termios.tcgetattr(terminal.master) == terminal.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.campaign
def test_a_signal_restores_the_terminal(terminal: TopTerminal, number: signal.Signals) -> None:
    terminal.wait_for(r"db +running")

    terminal.process.send_signal(number)

    assert terminal.end() == 0
    assert LEFT_THE_SCREEN in terminal.written
    assert termios.tcgetattr(terminal.master) == terminal.before


@pytest.mark.campaign
def test_ctrl_c_ends_it_though_the_engine_does_not_answer(tmp_path: Path) -> None:
    shutil.copytree(HERE / "shop", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "shop.yaml"
    file.write_text(file.read_text() + "engine: unix:///nosuch/docker.sock\n")
    terminal = TopTerminal(tmp_path, "--every", EVERY_SECONDS)
    try:
        terminal.wait_for("unix:///nosuch/docker.sock did not answer")
        terminal.press(b"\x03")

        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.master) == terminal.before
    finally:
        terminal.close()


def test_without_a_terminal_it_prints_one_frame(tmp_path: Path, project: str) -> None:
    folders = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from cli.entry import main; main()", "top", "shop"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, cwd=tmp_path,
        env=os.environ | folders | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert re.search(r"(?m)^web +running +healthy", done.stdout)
    assert "nothing is collected; roas serve is not running" in done.stdout
    assert "\x1b" not in done.stdout
