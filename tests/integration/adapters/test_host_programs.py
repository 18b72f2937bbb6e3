"""Programs are run with limits of time and output, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from adapters.host.programs import ProgramResult, ProgramRun, run_to_end
from tests.support.engines import IMAGE


def run(
    *words: str,
    seconds: float = 300,
    most: int = 1000,
    given: bytes = b"",
    stop: int | None = None,
    writes_log: bool = False,
) -> ProgramResult:
    program = ProgramRun(
        words=words,
        variables={"PATH": os.defpath},
        limit_seconds=seconds,
        most_bytes=most,
        given=given,
        writes_log=writes_log,
    )
    return run_to_end(program, stop)


def is_gone(process: int, within_seconds: float = 20) -> bool:
    """Whether a process has ended; one that only its parent does not know yet has. A killed one takes a moment."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_outputs_and_exit_code_are_kept_apart() -> None:
    done = run("sh", "-c", "cat; echo no >&2; exit 3", given=b"yes\xff")
    assert (done.code, done.output, done.out, done.err, done.is_cut) == (3, b"yes\xff", "yes�", "no\n", False)


def test_what_is_printed_is_bounded_and_its_rest_is_dropped() -> None:
    done = run("sh", "-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 4", most=10)
    assert (done.code, len(done.output), len(done.errors), done.is_cut) == (4, 10, 10, True)


def test_a_program_that_prints_too_much_is_ended_where_that_is_wanted() -> None:
    program = ProgramRun(
        words=["yes"], variables={"PATH": os.defpath}, limit_seconds=300, most_bytes=10, stop_when_cut=True
    )
    done = run_to_end(program)
    assert (done.code, done.output, done.is_cut) == (None, b"y\n" * 5, True)


def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "child"
    done = run("sh", "-c", f"sleep 600 & echo $! > {file}; echo begun; wait", seconds=1)
    assert (done.code, done.out) == (None, "begun\n")
    assert is_gone(int(file.read_text()))


def test_children_that_a_program_leaves_are_killed(tmp_path: Path) -> None:
    file = tmp_path / "child"
    assert run("sh", "-c", f"sleep 600 & echo $! > {file}").code == 0
    assert is_gone(int(file.read_text()))


def test_of_a_log_both_outputs_are_one_and_its_last_bytes_are_kept() -> None:
    done = run("sh", "-c", "head -c 3000000 /dev/zero; echo one; echo two >&2; exit 5", most=8, writes_log=True)
    assert (done.code, done.out, done.err, done.is_cut) == (5, "one\ntwo\n", "", True)
    assert not run("echo", "two", most=8, writes_log=True).is_cut


def test_a_log_ends_with_the_last_child_that_writes_it_and_other_children_stay(tmp_path: Path) -> None:
    file = tmp_path / "child"
    script = f"sleep 600 > /dev/null 2>&1 & echo $! > {file}; (sleep 0.3; echo late) &"
    assert run("sh", "-c", script, writes_log=True).out == "late\n"
    child = int(file.read_text())
    try:
        assert not is_gone(child, within_seconds=0.1)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_log_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "child"
    done = run("sh", "-c", f"sleep 600 & echo $! > {file}; echo begun", seconds=1, writes_log=True)
    assert (done.code, done.out) == (None, "begun\n")
    assert is_gone(int(file.read_text()))


def test_a_program_is_killed_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    reader, writer = os.pipe()

    def ask() -> None:
        begun.read_text()
        os.write(writer, b".")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert run("sh", "-c", f"echo > {begun}; exec sleep 600", stop=reader).code is None
    finally:
        asking.join()
        os.close(reader)
        os.close(writer)


def test_a_signal_is_a_negative_code() -> None:
    assert run("sh", "-c", "kill -TERM $$").code == -signal.SIGTERM


def test_no_secret_is_in_what_is_said_of_a_program_or_its_result() -> None:
    program = ProgramRun(
        words=["cat"],
        variables={"TOKEN": "hunter2"},
        limit_seconds=60,
        most_bytes=100,
        given=b"hunter2",
        folder=Path("/"),
    )
    assert "hunter2" not in repr(program) + repr(ProgramResult(code=0, output=b"hunter2", errors=b"hunter2"))


@pytest.mark.parametrize("word", ["/nosuch", "/etc/passwd", "/"])
def test_what_is_no_program_is_refused(word: str) -> None:
    with pytest.raises(OSError, match=r"No such file|Permission denied"):
        run(word)


def test_no_file_stays_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    run(sys.executable, "-c", "")
    with pytest.raises(OSError, match="No such file"):
        run("/nosuch")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.engine
def test_a_kill_of_the_kernel_because_memory_ran_out_is_distinguished_from_another() -> None:
    # The whole container is what runs out: the machine has as much as before.
    limited = ("docker", "run", "--rm", "--memory", "16m", "--memory-swap", "16m", IMAGE)
    eats = run(*limited, "sh", "-c", "exec tail /dev/zero")

    assert (eats.code, eats.memory_ran_out) == (137, True)
    assert eats.ending == "was killed by the kernel, since memory ran out"
    assert run("sh", "-c", "kill -9 $$").ending == "was killed by SIGKILL"
