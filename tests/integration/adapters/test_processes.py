"""Liveness of real processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

from adapters.host.processes import is_alive, kill_marked, process_started, this_process
from models.operations import Runner

CHILD = """
from adapters.host.processes import this_process
runner = this_process()
print(runner.host, runner.kernel, runner.pid, runner.process_started, sep="|", flush=True)
input()
"""


def child() -> tuple[subprocess.Popen[str], Runner]:
    """A process that ends on request, and its own identity."""
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    host, kernel, pid, started = process.stdout.readline().strip().split("|")
    return process, Runner(host=host, kernel=kernel, pid=int(pid), process_started=int(started))


def test_this_process_is_alive_and_always_the_same() -> None:
    assert is_alive(this_process("7")) is True
    assert this_process("7") == this_process("7")
    assert this_process().pid == os.getpid()


def test_another_process_is_alive_until_it_is_killed_and_a_zombie_is_dead() -> None:
    process, runner = child()
    with process:
        assert is_alive(runner) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(runner) is False
    assert is_alive(runner) is False


def test_a_number_used_again_is_not_the_process_that_had_it() -> None:
    mine = this_process()
    assert is_alive(replace(mine, process_started=mine.process_started - 1)) is False


def test_a_process_of_another_machine_or_boot_cannot_be_reported() -> None:
    assert is_alive(replace(this_process(), kernel="another")) is None
    assert is_alive(replace(this_process(), kernel="")) is None


def test_the_first_process_of_the_machine_is_alive_for_any_user() -> None:
    started = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])  # noqa: PTH123, SIM115
    assert is_alive(replace(this_process(), pid=1, process_started=started)) is True


def test_processes_are_killed_by_their_variables_with_their_children() -> None:
    marks = {"ROAS_HOOK": "migrate", "ROAS_DEPLOYMENT_ID": f"test-{os.getpid()}"}
    script = "sleep 300 & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", script], env=marks, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert kill_marked(marks | {"ROAS_DEPLOYMENT_ID": "another"}) == 0
        assert kill_marked(marks) == 2
        assert parent.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while process_started(child) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
