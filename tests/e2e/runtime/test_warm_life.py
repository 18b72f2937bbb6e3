"""When a warm process comes and goes, and whom it answers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.runtime.conftest import PROGRAM, ROOT, WarmUser, eventually, is_gone

_PACKAGES = ("adapters", "cli", "core", "flows", "models", "patterns", "tasks", "tests/e2e/runtime")
ROAS = [sys.executable, "-P", "-c", "from cli.entry import main; main()"]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}


@pytest.fixture
def checkout(user: WarmUser, tmp_path: Path) -> Path:
    """A copy of the program whose files a test may change."""
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("tests", "tests/e2e"):
        (tmp_path / package / "__init__.py").touch()
    user.root = tmp_path
    return tmp_path


def test_first_command_leaves_a_warm_process_that_runs_the_next(user: WarmUser, folders: dict[str, str]) -> None:
    cold = user.run("history", command=ROAS, variables=folders)
    assert cold.returncode == 0
    process = user.wait()
    threads = [one.name for one in Path(f"/proc/{process}/task").iterdir()]
    assert threads == [str(process)]
    opened = []
    for one in Path(f"/proc/{process}/fd").iterdir():
        # The connection by which we waited closes at about this time.
        with suppress(FileNotFoundError):
            opened.append(os.readlink(one))  # noqa: PTH115
    assert opened
    assert not [path for path in opened if ".db" in path or path.startswith("anon_inode")]
    for words in (
        ("history",),
        ("status", "--json"),
        ("tickets",),
        ("why",),
        ("--help",),
        ("start", "nowhere"),
        ("nonsense",),
    ):
        there, here = (user.run(*words, command=ROAS, variables=folders | more) for more in ({}, {"ROAS_WARM": "0"}))
        assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
        assert there.stderr.splitlines()[-1:] == here.stderr.splitlines()[-1:]
    assert user.processes() == [process]


def test_commands_at_once_leave_one_warm_process(user: WarmUser) -> None:
    running = [user.start("parent") for _ in range(6)]
    for one in running:
        assert one.communicate()[0].split()
        assert one.returncode == 0
    process = user.wait()
    eventually(lambda: user.processes() == [process], "the others have gone")
    assert user.run("parent").stdout.split()[1] == str(process)


@pytest.mark.campaign
def test_warm_process_ends_when_it_is_idle(user: WarmUser) -> None:
    process = user.leave(idle="1")
    eventually(lambda: is_gone(process), "it ends")
    assert not list((user.runtime / "roas").glob("*.sock*"))


@pytest.mark.campaign
def test_idle_warm_process_waits_for_its_commands(user: WarmUser, tmp_path: Path) -> None:
    process = user.leave(idle="1")
    running = user.start("waits", str(tmp_path / "log"))
    assert running.stdout is not None
    running.stdout.readline()
    assert user.run("exits", "3").returncode == 3
    running.terminate()
    assert running.wait(60) == -signal.SIGTERM
    eventually(lambda: is_gone(process), "it ends")


@pytest.mark.campaign
def test_changed_code_is_run_by_a_new_process(user: WarmUser, checkout: Path) -> None:
    old = user.leave()
    assert user.run("parent").stdout.split()[1] == str(old)
    with (checkout / "core" / "__init__.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    assert user.run("parent").stdout.split()[1] == str(os.getpid())
    eventually(lambda: is_gone(old), "the old one ends")
    assert user.wait() != old


def test_only_a_warm_process_that_runs_nothing_is_ended_before_others_where_memory_runs_out(user: WarmUser) -> None:
    own = Path("/proc/self/oom_score_adj").read_text().strip()
    score = Path(f"/proc/{user.leave()}/oom_score_adj")

    assert int(score.read_text()) == min(1000, int(own) + 300)
    assert user.run("oom_score").stdout.split() == [own, own]
    eventually(lambda: int(score.read_text()) > int(own), "it runs nothing")
    expendable = user.run("oom_score", command=["choom", "-n", "600", "--", *PROGRAM])
    assert expendable.stdout.split() == ["600", own], "a command keeps the score that it was given"


@pytest.mark.campaign
def test_removed_and_new_files_are_changes_too(user: WarmUser, checkout: Path) -> None:
    added = checkout / "core" / "added.py"
    for change in (added.touch, added.unlink, (checkout / "patterns" / "words.yaml").touch):
        old = user.leave()
        change()
        assert user.run("parent").stdout.split()[1] == str(os.getpid())
        eventually(lambda old=old: is_gone(old), "the old one ends")
        # What the command left behind has imported everything, which takes long.
        eventually(lambda: _ended(user), "it is ended")


def _ended(user: WarmUser) -> bool:
    for process in user.processes():
        os.kill(process, signal.SIGKILL)
    return not user.processes()


@pytest.mark.campaign
def test_old_process_serves_its_commands_to_their_end(user: WarmUser, checkout: Path, tmp_path: Path) -> None:
    old = user.leave()
    running = user.start("waits", str(tmp_path / "log"))
    assert running.stdout is not None
    running.stdout.readline()
    (checkout / "core" / "added.py").touch()
    user.run("parent")
    running.send_signal(signal.SIGUSR1)
    assert running.wait(60) == -signal.SIGUSR1
    eventually(lambda: is_gone(old), "the old one ends")


@pytest.mark.campaign
def test_nothing_is_left_where_it_is_switched_off(user: WarmUser) -> None:
    for value in ("0",):
        assert user.run("parent", variables={"ROAS_WARM": value}).returncode == 0
    assert not list(user.runtime.iterdir())
    assert not user.processes()


def test_switched_off_command_does_not_use_it(user: WarmUser) -> None:
    user.leave()
    assert user.run("parent", variables={"ROAS_WARM": "0"}).stdout.split()[1] == str(os.getpid())


@pytest.mark.parametrize("spoil", ["open", "link"])
def test_folder_that_others_may_use_is_not_used(user: WarmUser, tmp_path: Path, spoil: str) -> None:
    folder = tmp_path / f"roas-{os.geteuid()}"
    if spoil == "open":
        folder.mkdir(mode=0o777)
        folder.chmod(0o755)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    variables = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}
    assert user.run("parent", variables=variables).stdout.split()[1] == str(os.getpid())
    assert not list(folder.iterdir())


@pytest.mark.campaign
def test_folder_of_its_own_is_made_where_the_system_gives_none(user: WarmUser, tmp_path: Path) -> None:
    user.variables = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(user.runtime)}
    tmp_path.chmod(0o755)
    assert user.run("parent").returncode == 0
    made = user.runtime / f"roas-{os.geteuid()}"
    assert made.stat().st_mode & 0o777 == 0o700
    eventually(lambda: list(made.glob("*.lock")), "a warm process starts")
    for process in eventually(lambda: _with_folder(made), "it runs"):
        os.kill(process, signal.SIGKILL)


def _with_folder(folder: Path) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"{folder}/"], capture_output=True, text=True, check=False)
    return [int(one) for one in found.stdout.split()]


@pytest.mark.campaign
def test_socket_path_that_is_too_long_is_not_used(user: WarmUser) -> None:
    deep = user.runtime / ("d" * 100)
    deep.mkdir(mode=0o700)
    assert user.run("parent", variables={"XDG_RUNTIME_DIR": str(deep)}).stdout.split()[1] == str(os.getpid())
    assert not list(deep.glob("roas/*"))


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONOPTIMIZE": "1"},
        pytest.param({"PYTHONHASHSEED": "7"}, marks=pytest.mark.campaign),
        pytest.param({"PYTHONUTF8": "1"}, marks=pytest.mark.campaign),
    ],
)
def test_command_of_another_interpreter_setting_is_not_run_there(user: WarmUser, variables: dict[str, str]) -> None:
    process = user.leave()
    assert user.run("parent", variables=variables).stdout.split()[1] != str(process)
    assert user.run("parent").stdout.split()[1] == str(process)


@pytest.mark.campaign
def test_command_of_a_parent_in_the_c_locale_is_run_there(user: WarmUser) -> None:
    user.variables = {"LANG": "", "LC_ALL": "", "LC_CTYPE": ""}
    process = user.leave()
    # Python sets it for the children of such a process.
    assert user.run("parent", variables={"LC_CTYPE": "C.UTF-8"}).stdout.split()[1] == str(process)


@pytest.mark.campaign
def test_command_that_starts_no_thread_finds_none(user: WarmUser) -> None:
    user.leave("numpy", "sqlalchemy")
    assert '"threads": 1' in user.run("facts").stdout


@pytest.mark.campaign
def test_module_that_starts_a_thread_is_refused(user: WarmUser, tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    user.variables = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    cold = [sys.executable, "-P", "-m", "tests.e2e.runtime.programs"]
    user.run("leave", "60", "threaded", command=cold).check_returncode()
    eventually(
        lambda: "has started a thread" in "".join(one.read_text() for one in user.runtime.glob("roas/*.log")),
        "it says so",
    )
    eventually(lambda: not user.processes(), "it ends")
    assert user.run("parent", command=PROGRAM).stdout.split()[1] == str(os.getpid())
