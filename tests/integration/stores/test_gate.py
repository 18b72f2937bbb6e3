"""One writer at a time, and none passes the next one, whatever dies, stops or deletes the lock file meanwhile."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.stores.gate import Gate
from models.failures import StoreBusyError

_NEXT = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gate.lock"


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def has_next(path: Path) -> bool:
    """Whether one of those that wait is the next."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _NEXT)
        except BlockingIOError:
            return True
    return False


def stands_still(process: subprocess.Popen[str]) -> bool:
    """Whether each of its threads has come to its stop, and can win no lock any more."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(one.read_text().rpartition(") ")[2][0] == "T" for one in threads)


def hold(path: Path, name: str, came: list[str], leave: threading.Event | None = None) -> threading.Thread:
    """Hold a gate of one's own in another thread, until told to leave it."""

    def work() -> None:
        with Gate(path).hold(60, name):
            came.append(name)
            if leave is not None:
                leave.wait(60)

    thread = threading.Thread(target=work, name=name)
    thread.start()
    return thread


@contextlib.contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that wants the gate and says so once it has it."""
    code = (
        "import sys; from pathlib import Path; from adapters.stores.gate import Gate\n"
        f"with Gate(Path({str(path)!r})).hold(60, 'other'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_all_that_wait_are_let_in(path: Path) -> None:
    came: list[str] = []
    with Gate(path).hold(1, "first"):
        threads = [hold(path, str(place), came) for place in range(8)]
        until(lambda: has_next(path))
    for thread in threads:
        thread.join()
    assert sorted(came) == [str(place) for place in range(8)]


def test_one_that_comes_back_at_once_does_not_pass_the_next(path: Path) -> None:
    came: list[str] = []
    leave = threading.Event()
    gate = Gate(path)
    with gate.hold(1, "first"):
        thread = hold(path, "second", came, leave)
        until(lambda: has_next(path))
    with pytest.raises(StoreBusyError), gate.hold(0, "first again"):
        pass
    leave.set()
    thread.join()
    with gate.hold(1, "first again"):
        assert came == ["second"]


def test_one_that_is_stopped_while_it_waits_does_not_stop_those_behind_it(path: Path) -> None:
    came: list[str] = []
    with other_process(path) as stopped:
        with Gate(path).hold(1, "first"):
            until(lambda: has_next(path))
            stopped.send_signal(signal.SIGSTOP)
            until(lambda: stands_still(stopped))
            behind = hold(path, "behind", came)
        behind.join(60)
        assert came == ["behind"]
        stopped.send_signal(signal.SIGCONT)
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "held\n"


def test_one_that_is_killed_while_it_waits_leaves_its_place(path: Path) -> None:
    came: list[str] = []
    with other_process(path) as killed, Gate(path).hold(1, "first"):
        until(lambda: has_next(path))
        behind = hold(path, "behind", came)
        killed.kill()
        killed.wait()
    behind.join(60)
    assert came == ["behind"]


def test_one_that_gave_up_leaves_its_place(path: Path) -> None:
    came: list[str] = []
    with Gate(path).hold(1, "first"):
        with pytest.raises(StoreBusyError), Gate(path).hold(0.05, "hasty"):
            pass
        behind = hold(path, "behind", came)
    behind.join(60)
    assert came == ["behind"]


def test_a_deleted_lock_file_lets_nobody_in_beside_whoever_locked_the_next(path: Path) -> None:
    came: list[str] = []
    leave = threading.Event()
    with Gate(path).hold(1, "first"):
        waited = hold(path, "waited", came)
        until(lambda: has_next(path))
        path.unlink()
        next_file = hold(path, "next file", came, leave)
        until(lambda: came == ["next file"])
    # A writer that waited at the deleted file is let in there, finds it deleted, and queues at the next one.
    until(lambda: has_next(path))
    assert came == ["next file"]
    leave.set()
    for thread in (waited, next_file):
        thread.join()
    assert came == ["next file", "waited"]


def test_a_number_is_found_by_the_next_holder_and_unknown_in_a_new_file(path: Path) -> None:
    gate = Gate(path)
    with gate.hold(1, "first"):
        assert gate.read_number() is None
        gate.leave_number(7)
    with Gate(path).hold(1, "second"):
        pass
    with gate.hold(1, "third"):
        assert gate.read_number() == 7


def test_a_child_forked_while_another_thread_waits_does_not_keep_its_place(path: Path) -> None:
    came: list[str] = []
    with Gate(path).hold(1, "first"):
        waiting = hold(path, "waiting", came)
        until(lambda: has_next(path))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(0)
    waiting.join(60)
    with Gate(path).hold(1, "last"):
        came.append("last")
    os.write(writer, b"x")
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert came == ["waiting", "last"]
