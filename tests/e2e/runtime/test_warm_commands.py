"""A command that runs in the warm process cannot tell the difference, and neither can who started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.runtime.conftest import PROGRAM, ROOT, WarmUser, eventually

COLD = {"ROAS_WARM": "0"}


def test_command_is_forked_from_the_warm_process(warm: WarmUser) -> None:
    process = warm.wait()
    own, parent = warm.run("parent").stdout.split()
    assert int(parent) == process
    assert int(own) not in (process, os.getpid())
    assert warm.run("parent", variables=COLD).stdout.split()[1] == str(os.getpid())


@pytest.mark.parametrize(
    "before",
    [
        "",
        "cd /usr;",
        'mkdir -p "$GONE"; cd "$GONE"; rmdir "$GONE";',
        'rm -rf "$GONE"*; mkdir "$GONE"; cd "$GONE"; mv "$GONE" "$GONE.renamed";',
        "ulimit -S -n 123; ulimit -S -c 0;",
        "ulimit -n 234;",
        "trap '' INT HUP;",
        "export LC_ALL=C; unset PYTHONUTF8;",
        "export LC_ALL=C.UTF-8;",
        "export PYTHONUNBUFFERED=1;",
        "export PYTHONIOENCODING=latin-1:backslashreplace;",
        "export TZ=Asia/Kathmandu;",
        "export EMPTY= NOT_UTF8=$'\\xff'; unset HOME;",
        "export FULL=$(head -c 120000 /dev/zero | tr '\\0' x); export MORE=$FULL AND=$FULL THEN=$FULL;",
    ],
)
def test_command_finds_its_process_as_without_the_warm_process(warm: WarmUser, tmp_path: Path, before: str) -> None:
    gone = {"GONE": str(tmp_path / "gone")}
    shell = ["bash", "-c", f'{before} "$@"', "bash", *PROGRAM, "facts", "one", "zwei drei", "\u00e4", ""]
    there, here = (warm.run(command=shell, input="said", cwd=tmp_path, variables=gone | more) for more in ({}, COLD))
    found, expected = json.loads(there.stdout), json.loads(here.stdout)
    del expected["variables"]["ROAS_WARM"]
    assert found == expected
    assert found["threads"] == 1
    assert there.stderr == here.stderr


def test_command_has_the_processors_of_its_caller(warm: WarmUser) -> None:
    one = {min(os.sched_getaffinity(0))}
    found = warm.run("facts", preexec_fn=lambda: os.sched_setaffinity(0, one))
    assert json.loads(found.stdout)["processors"] == sorted(one)
    assert len(json.loads(warm.run("facts").stdout)["processors"]) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "how",
    ["0", "3", "255", "256", "-1", "text", "error", "interrupt", "thread", "atexit"]
    + [f"signal {number}" for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1)],
)
def test_command_ends_as_without_the_warm_process(warm: WarmUser, how: str) -> None:
    there, here = (warm.run("exits", how, variables=more) for more in ({}, COLD))
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
    # The frames above the program's own differ.
    assert there.stderr.splitlines()[-1:] == here.stderr.splitlines()[-1:]


def test_random_numbers_differ_from_fork_to_fork(warm: WarmUser) -> None:
    first, second, third = (warm.run("randoms").stdout.split() for _ in range(3))
    assert len(first) == 4
    assert all(len({*numbers}) == 3 for numbers in zip(first, second, third, strict=True))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_stream_is_closed_for_the_command(warm: WarmUser, closed: str) -> None:
    shell = ["bash", "-c", f'"$@" {closed}', "bash", *PROGRAM, "parent"]
    there, here = (warm.run(command=shell, variables=more) for more in ({}, COLD))
    assert there.returncode == here.returncode
    assert bool(there.stdout) == bool(here.stdout)


@pytest.mark.parametrize("name", ["/dev/fd/7", "--file=/dev/fd/7", "/proc/self/fd/7"])
def test_descriptor_of_the_caller_is_read_by_its_name(warm: WarmUser, tmp_path: Path, name: str) -> None:
    (tmp_path / "given").write_text("given")
    read = "import pathlib, sys; print(pathlib.Path(sys.argv[-1].partition('=')[2] or sys.argv[-1]).read_text())"
    (tmp_path / "reader.py").write_text(read)
    shell = ["bash", "-c", '"$@" 7<given', "bash", *PROGRAM[:-1], "reader", name]
    found = warm.run(command=shell, cwd=tmp_path, variables={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert found.stdout == "given\n", found.stderr


def test_files_keep_their_mode(warm: WarmUser, tmp_path: Path) -> None:
    for name, more in (("there", {}), ("here", COLD)):
        write = "import sys, flows, pathlib; pathlib.Path(sys.argv[1]).write_text('')"
        (tmp_path / "writer.py").write_text(write)
        variables = {"PYTHONPATH": f"{ROOT}:{tmp_path}"} | more
        warm.run(command=[*PROGRAM[:-1], "writer", str(tmp_path / name)], variables=variables).check_returncode()
    assert (tmp_path / "there").stat().st_mode == (tmp_path / "here").stat().st_mode


@pytest.mark.campaign
def test_a_hundred_commands_leave_nothing_in_the_warm_process(user: WarmUser) -> None:
    process = user.leave()
    user.run("parent")

    def held() -> tuple[list[str], list[str]]:
        folder = Path(f"/proc/{process}")
        return sorted(one.name for one in (folder / "fd").iterdir()), (
            folder / "task" / str(process) / "children"
        ).read_text().split()

    def at_rest() -> tuple[list[str], list[str]] | None:
        """What it holds once nothing of the command before is left, which it releases a moment later."""
        first = held()
        time.sleep(0.3)
        return first if held() == first and not first[1] else None

    before = eventually(at_rest, "it is at rest")
    for _ in range(20):
        running = [user.start("parent") for _ in range(5)]
        for one in running:
            assert one.communicate()[0].split()[1] == str(process)
            assert one.returncode == 0
    eventually(lambda: held() == before, "it holds what it held before")


def test_entry_imports_little() -> None:
    ours = "import sys; before = set(sys.modules); import cli.entry; print(*set(sys.modules) - before)"
    found = subprocess.run(
        [sys.executable, "-c", ours], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"click", "pydantic", "typing", "subprocess", "pathlib", "re", "json", "dataclasses", "asyncio", "logging"}
    assert not heavy & set(found)
    assert not [name for name in found if name.startswith(("flows", "tasks", "core", "models", "adapters.stores"))]
