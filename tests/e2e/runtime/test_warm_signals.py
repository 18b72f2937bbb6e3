"""Signals, job control and death: of the command's caller, of the command, and of the warm process."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.runtime.conftest import PROGRAM, WarmUser, eventually, is_gone

_STATUS_OF_A_LOST_COMMAND = 1


@dataclass
class Terminal:
    """A program that runs on a terminal of its own, as the foreground job of a session of its own."""

    process: int
    screen: int
    shown: str = ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def see(self, text: str, within: float = 300) -> None:
        deadline = time.monotonic() + within
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} was not shown, but {self.shown!r}"
            self.shown += os.read(self.screen, 4096).decode()

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait(self, options: int = 0) -> int:
        return os.waitpid(self.process, options)[1]


@pytest.fixture
def terminal(warm: WarmUser) -> Iterator[Terminal]:
    """A terminal with a program that tests replace: `sh`, whose job is the command."""
    screen, process = -1, 0

    def start(*words: str) -> Terminal:
        nonlocal screen, process
        process, screen = pty.fork()
        if process == 0:
            # A session's leader is never stopped, so the job is a group of its own, as a shell does it.
            job = os.fork()
            if job == 0:
                os.setpgid(0, 0)
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
                os.tcsetpgrp(0, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                os.execve(PROGRAM[0], [*PROGRAM, *words], warm.environment())
            _be_the_shell(job)
        return Terminal(process, screen)

    yield start  # type: ignore[misc]
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    os.close(screen)


def _be_the_shell(job: int) -> None:
    """Continue the job when it stops, after saying so; end as it ends."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    while True:
        _, status = os.waitpid(job, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        os.tcsetpgrp(0, os.getpgrp())
        os.write(1, f"stopped {os.WSTOPSIG(status)}\n".encode())
        os.read(0, 1)
        os.tcsetpgrp(0, job)
        os.killpg(job, signal.SIGCONT)


def _begun(log: Path) -> int:
    """The process id that the program `waits` wrote when it began."""

    def written() -> str:
        return log.read_text() if log.exists() else ""

    return int(eventually(lambda: "\n" in written() and written(), "the program begins").split()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signal_reaches_the_command_and_ends_its_caller(warm: WarmUser, tmp_path: Path, number: int) -> None:
    log = tmp_path / "log"
    running = warm.start("waits", str(log))
    process = _begun(log)
    running.send_signal(number)
    assert running.wait(60) == -number
    assert log.read_text().splitlines()[1:] == [signal.Signals(number).name]
    assert is_gone(process)


def test_ignored_signal_stays_ignored(warm: WarmUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = warm.start("waits", str(log), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    _begun(log)
    running.send_signal(signal.SIGHUP)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == -signal.SIGTERM
    assert "SIGHUP" not in log.read_text()


def test_ctrl_c_interrupts_the_command(terminal, tmp_path: Path) -> None:
    shown = terminal("waits", str(tmp_path / "log"))
    shown.see("waiting")
    shown.type("\x03")
    shown.see(f"ended -{int(signal.SIGINT)}")
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["SIGINT"]


def test_ctrl_z_stops_the_command_until_it_is_continued(terminal, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shown = terminal("waits", str(log))
    shown.see("waiting")
    process = _begun(log)
    for _ in range(3):
        shown.shown = ""
        shown.type("\x1a")
        shown.see(f"stopped {int(signal.SIGTSTP)}")
        assert "\nState:\tT" in Path(f"/proc/{process}/status").read_text()
        shown.type("\n")
        eventually(lambda: "\nState:\tT" not in Path(f"/proc/{process}/status").read_text(), "it continues")
    shown.type("\x03")
    shown.see(f"ended -{int(signal.SIGINT)}")


def test_command_learns_that_the_terminal_changed_its_size(terminal) -> None:
    shown = terminal("columns")
    shown.see("\n")
    for columns in (40, 132):
        shown.resize(columns)
        shown.see(f"{columns}\r\n")
    shown.type("\x1c")
    shown.see(f"ended -{int(signal.SIGQUIT)}")


def test_command_asks_on_the_terminal_and_hides_what_it_must(terminal) -> None:
    shown = terminal("reads")
    shown.see("first? ")
    shown.type("one\n")
    shown.see("second? ")
    shown.type("two\n")
    shown.see("read ONE TWO")
    assert "two" not in shown.shown
    shown.see("ended 0")


def test_closed_terminal_hangs_the_command_up(warm: WarmUser, terminal, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shown = terminal("waits", str(log))
    shown.see("waiting")
    process = _begun(log)
    os.kill(shown.process, signal.SIGKILL)
    eventually(lambda: is_gone(process), "the command ends")
    # The shell's death hangs the terminal up and, a moment later, ends what cli.entry runs: a busy machine tells both.
    assert log.read_text().splitlines()[1:] in (["SIGHUP"], ["SIGTERM"])


def test_job_in_the_background_reads_the_terminal_itself(warm: WarmUser) -> None:
    """Only the kernel can stop such a job at its read, and only if it belongs to the terminal's session."""
    process, screen = pty.fork()
    if process == 0:
        command = ["bash", "-mc", '"$@" & wait', "bash", *PROGRAM, "parent"]
        os.execvpe("bash", command, warm.environment())
    shown = Terminal(process, screen)
    shown.see("\n")
    assert int(shown.shown.split()[1]) != warm.wait()
    shown.wait()
    os.close(screen)


@pytest.mark.campaign
def test_command_ends_when_its_caller_is_killed(warm: WarmUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = warm.start("waits", str(log))
    process = _begun(log)
    running.kill()
    eventually(lambda: is_gone(process), "the command ends")
    assert log.read_text().splitlines()[1:] == ["SIGTERM"]


@pytest.mark.campaign
def test_command_that_ignores_this_is_killed(warm: WarmUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = warm.start("waits", str(log), "SIGTERM")
    process = _begun(log)
    running.kill()
    eventually(lambda: is_gone(process), "the command is killed")
    assert log.read_text().splitlines()[1:] == ["SIGTERM"]


@pytest.mark.campaign
def test_stopped_command_ends_when_its_caller_is_killed(warm: WarmUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = warm.start("waits", str(log))
    process = _begun(log)
    os.kill(process, signal.SIGSTOP)
    eventually(lambda: "\nState:\tT" in Path(f"/proc/{running.pid}/status").read_text(), "the caller stops too")
    running.kill()
    eventually(lambda: is_gone(process), "the command ends")


@pytest.mark.campaign
def test_command_ends_with_the_warm_process_and_says_so(user: WarmUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    warm_process = user.leave()
    running = user.start("waits", str(log), stderr=subprocess.PIPE)
    process = _begun(log)
    os.kill(warm_process, signal.SIGKILL)
    assert running.wait(60) == _STATUS_OF_A_LOST_COMMAND
    assert running.stderr is not None
    assert "The warm process ended, and this command with it" in running.stderr.read()
    eventually(lambda: is_gone(process), "the command is gone")
    assert log.read_text().splitlines()[1:] == ["SIGTERM"]


@pytest.mark.campaign
def test_command_starts_cold_after_the_warm_process_was_killed(user: WarmUser) -> None:
    first = user.leave()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: is_gone(first), "it is gone")
    answered = user.run("parent")
    assert answered.stdout.split()[1] == str(os.getpid())
    assert answered.stderr == ""
    assert user.wait() != first


@pytest.mark.campaign
def test_command_runs_once_where_the_warm_process_does_not_answer(user: WarmUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = user.leave()
    os.kill(process, signal.SIGSTOP)
    assert user.run("counts", str(log)).returncode == 0
    os.kill(process, signal.SIGCONT)
    assert user.run("parent").stdout.split()[1] == str(process)
    assert log.read_text() == "ran\n"
