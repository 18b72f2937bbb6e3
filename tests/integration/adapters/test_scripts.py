"""Recovery scripts as real programs: who they run as, what they see, and how they end."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.host.scripts import find_script, run_script
from models.failures import BadInputError, ScriptFailedError

PATIENT = timedelta(seconds=20)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a script as somebody else")

Write = Callable[[str], Path]


@pytest.fixture
def write() -> Iterator[Write]:
    """Writes a script into a folder that others can read, as deployments/recovery is."""
    with tempfile.TemporaryDirectory(prefix="roas-scripts-") as folder:
        Path(folder).chmod(0o755)

        def write(text: str) -> Path:
            (Path(folder) / "it").write_text(text)
            (Path(folder) / "it").chmod(0o755)
            return find_script(Path(folder), "it")

        yield write


@needs_root
def test_a_script_runs_as_nobody_without_the_groups_of_root(write: Write) -> None:
    said = run_script(write("#!/bin/sh\nid -un; id -G | wc -w"), {}, limit=PATIENT, user="nobody")
    assert said.split() == ["nobody", "1"]


@needs_root
def test_a_script_whose_user_is_unknown_is_not_run(write: Write) -> None:
    with pytest.raises(BadInputError, match="cannot be run"):
        run_script(write("#!/bin/sh\n"), {}, limit=PATIENT, user="no-such-user")


def test_a_script_sees_what_it_is_reported_and_nothing_of_this_process(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of this process")
    said = run_script(
        write("#!/bin/sh\nenv; echo $#"), {"ROAS_SERVICE": "$(id) `id`; id"}, limit=PATIENT, user="nobody"
    )
    assert {"ROAS_SERVICE=$(id) `id`; id", "0"} <= set(said.splitlines())
    assert "SECRET" not in said


def test_no_shell_runs_what_is_no_program(write: Write) -> None:
    with pytest.raises(BadInputError, match="cannot be run"):
        run_script(write("echo without a first line that names a program\n"), {}, limit=PATIENT, user="nobody")


def test_a_script_that_does_not_end_in_time_is_killed_with_all_it_started(write: Write) -> None:
    script = write("#!/bin/sh\necho begun; trap '' TERM; sleep 600 & echo $!; wait")
    with pytest.raises(ScriptFailedError, match=r"did not end within 2 s: begun") as failed:
        run_script(script, {}, limit=timedelta(seconds=2), user="nobody")
    child = int(str(failed.value).split()[-1])
    deadline = time.monotonic() + 300
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failed_script_is_reported_with_its_exit_code_and_last_output(write: Write) -> None:
    with pytest.raises(ScriptFailedError, match="ended with exit code 4: no"):
        run_script(write("#!/bin/sh\necho no; exit 4"), {}, limit=PATIENT, user="nobody")


def test_a_script_that_others_may_change_is_refused(write: Write) -> None:
    script = write("#!/bin/sh\n")
    script.chmod(0o775)
    with pytest.raises(BadInputError, match="may be changed by other users"):
        find_script(script.parent, script.name)
    script.chmod(0o755)
    script.parent.chmod(0o777)
    with pytest.raises(BadInputError, match="may be changed by other users"):
        find_script(script.parent, script.name)


@pytest.mark.parametrize(
    ("name", "because"),
    [
        (f"../{Path(__file__).name}", "lies outside of"),
        ("OUTSIDE", "lies outside of"),
        ("link", "lies outside of"),
        ("folder/outside", "lies outside of"),
        (".", "lies outside of"),
        ("it; ../outside", "is not a program"),
        ("$(../outside)", "is not a program"),
        ("", "lies outside of"),
    ],
)
def test_only_a_program_of_the_folder_is_found(write: Write, tmp_path: Path, name: str, because: str) -> None:
    home = write("#!/bin/sh\n").parent
    (tmp_path / "outside").write_text("#!/bin/sh\n")
    (tmp_path / "outside").chmod(0o755)
    (home / "link").symlink_to(tmp_path / "outside")
    (home / "folder").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(BadInputError, match=because):
        find_script(home, name.replace("OUTSIDE", f"{tmp_path}/outside"))


def _lives(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    stat = Path("/proc", str(process), "stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_fifo_or_a_device_is_no_recovery_script(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.mkfifo(tmp_path / "fifo", 0o755)
    (tmp_path / "fifo").chmod(0o755)
    for name in ("fifo", "/dev/zero"):
        with pytest.raises(BadInputError):
            find_script(tmp_path, name)
